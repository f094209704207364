"""Running TensorFlow Lite files, those with binary operations among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from ...util.formatting import printable
from . import timing
from .tflite_file import TFLiteFile, read_tflite

_SECONDS = 5
"""How long a run of a small file may take; larger ones may take a second more for each megabyte of their tensors."""


def require_engine() -> None:
    """Raise `ModuleNotFoundError` where the Larq Compute Engine is not installed; the message says how to."""
    try:
        import larq_compute_engine  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Binary files need the Larq Compute Engine, which has builds for 64-bit x86 computers only: "
            'pip install "onebit-zoo[export]".'
        ) from error


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
            predict = timing.engine(content, threads) if binary else timing.tensorflow_lite(interpreter)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"The file cannot be run: {printable(error)}") from error

    def checked(image: np.ndarray) -> np.ndarray:
        try:
            return predict(image)
        except RuntimeError as error:
            raise ValueError(f"The file cannot be run: {printable(error)}") from error

    return checked


def latency(
    file: bytes | str | os.PathLike[str],
    *,
    runs: int = 50,
    warm_up: int = 5,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Measure how long a TensorFlow Lite file takes for one image, in one thread.

    It is run in a process of its own, which a file that lies may end or fill.

    Args:
        file: Its path, or its bytes. It has a fixed input shape.
        runs: How often to measure.
        warm_up: Runs before the first that is measured.
        progress: Called with 1 after each measured run.

    Returns:
        Seconds, one number for each run.

    Raises:
        ValueError: It is not a TensorFlow Lite file, it cannot be run, or takes more memory than networks do.
        OSError: There is no such file, or it is none.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        parsed = read_tflite(file)
        if parsed.has_binary_operations:
            require_engine()
        if not isinstance(file, bytes):
            return _timed(Path(file), str(file), parsed, runs, warm_up, progress)
        path = Path(folder, "network.tflite")
        path.write_bytes(file)
        return _timed(path, "The file", parsed, runs, warm_up, progress)


def _timed(
    path: Path, name: str, parsed: TFLiteFile, runs: int, warm_up: int, progress: Callable[[int], None] | None
) -> list[float]:
    task = {
        "path": str(path),
        "shape": parsed.input_shape,
        "dtype": parsed.input_type,
        "engine": parsed.has_binary_operations,
        "bytes": 2 * parsed.tensor_bytes + path.stat().st_size + 2**28,
    }
    command = [sys.executable, timing.__file__, json.dumps(task)]
    # How long a run may take, the first of which loads the file, too.
    longest = _SECONDS + parsed.tensor_bytes / 1e6
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        listener.start()
        seconds: list[float] = []
        try:
            process.stdout.readline()  # TensorFlow is imported
            for run in range(-warm_up, runs):
                watch = threading.Timer(longest, process.kill)
                watch.start()
                try:
                    process.stdin.write(b"\n")
                    process.stdin.flush()
                    took = float(process.stdout.readline())
                finally:
                    watch.cancel()
                if run >= 0:
                    seconds.append(took)
                    if progress:
                        progress(1)
        except (ValueError, OSError):  # it has ended
            process.kill()
            process.wait()
            listener.join()
            reason = _reason(b"".join(said).decode(errors="replace"), process.returncode)
            raise ValueError(f"{printable(name)} cannot be run: {reason}.") from None
        finally:
            process.kill()
        return seconds


def _reason(said: str, code: int) -> str:
    """Return why a process that was to run a file did not."""
    errors = [line.removeprefix(timing.FAILED) for line in said.splitlines() if line.startswith(timing.FAILED)]
    if code == -signal.SIGKILL:
        return "it takes too long"
    return printable(" ".join(errors), 400).rstrip(".") or f"it ends the process that it runs in ({code})"
