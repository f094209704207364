"""onebit: a zoo of 1-bit convolutional networks for Keras and Larq.

Larq is built on Keras 2, so importing this package selects it (``TF_USE_LEGACY_KERAS=1``) before TensorFlow is first
imported. Where TensorFlow came first with Keras 3, the import fails with a message that says what to do.
"""

from __future__ import annotations

import importlib
import os
import sys

__version__ = "0.1.0"


def _select_keras_2() -> None:
    """Choose Keras 2 for ``tf.keras``, or say why that is no longer possible.

    Raises:
        ImportError: TensorFlow was imported earlier in this process, with Keras 3.
    """
    if "tensorflow" in sys.modules:
        # `from tensorflow.keras import ...`, which Larq uses, is settled when TensorFlow is imported; the attribute
        # `tf.keras` only when it is first used. So it is the former that tells whether it is too late.
        keras = importlib.import_module("tensorflow.keras")
        if not keras.layers.Layer.__module__.startswith("tf_keras."):
            raise ImportError(
                f"onebit needs Keras 2, but TensorFlow was imported before onebit and uses Keras {keras.__version__}. "
                "Import onebit before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1 before Python "
                "starts."
            )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


_select_keras_2()
