"""Running files of OpenVINO and ONNX in this process. They are believed: see `latency` for files of others."""

from __future__ import annotations

import math
import queue
import threading
from typing import Any

import numpy as np

from ...util.optional import require


def require_openvino() -> Any:
    """Return the module, or raise `ModuleNotFoundError` with how to install it."""
    return require("openvino", 'OpenVINO is not installed: pip install ".[openvino]"')


def require_onnxruntime() -> Any:
    """Return the module, or raise `ModuleNotFoundError` with how to install it."""
    return require("onnxruntime", 'ONNX Runtime is not installed: pip install ".[onnx]"')


class OpenVINORunner:
    """A model in OpenVINO's CPU plugin, in float32 and for any number of images; several threads may call it at once.

    Args:
        xml, weights: The content of the two files.
        threads: How many threads one call uses; ``None`` leaves it to OpenVINO, which takes the cores.
        precision: ``"f32"``, or ``"bf16"`` for what real numbers may be rounded to where the processor can.

    Raises:
        ValueError: They are not OpenVINO's, or of a network that cannot be run here.
        ModuleNotFoundError: OpenVINO is not installed.
    """

    def __init__(self, xml: bytes, weights: bytes, threads: int | None = None, precision: str = "f32") -> None:
        ov = require_openvino()
        # By default the plugin computes in bfloat16 where the processor has it, and all processes share their cores.
        self._settings = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._core, self._lock = ov.Core(), threading.Lock()
        self._compiled: dict[int, Any] = {}
        self._idle: dict[int, queue.SimpleQueue[Any]] = {}
        try:
            self._model = self._core.read_model(model=xml, weights=weights)
            self.input_shape = tuple(self._model.input().get_partial_shape().to_shape())[1:]
            self.output_shape = tuple(self._model.output().get_partial_shape().to_shape())[1:]
            self.dtype = np.dtype(self._model.input().get_element_type().to_dtype())
            self._model_for(1)
        except RuntimeError as error:
            raise ValueError(f"OpenVINO cannot run the file: {str(error).strip().splitlines()[-1]}") from error
        # Where an image is small, several at once are faster.
        self.batch = 8 if math.prod(self.input_shape[:2]) <= 64 * 64 else 1

    @property
    def metadata(self) -> dict[str, str]:
        """What was put into the files."""
        try:
            values = self._model.get_rt_info(["onebit"]).value
        except RuntimeError:
            return {}
        return {key: str(getattr(value, "value", value)) for key, value in values.items()}

    def operations(self) -> list[tuple[str, str, str]]:
        """Return name, kind and kernel of each operation that runs."""
        kinds = ("layerType", "primitiveType")
        found = []
        for node in self._compiled[1].get_runtime_model().get_ops():
            info = node.get_rt_info()
            found.append((node.get_friendly_name(), *(str(info[kind].value) for kind in kinds)))
        return found

    def _model_for(self, batch: int) -> Any:
        with self._lock:
            if batch not in self._compiled:
                model = self._model
                if batch > 1:
                    model = model.clone()
                    model.reshape([batch, *self.input_shape])
                self._idle[batch] = queue.SimpleQueue()
                self._compiled[batch] = self._core.compile_model(model, "CPU", self._settings)
            return self._compiled[batch]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        results, start = [], 0
        while start < len(images):
            batch = self.batch if len(images) - start >= self.batch else 1
            results.append(self._run(images[start : start + batch]))
            start += batch
        return np.concatenate(results) if len(results) != 1 else results[0]

    def _run(self, images: np.ndarray) -> np.ndarray:
        compiled, idle = self._model_for(len(images)), self._idle[len(images)]
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            return np.array(request.infer([np.ascontiguousarray(images)])[0])  # a copy: the next call overwrites it
        finally:
            idle.put(request)


class ONNXRunner:
    """A model in ONNX Runtime on the processor, for any number of images; several threads may call it at once.

    Args:
        content: The file's.
        threads: How many threads one call uses; ``None`` leaves it to ONNX Runtime, which takes the cores.

    Raises:
        ValueError: It is not an ONNX file, or of a network that cannot be run here.
        ModuleNotFoundError: ONNX Runtime is not installed.
    """

    batch = 32

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        runtime = require_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # ONNX Runtime has an exception for each cause
            raise ValueError(f"ONNX Runtime cannot run the file: {str(error).strip().splitlines()[0]}") from error
        self._name = image.name
        self.input_shape, self.output_shape = tuple(image.shape[1:]), tuple(output.shape[1:])
        self.dtype = np.dtype(np.float32 if image.type == "tensor(float)" else image.type[len("tensor(") : -1])

    @property
    def metadata(self) -> dict[str, str]:
        """What was put into the model."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        batches = (images[start : start + self.batch] for start in range(0, len(images), self.batch))
        results = [self._session.run(None, {self._name: np.ascontiguousarray(each)})[0] for each in batches]
        return np.concatenate(results) if len(results) != 1 else results[0]
