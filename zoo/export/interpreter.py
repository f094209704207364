"""Running TensorFlow Lite files, those with binary operations among them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ...util.stderr import captured_stderr
from .tflite_file import read_tflite


def require_engine() -> None:
    """Raise `ModuleNotFoundError` where the Larq Compute Engine is not installed; the message says how to."""
    try:
        import larq_compute_engine  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Binary files need the Larq Compute Engine, which has builds for 64-bit x86 computers only: "
            'pip install "onebit-zoo[export]".'
        ) from error


def open_interpreter(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs a file on one image, in one thread.

    Args:
        content: The bytes of the file. With binary operations it runs in the Larq Compute Engine, else in TensorFlow
            Lite.

    Returns:
        Maps an image, (1, height, width, channels), float32, to the network's output, (1, ...).

    Raises:
        ValueError: It is not a TensorFlow Lite file, or it cannot be run.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    binary = any(name.startswith("Lce") for name in read_tflite(content).operations)
    with captured_stderr() as errors:
        try:
            predict = _engine(content) if binary else _tensorflow_lite(content)
        except (RuntimeError, ValueError) as error:
            said = [line.removeprefix("ERROR: ") for line in errors().splitlines() if line.startswith("ERROR")]
            raise ValueError(f"The file cannot be run: {' '.join(said) or error}") from error

    def checked(image: np.ndarray) -> np.ndarray:
        try:
            return predict(image)
        except RuntimeError as error:
            raise ValueError(f"The file cannot be run: {error}") from error

    return checked


def _engine(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    require_engine()
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    _verified(content)
    return Interpreter(content, num_threads=1).predict


def _verified(content: bytes) -> tf.lite.Interpreter:
    """Return TensorFlow Lite's interpreter, which checks a file's structure, as the Larq Compute Engine does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to another package in TensorFlow 2.20
        return tf.lite.Interpreter(model_content=content, num_threads=1)


def _tensorflow_lite(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = _verified(content)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image, images)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return predict


def latency(
    content: bytes, *, runs: int = 50, warm_up: int = 5, progress: Callable[[int], None] | None = None
) -> list[float]:
    """Measure how long a file takes for one image, in one thread.

    Args:
        content: The bytes of a TensorFlow Lite file with a fixed input shape.
        runs: How often to measure.
        warm_up: Runs before the first that is measured.
        progress: Called with 1 after each measured run.

    Returns:
        Seconds, one number for each run.

    Raises:
        ValueError: It is not a TensorFlow Lite file, or it cannot be run.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    predict, file = open_interpreter(content), read_tflite(content)
    image = np.random.default_rng(0).standard_normal(file.input_shape).astype(np.float32)
    seconds = []
    for run in range(-warm_up, runs):
        start = time.perf_counter()
        predict(image)
        if run >= 0:
            seconds.append(time.perf_counter() - start)
            if progress:
                progress(1)
    return seconds
