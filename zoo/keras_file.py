"""Keras' own files of weights: ``.weights.h5``, ``.h5`` and ``.keras``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf


class KerasFile:
    """A file that Keras wrote for the same architecture; only its weights are read, never its configuration."""

    num_classes = None
    has_top = True
    input_shape = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = str(path)
        self.arguments: dict[str, Any] = {}

    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """See `Checkpoint`."""
        before = model.get_weights()
        try:
            model.load_weights(str(self.path))
        except Exception as error:
            model.set_weights(before)
            raise ValueError(f"{self.path} does not fit the model {model.name!r}: {error}") from error
