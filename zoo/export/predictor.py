"""Predictions by the fastest engine that is installed and computes the same as Keras."""

from __future__ import annotations

import functools
import json
import os
import platform
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import tensorflow as tf

from ...util.arguments import check_choice
from ...util.files import check_source, reading
from ...util.formatting import brief
from ...util.graph import Graph
from ..images.images import Preprocessing
from ..model_info import model_info, preprocessing_of
from . import onnx, openvino
from .convert import convert_graph
from .export import default_images, metadata_of
from .interpreter import open_interpreter, require_engine
from .latency import try_file
from .lowering import lower
from .runners import ONNXRunner, OpenVINORunner, require_onnxruntime
from .tflite import check_engine
from .tflite_file import read_tflite
from .verify import compare, nudged

Engine = Literal["auto", "openvino", "onnx", "lce", "tflite", "keras"]
"""What computes.

- ``"openvino"``: OpenVINO's CPU plugin, by XNOR and popcount on x86 processors with AVX2 or AVX-512.
- ``"onnx"``: ONNX Runtime, with real numbers.
- ``"lce"``: the Larq Compute Engine, fast on 64-bit Arm; one image at a time.
- ``"tflite"``: TensorFlow Lite in float32; one image at a time.
- ``"keras"``: the model itself, as one compiled function.
- ``"auto"``: OpenVINO on x86, else ONNX Runtime, else Keras: the first that is installed, knows the network and is
  found to compute the same.
"""

_X86 = ("x86_64", "AMD64")
_CHECKED = 8
"""On how many images an engine is compared with Keras."""

Run = Callable[[np.ndarray], np.ndarray]


class Predictor:
    """A network in an engine; several threads may call it at once.

    Called with preprocessed images, (n, height, width, channels), it returns what the network puts out for them,
    (n, ...). `predict` and `predict_on_batch` do the same, so that it can stand where a Keras model predicts.

    Attributes:
        engine: See `Engine`.
        threads: How many one call uses; ``None`` where the engine decides.
        name: The model's or the file's.
        input_shape, output_shape: As a Keras model has them: ``None`` and then the shape of one.
        preprocessing: What the network expects at its input; ``None`` if unknown.
        class_names: What its classes are called; ``None`` if unknown.
        skipped: Engines that were not taken, each with the reason.
    """

    def __init__(
        self,
        run: Run,
        engine: Engine,
        name: str,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        *,
        dtype: Any = np.float32,
        threads: int | None = None,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] | None = None,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self._run, self.engine, self.name, self.threads = run, engine, name, threads
        self.input_shape, self.output_shape = (None, *shapes[0]), (None, *shapes[1])
        self._result = shapes[1]
        self.dtype = np.dtype(dtype)
        self.preprocessing, self.class_names = preprocessing, class_names
        self.skipped = dict(skipped or {})

    def __call__(self, images: Any, training: bool = False) -> np.ndarray:
        images = np.asarray(images)
        if images.ndim != len(self.input_shape) or images.shape[1:] != self.input_shape[1:]:
            raise ValueError(f"images must be of shape (n, {str(self.input_shape[1:])[1:]}, not {images.shape}.")
        if training:
            raise ValueError("A predictor cannot be trained: training must be False.")
        if not len(images):
            return np.empty((0, *self._result), np.float32)
        return self._run(images.astype(self.dtype, copy=False))

    def predict_on_batch(self, images: Any) -> np.ndarray:
        """Return what the network puts out for some images."""
        return self(images)

    def predict(self, images: Any, batch_size: int | None = None, verbose: Any = 0) -> np.ndarray:
        """Return what the network puts out for some images; the engine's own size of batches is the fastest."""
        del batch_size, verbose
        return self(images)

    def __repr__(self) -> str:
        return f"<Predictor of {self.name} in {self.engine}, {self.input_shape} to {self.output_shape}>"


def compile(  # noqa: A001
    model: tf.keras.Model | str | os.PathLike[str],
    engine: Engine = "auto",
    *,
    threads: int | None = None,
    images: np.ndarray | None = None,
) -> Predictor:
    """Return something that predicts as a model does, fast.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32; or a file of `export`,
            ``.xml``, ``.onnx`` or ``.tflite``.
        engine: See `Engine`. A file has its own.
        threads: How many threads one call uses; not for Keras. Default: what the engine takes, which is all cores, and
            one for TensorFlow Lite's files.
        images: What to compare with Keras on before the engine is taken, preprocessed; eight of the sample images by
            default. A file was compared when it was written.

    Raises:
        ValueError: An argument is not as described, the engine that was asked for does not know the network or
            computes something else, or a file is damaged: it is first run in a process of its own.
        ModuleNotFoundError: The engine that was asked for is not installed.
        FileNotFoundError: There is no such file.
    """
    check_choice("engine", engine, get_args(Engine))
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(f"threads must be None or at least 1, not {threads!r}.")
    if isinstance(model, (str, os.PathLike)):
        return _of_file(Path(model), engine, threads)
    graph = lower(model)
    candidates = _candidates() if engine == "auto" else [engine]
    skipped: dict[str, str] = {}
    for each in candidates:
        try:
            run, used = start(model, graph, each, threads)
            if each != "keras":
                _check(model, graph, each, run, images)
        except (ValueError, ModuleNotFoundError) as error:
            if engine != "auto":
                raise
            skipped[each] = str(error)
            continue
        info = model_info(model)
        return Predictor(
            run,
            each,
            model.name,
            (graph.input.shape, graph.output.shape),
            dtype=graph.dtype,
            threads=used,
            preprocessing=preprocessing_of(model),
            class_names=info.class_names if info else None,
            skipped=skipped,
        )
    raise AssertionError("Keras computes every model.")


