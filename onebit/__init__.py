"""onebit: a zoo of 1-bit convolutional networks for Keras and Larq.

Larq is built on Keras 2, so importing this package selects it (``TF_USE_LEGACY_KERAS=1``) before TensorFlow is first
imported. Where TensorFlow came first with Keras 3, the import fails with a message that says what to do.
"""

from __future__ import annotations

import os
import sys

__version__ = "0.1.0"


def _select_keras_2() -> None:
    """Choose Keras 2 for ``tf.keras``, or say why that is no longer possible.

    Raises:
        ImportError: TensorFlow was imported earlier in this process and already bound ``tf.keras`` to Keras 3.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    version = tensorflow.keras.__version__
    if version.startswith("3."):
        raise ImportError(
            f"onebit needs Keras 2, but TensorFlow was imported before onebit and uses Keras {version}. "
            "Import onebit before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1 before Python starts."
        )


_select_keras_2()
