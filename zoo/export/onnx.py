"""The emitter for ONNX: a graph of standard operators, whose binary kernels take 1 bit for each weight in the file.

ONNX has no convolution of signs. The kernels' bits are unpacked by operators that a runtime evaluates once, when it
loads the file; from then on the network is real-valued, with signs of plus and minus one. So the file is small wherever
ONNX runs, and as fast as a real-valued network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...util import operations as ops
from ...util.graph import Graph, Node
from ...util.optional import require
from .binary_layers import binary_filters
from .emitter import Value, check_known
from .thresholds import fold

OPSET = 18
"""The first that has ``BitwiseAnd``; ONNX Runtime has known it since 1.14, in browsers as well."""

SMALLEST = 512
"""Weights of a kernel from which on unpacking it takes less than its numbers."""


def require_onnx() -> Any:
    """Return the module, or raise `ModuleNotFoundError` with how to install it."""
    return require("onnx", 'ONNX is not installed: pip install ".[onnx]"')


def emit(graph: Graph, metadata: Mapping[str, str] | None = None) -> Any:
    """Return a graph as an ONNX model that takes any number of images, with their channels last.

    Args:
        graph: The network.
        metadata: Is put into the model.

    Raises:
        ValueError: The emitter has no operator for something in it, which the message names.
        ModuleNotFoundError: ONNX is not installed.
    """
    onnx = require_onnx()
    check_known(graph, "ONNX")
    emitter = _Emitter(graph)
    for node in graph.nodes[1:]:
        emitter.emit(node)
    output = emitter.channels_last(emitter.value(graph.output.name), len(graph.output.shape))
    emitter.add("Identity", output, name="output")
    helper, kinds = onnx.helper, onnx.TensorProto
    image = helper.make_tensor_value_info(
        "image", helper.np_dtype_to_tensor_dtype(graph.dtype), ("n", *graph.input.shape)
    )
    result = helper.make_tensor_value_info("output", kinds.FLOAT, ("n", *graph.output.shape))
    operators, constants = emitter.needed()
    body = helper.make_graph(operators, graph.name, [image], [result], constants)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="onebit", ir_version=8
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return model


@dataclass
class _Emitter:
    graph: Graph
    operators: list[Any] = field(default_factory=list)
    constants: dict[Any, Any] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    signs: dict[Any, str] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        image = self.graph.input
        self.nodes = {node.name: node for node in self.graph.nodes}
        x = "image" if self.graph.dtype == np.float32 else self.add("Cast", "image", to=1)
        self.values[image.name] = Value(self.channels_first(x, len(image.shape)))

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Append an operator; return the name of its result, which is a number: in small files names count."""
        import onnx

        name = name or f"{len(self.operators):x}"
        self.operators.append(onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def needed(self) -> tuple[list[Any], list[Any]]:
        """Return the operators and constants that the last operator's result comes of, in order."""
        names = set(self.operators[-1].output)
        for operator in reversed(self.operators):
            if names & set(operator.output):
                names.update(operator.input)
        operators = [each for each in self.operators if names & set(each.output)]
        return operators, [each for each in self.constants.values() if each.name in names]

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """Return the name of a constant; equal ones are stored once."""
        from onnx import numpy_helper

        value = np.ascontiguousarray(value, kind)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(value, f"_{len(self.constants):x}")
        return self.constants[key].name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def channels_first(self, x: str, rank: int) -> str:
        return self.add("Transpose", x, perm=[0, 3, 1, 2]) if rank == 3 else x

    def channels_last(self, x: str, rank: int) -> str:
        return self.add("Transpose", x, perm=[0, 2, 3, 1]) if rank == 3 else x

    def by_channel(self, value: Any, rank: int) -> str:
        """Return one number, or one for each channel, in the shape that goes with a tensor."""
        value = np.asarray(value, np.float32).reshape(-1)
        return self.constant(value.reshape(-1, *(1,) * (rank - 1)) if value.size > 1 else value[0])

    def value(self, name: str) -> str:
        """Return a node's result."""
        x, scale, offset = self.values[name]
        rank = len(self.graph.shapes[name])
        if scale is not None:
            x = self.add("Mul", x, self.by_channel(scale, rank))
        if offset is not None:
            x = self.add("Add", x, self.by_channel(offset, rank))
        self.values[name] = Value(x)
        return x

    def emit(self, node: Node) -> None:
        operation = node.operation
        if isinstance(operation, ops.Affine):
            self.values[node.name] = self.values[node.inputs[0]].then(operation.scale, operation.offset)
        elif isinstance(operation, ops.BinaryConv):
            self.values[node.name] = self.binary_conv(node, operation)
        else:
            result = _emit(operation, self, node, *(self.value(name) for name in node.inputs))
            self.values[node.name] = result if isinstance(result, Value) else Value(result)

    def binary_conv(self, node: Node, operation: ops.BinaryConv) -> Value:
        key = (node.inputs[0], operation.threshold.tobytes())
        if key not in self.signs:
            self.signs[key] = self.sign(node.inputs[0], operation.threshold)
        kernel = np.where(operation.signs, np.float32(1), np.float32(-1))
        sums = self.convolution(operation, self.signs[key], kernel, operation.border)
        self.sums[node.name] = sums.tensor
        return sums.then(operation.scale)

    def sign(self, name: str, threshold: np.ndarray) -> str:
        folded = fold(self.graph, name, threshold)
        if folded is None:
            x = self.value(name)
        else:
            x, threshold = self.sums[folded.convolution.name], folded.threshold
            for pool in folded.pools:
                x = str(_emit(pool.operation, self, pool, x))
            if (folded.direction < 0).any():
                x = self.add("Mul", x, self.by_channel(folded.direction, 3))
        equal = (threshold == threshold[0]).all()
        is_above = self.add("GreaterOrEqual", x, self.by_channel(threshold[:1] if equal else threshold, 3))
        return self.add("Where", is_above, self.constant(1), self.constant(-1))

    def convolution(self, operation: ops.Convolution, x: str, kernel: np.ndarray, border: float = 0.0) -> Value:
        pads = operation.pads
        if border and pads != ops.NO_PADS:
            x, pads = self.pad(x, ((0, 0), (0, 0), *pads), border), ops.NO_PADS
        weights, scale = self.weights(kernel.transpose(3, 2, 0, 1))
        window: dict[str, Any] = {"strides": operation.strides, "dilations": operation.dilations, "pads": _edges(pads)}
        return Value(self.add("Conv", x, weights, group=operation.groups, **window), scale)

    def pad(self, x: str, pads: Sequence[ops.Pair], value: Any) -> str:
        return self.add("Pad", x, self.integers(*_edges(pads)), self.constant(value))

    def weights(self, kernel: np.ndarray) -> tuple[str, np.ndarray | None]:
        """Return a kernel, (outputs, ...), or its signs and what to multiply each output with."""
        parts = binary_filters(np.moveaxis(kernel, 0, -1)) if kernel.size >= SMALLEST else None
        if parts is None:
            return self.constant(kernel), None
        bits = self.unpacked(np.moveaxis(parts[0], -1, 0))
        if parts[1].is_symmetric:
            number = self.add("Cast", bits, to=1)
            scale = None if (parts[1].high == 1).all() else parts[1].high
            return self.add("Sub", self.add("Mul", number, self.constant(2)), self.constant(1)), scale
        low, high = (self.by_channel(value, kernel.ndim) for value in (parts[1].low, parts[1].high))
        return self.add("Where", self.add("Cast", bits, to=9), high, low), None

    def unpacked(self, bits: np.ndarray) -> str:
        """Return numbers of 0 and 1 from constants of eight to a byte."""
        packed = self.constant(np.packbits(bits.reshape(-1), bitorder="little")[:, None], np.uint8)
        places = self.constant(np.arange(8), np.uint8)
        x = self.add("BitwiseAnd", self.add("BitShift", packed, places, direction="RIGHT"), self.constant(1, np.uint8))
        if bits.size % 8:
            x = self.add("Reshape", x, self.integers(-1))
            x = self.add("Slice", x, self.integers(0), self.integers(bits.size))
        return self.add("Reshape", x, self.integers(*bits.shape))


def _edges(pads: Sequence[ops.Pair]) -> list[int]:
    """Return what is added to each axis as ONNX has it: before all of them, then after all of them."""
    return [*(before for before, _ in pads), *(after for _, after in pads)]


@functools.singledispatch
def _emit(operation: Any, emitter: _Emitter, node: Node, *inputs: str) -> str | Value:
    raise ValueError(f"ONNX's emitter does not know {type(operation).__name__}, of the layer {node.layer}.")


@_emit.register
def _(operation: ops.Conv, emitter: _Emitter, node: Node, x: str) -> Value:
    return emitter.convolution(operation, x, operation.kernel)


@_emit.register
def _(operation: ops.TapBias, emitter: _Emitter, node: Node, y: str, x: str) -> str:
    table, rows, columns = operation.table(emitter.graph.shapes[node.inputs[1]])
    bias = emitter.constant(table.transpose(2, 0, 1))
    for axis, places in ((1, rows), (2, columns)):
        bias = emitter.add("Gather", bias, emitter.integers(*places), axis=axis)
    return emitter.add("Add", y, bias)


@_emit.register
def _(operation: ops.Binarize, emitter: _Emitter, node: Node, x: str) -> str:
    rank = len(node.shape)
    is_above = emitter.add("GreaterOrEqual", x, emitter.by_channel(operation.threshold, rank))
    return emitter.add("Where", is_above, *(emitter.by_channel(each, rank) for each in (operation.high, operation.low)))


@_emit.register
def _(operation: ops.Dense, emitter: _Emitter, node: Node, x: str) -> str | Value:
    weights, scale = emitter.weights(np.ascontiguousarray(operation.kernel.T))
    y = emitter.add("MatMul", emitter.channels_last(x, len(node.shape)), emitter.add("Transpose", weights, perm=[1, 0]))
    return Value(emitter.channels_first(y, len(node.shape)), scale)


@_emit.register
def _(operation: ops.Reshape, emitter: _Emitter, node: Node, x: str) -> str:
    x = emitter.channels_last(x, len(emitter.graph.shapes[node.inputs[0]]))
    y = emitter.add("Reshape", x, emitter.integers(0, *node.shape))
    return emitter.channels_first(y, len(node.shape))


@_emit.register
def _(operation: ops.Add, emitter: _Emitter, node: Node, *inputs: str) -> str:
    return functools.reduce(functools.partial(emitter.add, "Add"), inputs)


@_emit.register
def _(operation: ops.Multiply, emitter: _Emitter, node: Node, *inputs: str) -> str:
    return functools.reduce(functools.partial(emitter.add, "Mul"), inputs)


@_emit.register
def _(operation: ops.TwoSlopes, emitter: _Emitter, node: Node, x: str) -> str:
    rank = len(node.shape)
    positive, negative = (np.atleast_1d(each) for each in (operation.positive, operation.negative))
    if (positive > 0).all():
        x = x if (positive == 1).all() else emitter.add("Mul", x, emitter.by_channel(positive, rank))
        return emitter.add("PRelu", x, emitter.by_channel(negative / positive, rank))
    is_above = emitter.add("Greater", x, emitter.constant(0))
    slopes = (emitter.by_channel(each, rank) for each in (positive, negative))
    return emitter.add("Mul", x, emitter.add("Where", is_above, *slopes))


@_emit.register
def _(operation: ops.Clip, emitter: _Emitter, node: Node, x: str) -> str:
    if operation.low == 0 and operation.high == math.inf:
        return emitter.add("Relu", x)
    highest = () if operation.high == math.inf else (emitter.constant(operation.high),)
    return emitter.add("Clip", x, emitter.constant(operation.low), *highest)


@_emit.register
def _(operation: ops.Sigmoid, emitter: _Emitter, node: Node, x: str) -> str:
    return emitter.add("Sigmoid", x)


@_emit.register
def _(operation: ops.Softmax, emitter: _Emitter, node: Node, x: str) -> str:
    return emitter.add("Softmax", x, axis=1)


@_emit.register
def _(operation: ops.Pool, emitter: _Emitter, node: Node, x: str) -> str:
    kind = "MaxPool" if isinstance(operation, ops.MaxPool) else "AveragePool"  # which leaves out what is beyond
    window: dict[str, Any] = {
        "kernel_shape": operation.window,
        "strides": operation.strides,
        "pads": _edges(operation.pads),
    }
    return emitter.add(kind, x, **window)


@_emit.register
def _(operation: ops.GlobalAveragePool, emitter: _Emitter, node: Node, x: str) -> str:
    return emitter.add("ReduceMean", x, emitter.integers(2, 3), keepdims=int(operation.keep))


@_emit.register
def _(operation: ops.Pad, emitter: _Emitter, node: Node, x: str) -> str:
    edges = ((0, 0), operation.channels, *operation.pads)[: len(node.shape) + 1]
    # ONNX Runtime would make a padding by 0 the pooling's own (1.26), which pads with minus infinity or nothing.
    pooled = any(isinstance(each.operation, ops.Pool) for each in emitter.graph.consumers[node.name])
    value = operation.value or (np.finfo(np.float32).tiny if pooled else 0)
    return emitter.pad(x, edges, value)


@_emit.register
def _(operation: ops.Concatenate, emitter: _Emitter, node: Node, *inputs: str) -> str:
    return emitter.add("Concat", *inputs, axis=1)


@_emit.register
def _(operation: ops.GatherChannels, emitter: _Emitter, node: Node, x: str) -> str:
    if times := operation.repeats(emitter.graph.shapes[node.inputs[0]][-1]):
        return emitter.add("Concat", *[x] * times, axis=1)
    return emitter.add("Gather", x, emitter.integers(*operation.index), axis=1)