def _candidates() -> list[Engine]:
    fast: list[Engine] = ["openvino"] if platform.machine() in _X86 else []
    return [*fast, "onnx", "keras"]


def start(model: Any, graph: Graph, engine: Engine, threads: int | None) -> tuple[Run, int | None]:
    """Return a function of images in an engine, and how many threads it uses."""
    if engine == "openvino":
        emitted, metadata = openvino.emit(graph), metadata_of(model)
        return OpenVINORunner(*openvino.to_bytes(emitted.model, metadata), threads), threads
    if engine == "onnx":
        require_onnxruntime()
        return ONNXRunner(onnx.emit(graph).SerializeToString(), threads), threads
    if engine == "keras":
        shape = tf.TensorSpec((None, *graph.input.shape), graph.dtype)
        function = tf.function(functools.partial(model, training=False), input_signature=[shape], autograph=False)
        function.get_concrete_function()
        return lambda images: function(images).numpy(), None  # TensorFlow has one setting for the process
    if engine == "lce":
        require_engine()
        check_engine(graph)
    content = convert_graph(graph, "binary" if engine == "lce" else "float32")
    return one_by_one(content, threads or 1), threads or 1


def one_by_one(content: bytes, threads: int) -> Run:
    """Return a function that runs a TensorFlow Lite file on one image after the other."""
    predict, lock = open_interpreter(content, threads), threading.Lock()

    def run(images: np.ndarray) -> np.ndarray:
        with lock:
            return np.concatenate([np.array(predict(images[index : index + 1])) for index in range(len(images))])

    return run


def _check(model: Any, graph: Graph, engine: Engine, run: Run, images: np.ndarray | None) -> None:
    """Raise `ValueError` if an engine does not compute what the model does."""
    if images is None:
        try:
            images = default_images(model, _CHECKED)
        except ValueError:
            images = np.random.default_rng(0).standard_normal((_CHECKED, *graph.input.shape))
    images = np.asarray(images).astype(graph.dtype)
    agreement = compare(functools.partial(model, training=False), run, images)
    if agreement.same_class == 100 and np.isfinite(agreement.max_difference):
        return
    other = nudged(graph)
    ties = compare(other.run, start(model, other, engine, 1)[0], images[:2])
    if not graph.binary_layers or ties.same_class < 100 or not np.isfinite(ties.max_difference):
        raise ValueError(
            f"The engine {engine} returns Keras' class for {agreement.same_class:g} % of {agreement.images} images "
            f"only (largest difference {agreement.max_difference:.2g})."
        )


def _names(names: object, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the classes' names of a file, having checked that they are that."""
    is_list = isinstance(names, list) and all(isinstance(name, str) and name.isprintable() for name in names)
    if not is_list or len(cast("list[str]", names)) != shape[-1]:
        raise ValueError(f"its class_names are {brief(names)}, for an output of the shape {shape}")
    return tuple(cast("list[str]", names))


def _of_file(path: Path, engine: Engine, threads: int | None) -> Predictor:
    path = check_source(path)
    endings: dict[str, tuple[Engine, ...]] = {
        ".xml": ("openvino",),
        ".onnx": ("onnx",),
        ".tflite": ("lce", "tflite"),
    }
    engines = endings.get(path.suffix.lower())
    if engines is None:
        raise ValueError(
            f"model must be a Keras model or a file that ends in {', '.join(endings)}, not {path.name}: load it first, "
            "as by zoo.load_packed."
        )
    if engine not in ("auto", *engines):
        raise ValueError(f"engine must be 'auto' or {' or '.join(map(repr, engines))} for {path.name}, not {engine!r}.")
    try_file(path, (1,) if path.suffix.lower() == ".tflite" else (1, 8))  # what ends or fills a process ends its own
    content = path.read_bytes()
    weights = check_source(path.with_suffix(".bin")).read_bytes() if engines == ("openvino",) else b""
    with reading(path):
        if engines == ("openvino",):
            runner: Any = OpenVINORunner(content, weights, threads)
        elif engines == ("onnx",):
            runner = ONNXRunner(content, threads)
        else:
            file = read_tflite(content)
            binary = file.has_binary_operations
            run = one_by_one(content, threads or 1)
            result = run(np.zeros(file.input_shape, np.float32))
            kind: Engine = "lce" if binary else "tflite"
            shapes = (file.input_shape[1:], result.shape[1:])
            return Predictor(run, kind, path.name, shapes, threads=threads or 1)
        metadata = runner.metadata
        preprocessing = json.loads(metadata["preprocessing"]) if "preprocessing" in metadata else None
        names = json.loads(metadata["class_names"]) if "class_names" in metadata else None
        return Predictor(
            runner,
            engines[0],
            path.name,
            (runner.input_shape, runner.output_shape),
            dtype=runner.dtype,
            threads=threads,
            preprocessing=None if preprocessing is None else Preprocessing.from_dict(preprocessing),
            class_names=None if names is None else _names(names, runner.output_shape),
        )
