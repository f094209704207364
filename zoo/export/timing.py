"""Runs a TensorFlow Lite file in a process of its own: for each line on standard input once.

The module is also a program, which knows nothing of this package, so that it starts soon.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

if __name__ == "__main__" and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]  # whose modules are not what TensorFlow imports under their names

import numpy as np

FAILED = "The network cannot be run: "
"""How the program's last words begin."""

Predict = Callable[[np.ndarray], np.ndarray]


def tensorflow_lite(interpreter: Any) -> Predict:
    """Return a function that runs an interpreter of TensorFlow Lite on one image."""
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image, images)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return predict


def engine(content: bytes, threads: int = 1) -> Predict:
    """Return a function that runs a file in the Larq Compute Engine on one image."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    return Interpreter(content, num_threads=threads).predict


def limit_memory(most: int) -> None:
    """Let this process take no more than so many bytes from now on, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + most, taken + most))


def main() -> None:
    """Run what the task on the command line says."""
    import warnings

    task = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    import tensorflow as tf

    if task["engine"]:
        import larq_compute_engine  # noqa: F401

    with open(task["path"], "rb") as file:
        content = file.read()
    image = np.random.default_rng(0).standard_normal(task["shape"]).astype(task["dtype"])
    limit_memory(task["bytes"])
    print("ready", flush=True)
    try:
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
        predict = engine(content) if task["engine"] else tensorflow_lite(interpreter)
        for _ in sys.stdin:
            start = time.perf_counter()
            predict(image)
            print(time.perf_counter() - start, flush=True)
    except Exception as error:
        print(f"{FAILED}{' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
