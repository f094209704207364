"""What others are told of a model, and how they get it."""
