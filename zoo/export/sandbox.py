"""Runs an exported file in a process of its own: for each line on standard input once.

The module is also a program, which knows nothing of this package, so that it starts soon.
"""

from __future__ import annotations

import contextlib
import functools
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

MOST_VALUES = 3 * 4096**2
"""Of an image, and of what a network returns for it."""

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


Opened = tuple[list[Any], Any, Predict]
"""The shape of an image and the type of its values, and a function of images."""


def _tflite(content: bytes, binary: bool = False) -> Opened:
    import tensorflow as tf

    # TensorFlow Lite checks a file's structure, as the Larq Compute Engine does not.
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    details = interpreter.get_input_details()[0]
    predict = engine(content) if binary else tensorflow_lite(interpreter)
    return details["shape"].tolist()[1:], details["dtype"], predict


def _onnx(content: bytes) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.enable_cpu_mem_arena = 4, 1, False
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (image,), (_,) = session.get_inputs(), session.get_outputs()
    dtype = "float32" if image.type == "tensor(float)" else image.type[len("tensor(") : -1]
    return image.shape[1:], np.dtype(dtype), lambda images: session.run(None, {image.name: images})[0]


def _openvino(content: bytes, weights: bytes) -> Opened:
    import openvino

    core = openvino.Core()
    requests: dict[int, Any] = {}
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.read_model(model=content, weights=weights)
    shape = list(model.input().get_partial_shape().to_shape())[1:]
    model.output()  # there is one

    def predict(images: np.ndarray) -> np.ndarray:
        if len(images) not in requests:
            of_size = model.clone()
            if len(images) > 1:
                of_size.reshape([len(images), *shape])
            requests[len(images)] = core.compile_model(of_size, "CPU", settings).create_infer_request()
        return np.array(requests[len(images)].infer([images])[0])

    return shape, model.input().get_element_type().to_dtype(), predict


_OPEN: dict[str, Callable[..., Opened]] = {
    "tflite": _tflite,
    "lce": functools.partial(_tflite, binary=True),
    "onnx": _onnx,
    "openvino": _openvino,
}
_MODULES = {
    "tflite": ["tensorflow"],
    "lce": ["tensorflow", "larq_compute_engine"],
    "onnx": ["onnxruntime"],
    "openvino": ["openvino"],
}


def limit_memory(most: int) -> None:
    """Let this process take no more than so many bytes from now on, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (taken + most, taken + most))


def limit_time(seconds: float) -> None:
    """Let this process take no more than so many seconds of the processor from now on, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))


def main() -> None:
    """Run what the task on the command line says."""
    import importlib
    import warnings

    task = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    for name in _MODULES[task["engine"]]:
        importlib.import_module(name)
    parts = []
    for path in task["files"]:
        with open(path, "rb") as file:
            parts.append(file.read())
    limit_memory(task["bytes"])
    limit_time(task["seconds"])
    print("ready", flush=True)
    try:
        shape, dtype, predict = _OPEN[task["engine"]](*parts)
        if not all(type(size) is int and size > 0 for size in shape) or np.prod(shape, dtype=object) > MOST_VALUES:
            raise ValueError(f"its input has the shape {shape}")
        rng = np.random.default_rng(0)
        for line in sys.stdin:
            images = rng.standard_normal((int(line), *shape), np.float32).astype(dtype, copy=False)
            limit_time(task["seconds"])
            start = time.perf_counter()
            result = predict(images)
            seconds = time.perf_counter() - start
            if len(result) != len(images) or result.size > len(images) * MOST_VALUES:
                raise ValueError(f"it returns an array of {result.shape} for {len(images)} images")
            print(seconds, flush=True)
    except Exception as error:
        print(f"{FAILED}{' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
