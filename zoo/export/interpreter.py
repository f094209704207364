"""Running TensorFlow Lite files, those with binary operations among them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ...util.formatting import printable
from ...util.optional import require
from . import sandbox
from .tflite_file import read_tflite


def require_engine() -> None:
    """Raise `ModuleNotFoundError` where the Larq Compute Engine is not installed; the message says how to."""
    require(
        "larq_compute_engine",
        "Binary files need the Larq Compute Engine, which has builds for 64-bit x86 computers only: "
        'pip install ".[export]"',
    )


def open_interpreter(content: bytes, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs a file on one image, in this process.

    The interpreters believe a file, and one that is damaged may end the process: it is for files that were just made.

    Args:
        content: The bytes of the file. With binary operations it runs in the Larq Compute Engine, else in TensorFlow
            Lite.
        threads: How many it uses.

    Returns:
        Maps an image, (1, height, width, channels), to the network's output, (1, ...).

    Raises:
        ValueError: It is not a TensorFlow Lite file, or it cannot be run.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    binary = read_tflite(content).has_binary_operations
    if binary:
        require_engine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow Lite will move to another package in TensorFlow 2.20
        try:
            # TensorFlow Lite checks a file's structure, as the Larq Compute Engine does not.
            interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
            predict = sandbox.engine(content, threads) if binary else sandbox.tensorflow_lite(interpreter)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"The file cannot be run: {printable(error)}") from error

    def checked(image: np.ndarray) -> np.ndarray:
        try:
            return predict(image)
        except RuntimeError as error:
            raise ValueError(f"The file cannot be run: {printable(error)}") from error

    return checked
