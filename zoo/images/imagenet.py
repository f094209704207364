"""What ImageNet's classes are called."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ...util.download import keras_fetching


def decode_predictions(probabilities: np.ndarray, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Return the most probable ImageNet classes of each image.

    The list of names is Keras Applications', which fetches it once, to ``~/.keras``.

    Args:
        probabilities: (n, 1000).
        top: How many classes to return, from 1 to 1000.

    Returns:
        For each image, (WordNet identifier, name, probability), the most probable first.

    Raises:
        ValueError: ``probabilities`` has another shape, or ``top`` is out of its range.
        ConnectionError: The list is not there and cannot be fetched.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != 1000:
        raise ValueError(f"probabilities must have the shape (n, 1000), not {probabilities.shape}.")
    if not 1 <= top <= 1000:
        raise ValueError(f"top must lie between 1 and 1000, not {top!r}.")
    with keras_fetching("The names of ImageNet's classes"):
        return tf.keras.applications.imagenet_utils.decode_predictions(probabilities, top=top)
