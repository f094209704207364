"""What comes of a network for one engine: the content of its files, how to run them, and what became of its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...util.graph import Graph
from ...util.operations import BinaryConv
from . import onnx, openvino
from .convert import Precision, convert_graph
from .interpreter import open_interpreter, require_engine
from .runners import ONNXRunner, OpenVINORunner
from .tflite import check_engine
from .tflite_file import BINARY_CONVOLUTION, read_tflite
from .verify import float_fallbacks, misaligned_convolutions

Format = Literal["lce", "tflite", "openvino", "onnx"]
"""What a file is for.

- ``"lce"``: the Larq Compute Engine, for 64-bit Arm; a ``.tflite`` file with binary operations.
- ``"tflite"``: TensorFlow Lite; real weights in 32, 16 or 8 bits.
- ``"openvino"``: OpenVINO on x86 processors, where binary convolutions run as such; ``.xml``, beside it ``.bin``.
- ``"onnx"``: ONNX Runtime anywhere; binary kernels are stored at 1 bit and computed with as real numbers.
"""

ENDINGS: Mapping[Format, str] = {"lce": ".tflite", "tflite": ".tflite", "openvino": ".xml", "onnx": ".onnx"}


@dataclass(frozen=True)
class Artifact:
    """A network for an engine.

    Attributes:
        files: The content of each file by its ending, the one to open first.
        run: Runs it on some images.
        binary_operations: How many of its operations are binary convolutions.
        operations: How many there are of each kind.
        float_layers: Binary layers that are not binary in it, by name, with the reason.
        misaligned: How many real convolutions begin at another pixel than in the network.
    """

    files: Mapping[str, bytes]
    run: Callable[[np.ndarray], np.ndarray]
    binary_operations: int
    operations: Mapping[str, int]
    float_layers: Mapping[str, str] = field(default_factory=dict)
    misaligned: int = 0


def make(graph: Graph, to: Format, precision: Precision, metadata: Mapping[str, str] | None = None) -> Artifact:
    """Convert a network.

    Args:
        graph: The network.
        to: The engine.
        precision: What the weights of a TensorFlow Lite file are stored in.
        metadata: Is put into the file, where the format has a place for it.

    Raises:
        ValueError: The network cannot be converted.
        ModuleNotFoundError: Something is needed that is not installed.
    """
    if to == "openvino":
        return _openvino(graph, metadata or {})
    if to == "onnx":
        content = onnx.emit(graph, metadata).SerializeToString()
        kinds = Counter(each.op_type for each in onnx.require_onnx().load_from_string(content).graph.node)
        return Artifact({".onnx": content}, ONNXRunner(content, threads=1), 0, kinds)
    if to == "lce":
        require_engine()
        check_engine(graph)
    return _tflite(graph, precision)


def _tflite(graph: Graph, precision: Precision) -> Artifact:
    content = convert_graph(graph, precision)
    file, predict = read_tflite(content), open_interpreter(content)
    binary = precision == "binary"
    return Artifact(
        {".tflite": content},
        lambda images: np.concatenate([predict(images[index : index + 1]) for index in range(len(images))]),
        file.operations[BINARY_CONVOLUTION],
        file.operations,
        float_fallbacks(graph, file) if binary else {},
        misaligned_convolutions(graph, file) if binary else 0,
    )


def _openvino(graph: Graph, metadata: Mapping[str, str]) -> Artifact:
    model, fallbacks = openvino.emit(graph)
    kinds = Counter(each.get_type_name() for each in model.get_ops())
    xml, weights = openvino.to_bytes(model, metadata)
    runner = OpenVINORunner(xml, weights, threads=1)
    # What runs, and not only what is in the file: the plugin falls back without a word.
    running = {name: kernel for name, kind, kernel in runner.operations() if kind == "BinaryConvolution"}
    binary = {name for name, kernel in running.items() if kernel.startswith("jit")}
    float_layers = dict(graph.float_layers) | fallbacks
    for node in graph.nodes:
        if isinstance(node.operation, BinaryConv) and node.layer not in float_layers:
            groups = node.operation.groups
            names = {node.name} if groups == 1 else {f"{node.name}/{index}" for index in range(groups)}
            if names - binary:
                kernels = {running.get(name, "none") for name in names - binary}
                float_layers[node.layer] = f"OpenVINO has no fast kernel for it here, but {', '.join(sorted(kernels))}"
    return Artifact({".xml": xml, ".bin": weights}, runner, len(binary), kinds, float_layers)
