"""What a TensorFlow Lite file holds: its operations, and the kernels of its binary convolutions."""

from __future__ import annotations

import math
import mmap
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...util.files import open_source, reading
from ...util.formatting import brief, printable

BINARY_CONVOLUTION = "LceBconv2d"
CUSTOM = {BINARY_CONVOLUTION, "LceBMaxPool2d", "LceQuantize", "LceDequantize"}
"""The operations of the Larq Compute Engine. TensorFlow's, which may write files, are none of them."""

LARGEST = 2**30
"""Bytes of a file, and of its tensors."""

_MOST_DIMENSIONS, _MOST_WORDS = 8, 2**22
_MOST_PIXELS = 3 * 4096**2
_TYPES = {0: "float32", 3: "uint8", 9: "int8"}  # by their numbers in TensorFlow Lite's schema


@dataclass(frozen=True)
class TFLiteFile:
    """A parsed file.

    Attributes:
        input_shape: Shape of its input, (1, height, width, channels).
        input_type: The type of its input's values, in the notation of NumPy.
        operations: How many there are of each kind, by TensorFlow Lite's name or the custom operation's.
        binary_kernels: The signs of each binary convolution's kernel, bool, True for +1, (out, height, width, in).
        strided_same: How many of the other convolutions have strides and TensorFlow's ``same`` padding.
        tensor_bytes: What all its tensors would take at the same time, by their shapes.
    """

    input_shape: tuple[int, ...]
    input_type: str
    operations: Counter[str]
    binary_kernels: list[np.ndarray]
    strided_same: int
    tensor_bytes: int

    @property
    def has_binary_operations(self) -> bool:
        """Whether it is for the Larq Compute Engine."""
        return any(name.startswith("Lce") for name in self.operations)


def read_tflite(file: bytes | str | os.PathLike[str]) -> TFLiteFile:
    """Parse a TensorFlow Lite file.

    Args:
        file: Its path, or its bytes.

    Raises:
        ValueError: It is not such a file, it is damaged, or a binary convolution in it has no constant kernel.
        OSError: There is no such file, or it is none.
    """
    content: bytes | mmap.mmap
    if isinstance(file, bytes):
        name, content, head = "What was given", file, file[:8]
    else:
        name, content = str(file), b""
        with open_source(file, LARGEST) as opened:
            head = opened.read(8)
            if head:
                content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if head[4:8] != b"TFL3":
        raise ValueError(f"{printable(name)} is not a TensorFlow Lite file.")
    with reading(name):
        return _parse(content)


def _parse(content: bytes | mmap.mmap) -> TFLiteFile:
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() != 1:
        raise ValueError(f"it has {model.SubgraphsLength()} graphs instead of one")
    graph = model.Subgraphs(0)
    if graph.InputsLength() != 1 or graph.OutputsLength() < 1:
        raise ValueError(f"it has {graph.InputsLength()} inputs and {graph.OutputsLength()} outputs")
    tensor_bytes = sum(_checked_size(graph.Tensors(index)) for index in range(graph.TensorsLength()))
    if tensor_bytes > LARGEST:
        raise ValueError(f"its tensors would take {tensor_bytes:,} bytes, more than the {LARGEST:,} that are run")
    operations: Counter[str] = Counter()
    binary, strided_same = [], 0
    words_in_all = 0
    fills: dict[int, int] = {}  # from tensors of one repeated value to that value's
    for index in range(graph.OperatorsLength()):
        operation = graph.Operators(index)
        code = model.OperatorCodes(operation.OpcodeIndex())
        # Old files have the code in a field of one byte.
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if name == "CUSTOM":
            name = (code.CustomCode() or b"").decode(errors="replace")
            if name not in CUSTOM:
                raise ValueError(f"it has the operation {brief(name)}, which is none of the Larq Compute Engine's")
        places = [*_indices(operation, "Inputs"), *_indices(operation, "Outputs")]
        if not all(-1 <= place < graph.TensorsLength() for place in places):
            raise ValueError(f"an operation {name} of it has the tensors {brief(places)}")
        operations[name] += 1
        if name == BINARY_CONVOLUTION:
            kernel = operation.Inputs(1)
            words = _constant(model, graph.Tensors(fills.get(kernel, kernel)))
            if words is None:
                raise ValueError("A binary convolution's kernel is not a constant of the file.")
            # The converter does not spell out a large kernel of equal signs, but has one word and an operation to fill.
            if (words_in_all := words_in_all + math.prod(_shape(graph.Tensors(kernel)))) > _MOST_WORDS:
                raise ValueError("its binary kernels have more weights than networks have")
            binary.append(
                _signs(np.broadcast_to(words, _shape(graph.Tensors(kernel))), _options(operation)["channels_in"])
            )
        elif name == "FILL":
            fills[operation.Outputs(0)] = operation.Inputs(1)
        else:
            strided_same += _is_strided_same(operation, name)
    image = graph.Tensors(graph.Inputs(0))
    shape = tuple(_shape(image))
    if min(shape, default=0) < 1 or not 1 <= math.prod(shape) <= _MOST_PIXELS or image.Type() not in _TYPES:
        raise ValueError(f"its input is of the shape {brief(shape)} and the type {image.Type()}")
    return TFLiteFile(shape, _TYPES[image.Type()], operations, binary, strided_same, tensor_bytes)


def _checked_size(tensor: Any) -> int:
    """Return how many bytes a tensor takes, at 4 for each value."""
    shape = _shape(tensor)
    if len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of it has the shape {brief(shape)}")
    return 4 * math.prod(shape)


def _indices(operation: Any, kind: str) -> list[int]:
    return [getattr(operation, kind)(place) for place in range(getattr(operation, f"{kind}Length")())]


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    """Return a constant tensor's words of 32 bits; ``None`` if it is computed, or not of such."""
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    if isinstance(data, int) or data.nbytes != 4 * np.prod(_shape(tensor)):
        return None
    return data.view("<i4").reshape(_shape(tensor))


def _shape(tensor: Any) -> list[int]:
    return [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]


def _is_strided_same(operation: Any, name: str) -> bool:
    from tensorflow.lite.python import schema_py_generated as schema

    kinds = {"CONV_2D": schema.Conv2DOptions, "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions}
    table = operation.BuiltinOptions()
    if name not in kinds or table is None:
        return False
    options = kinds[name]()
    options.Init(table.Bytes, table.Pos)
    return options.Padding() == schema.Padding.SAME and (options.StrideH(), options.StrideW()) != (1, 1)


def _options(operation: Any) -> dict[str, Any]:
    from flatbuffers import flexbuffers

    return flexbuffers.Loads(bytes(operation.CustomOptionsAsNumpy()))


def _signs(words: np.ndarray, channels: int) -> np.ndarray:
    """Unpack 32 channels from each word, the first from its lowest bit, where 1 stands for -1."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return bits[..., :channels] == 0
