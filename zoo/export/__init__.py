"""From a Keras model to a file for a device."""
