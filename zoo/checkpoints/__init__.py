"""Between files of weights and a model's variables."""
