"""What runs a stage's epochs: TensorFlow, by ``fit``, or JAX, with the step that TensorFlow has lowered."""
