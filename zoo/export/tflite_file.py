"""What a TensorFlow Lite file holds: its operations, and the kernels of its binary convolutions."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

BINARY_CONVOLUTION = "LceBconv2d"


@dataclass(frozen=True)
class TFLiteFile:
    """A parsed file.

    Attributes:
        input_shape: Shape of its input, (1, height, width, channels).
        operations: How many there are of each kind, by TensorFlow Lite's name or the custom operation's.
        binary_kernels: The signs of each binary convolution's kernel, bool, True for +1, (out, height, width, in).
        strided_same: How many of the other convolutions have strides and TensorFlow's ``same`` padding.
    """

    input_shape: tuple[int, ...]
    operations: Counter[str]
    binary_kernels: list[np.ndarray]
    strided_same: int


def read_tflite(content: bytes) -> TFLiteFile:
    """Parse the content of a TensorFlow Lite file.

    Raises:
        ValueError: It is not such a file, it is damaged, or a binary convolution in it has no constant kernel.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("This is not a TensorFlow Lite file.")
    try:
        return _parse(content)
    except (struct.error, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"The TensorFlow Lite file is damaged: {error}") from error


def _parse(content: bytes) -> TFLiteFile:
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    operations: Counter[str] = Counter()
    binary, strided_same = [], 0
    fills: dict[int, int] = {}  # from tensors of one repeated value to that value's
    for index in range(graph.OperatorsLength()):
        operation = graph.Operators(index)
        code = model.OperatorCodes(operation.OpcodeIndex())
        # Old files have the code in a field of one byte.
        name = (code.CustomCode() or b"").decode() or names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        operations[name] += 1
        if name == BINARY_CONVOLUTION:
            kernel = operation.Inputs(1)
            words = _constant(model, graph.Tensors(fills.get(kernel, kernel)))
            if words is None:
                raise ValueError("A binary convolution's kernel is not a constant of the file.")
            # The converter does not spell out a large kernel of equal signs, but has one word and an operation to fill.
            binary.append(
                _signs(np.broadcast_to(words, _shape(graph.Tensors(kernel))), _options(operation)["channels_in"])
            )
        elif name == "FILL":
            fills[operation.Outputs(0)] = operation.Inputs(1)
        else:
            strided_same += _is_strided_same(operation, name)
    shape = tuple(int(size) for size in graph.Tensors(graph.Inputs(0)).ShapeAsNumpy())
    return TFLiteFile(shape, operations, binary, strided_same)


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
