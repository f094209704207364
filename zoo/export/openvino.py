"""The emitter for OpenVINO: a graph whose binary convolutions are the ``BinaryConvolution`` of OpenVINO's CPU plugin.

The plugin has kernels of XNOR and popcount for x86 processors with AVX2 or AVX-512; other devices and processors
compute the same file in other ways. What it takes for a 1-bit tensor, and what it gets wrong without a word, was
measured with the releases from 2023.3 to 2026.4:

- A sign is a ``FakeQuantize`` to 0 and 1 with one threshold for each channel. It is x > t, ours is x >= t, so t is the
  next number below; below 0 that is the smallest that is not denormal, for those count as 0.
- Factors and offsets are applied behind a convolution in the order in which they fuse into it: multiply, add, PReLU,
  addition of the shortcut.
- An addition of two tensors whose only consumer is a sign gives other results, unless a pooling of one pixel stands
  between them. A normalisation that only a sign reads is merged with it, and a result at the threshold lost; the same
  pooling prevents that. Channels that are no multiple of 8, and large kernels with strides above 2, give other results:
  these layers are real.
- Between a convolution and the sign behind it, normalisation and clipping become a threshold between two integers,
  found by trying all; the plugin's own merging of them would lose ties.
- Groups are one convolution each, with what follows.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...util import operations as ops
from ...util.graph import Graph, Node
from .binary_layers import binary_filters
from .emitter import Value, check_known
from .runners import require_openvino
from .thresholds import PER_CHANNEL, below, fold, only_signs


class Emitted(NamedTuple):
    """What came of a graph.

    Attributes:
        model: OpenVINO's.
        float_layers: Layers that are binary in the graph and real in the model, by name, with the reason.
    """

    model: Any
    float_layers: dict[str, str]


def emit(graph: Graph, batch: int = 1) -> Emitted:
    """Return a graph as an OpenVINO model that takes images with their channels last.

    Raises:
        ValueError: OpenVINO has no operation for something in it, which the message names.
        ModuleNotFoundError: OpenVINO is not installed.
    """
    ov = require_openvino()
    check_known(graph, "OpenVINO")
    emitter = _Emitter(graph, batch)
    for node in graph.nodes[1:]:
        if node.name not in emitter.done:
            emitter.emit(node)
    result = emitter.result(graph.output)
    output = emitter.o1.result(result)
    output.get_output_tensor(0).set_names({"output"})
    model = ov.Model([output], [emitter.parameter], graph.name)
    # What has no name of its own is numbered, so that equal networks give equal files.
    for index, operation in enumerate(model.get_ordered_ops()):
        if operation.get_friendly_name() not in emitter.names:
            operation.set_friendly_name(f"{index}")
    return Emitted(model, emitter.float_layers)


def to_bytes(model: Any, metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return an OpenVINO model as the content of its two files, ``.xml`` and ``.bin``."""
    ov = require_openvino()
    for key, value in metadata.items():
        model.set_rt_info(value, ["onebit", key])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


@dataclass
class _Emitter:
    graph: Graph
    batch: int
    parts: dict[str, list[Value]] = field(default_factory=dict)
    float_layers: dict[str, str] = field(default_factory=dict)
    signs: dict[Any, Any] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=lambda: {"image"})

    def __post_init__(self) -> None:
        from openvino import opset1, opset3, opset8

        self.o1, self.o3, self.o8 = opset1, opset3, opset8
        self.nodes = {node.name: node for node in self.graph.nodes}
        image = self.graph.input
        self.parameter = self.o1.parameter([self.batch, *image.shape], self.graph.dtype, name="image")
        x = self.parameter.output(0)
        if self.graph.dtype != np.float32:
            x = self.o1.convert(x, "f32").output(0)
        self.parts[image.name] = [Value(self.channels_first(x, len(image.shape)))]

    # Tensors

    def constant(self, value: Any) -> Any:
        return self.o1.constant(np.ascontiguousarray(value, np.float32))

    def channels_first(self, x: Any, rank: int) -> Any:
        return self.o1.transpose(x, self.o1.constant(np.array([0, 3, 1, 2]))).output(0) if rank == 3 else x

    def channels_last(self, x: Any, rank: int) -> Any:
        return self.o1.transpose(x, self.o1.constant(np.array([0, 2, 3, 1]))).output(0) if rank == 3 else x

    def by_channel(self, value: Any, like: Any) -> Any:
        """Return one number, or one for each channel, in the shape that goes with a tensor."""
        value = np.asarray(value, np.float32).reshape(-1)
        return self.constant(value.reshape(1, -1, *(1,) * (len(like.get_partial_shape()) - 2)))

    def finished(self, part: Value) -> Any:
        x = part.tensor
        if part.scale is not None:
            x = self.o1.multiply(x, self.by_channel(part.scale, x)).output(0)
        if part.offset is not None:
            x = self.o1.add(x, self.by_channel(part.offset, x)).output(0)
        return x

    def value(self, name: str) -> Any:
        """Return a node's result, (batch, channels, ...)."""
        outputs = [self.finished(part) for part in self.parts[name]]
        x = outputs[0] if len(outputs) == 1 else self.o1.concat(outputs, 1).output(0)
        self.parts[name] = [Value(x)]
        return x

    def result(self, node: Node) -> Any:
        return self.channels_last(self.value(node.name), len(node.shape))

    # Nodes

    def emit(self, node: Node) -> None:
        operation, first = node.operation, node.inputs[0]
        if isinstance(operation, ops.BinaryConv):
            self.parts[node.name] = self.binary_conv(node, operation)
        elif isinstance(operation, ops.Affine):
            self.parts[node.name] = self.affine(self.parts[first], operation, node.shape[-1])
        elif isinstance(operation, ops.TwoSlopes):
            self.parts[node.name] = self.two_slopes(self.parts[first], operation, node.shape[-1])
        else:
            produced = _emit(operation, self, node, *(self.value(name) for name in node.inputs))
            output = produced if not hasattr(produced, "output") else produced.output(0)
            self.parts[node.name] = [Value(output)]

    def affine(self, parts: list[Value], operation: ops.Affine, channels: int) -> list[Value]:
        scales, offsets = (
            [None] * len(parts) if value is None else np.split(np.broadcast_to(value, channels), len(parts))
            for value in (operation.scale, operation.offset)
        )
        return [part.then(scale, offset) for part, scale, offset in zip(parts, scales, offsets, strict=True)]

    def two_slopes(self, parts: list[Value], operation: ops.TwoSlopes, channels: int) -> list[Value]:
        positive, negative = (np.broadcast_to(value, channels) for value in (operation.positive, operation.negative))
        groups = zip(parts, np.split(positive, len(parts)), np.split(negative, len(parts)), strict=True)
        return [Value(self.slopes(part, p, q)) for part, p, q in groups]

    def slopes(self, part: Value, p: np.ndarray, q: np.ndarray) -> Any:
        if (p > 0).all():
            x = self.finished(part.then(None if (p == 1).all() else p))
            return self.o1.prelu(x, self.constant(q / p)).output(0)
        x = self.finished(part)
        above = self.o1.multiply(self.o1.relu(x), self.by_channel(p, x))
        below = self.o1.relu(self.o1.multiply(x, self.by_channel(-1, x)))
        return self.o1.add(above, self.o1.multiply(below, self.by_channel(-q, x))).output(0)

    # Convolutions of signs

    def binary_conv(self, node: Node, operation: ops.BinaryConv) -> list[Value]:
        reason = _reason(operation, self.graph.shapes[node.inputs[0]], node.shape)
        groups = operation.groups
        scales = np.split(operation.scale, groups)
        if reason is not None:
            self.float_layers[node.layer] = reason
            binarize = ops.Binarize(operation.threshold, np.float32(-1), np.float32(1))
            signs = _emit(binarize, self, node, self.value(node.inputs[0])).output(0)
            kernel = np.where(operation.signs, np.float32(1), np.float32(-1))
            y = self.convolution(operation, signs, kernel, operation.border)
            return [Value(y, operation.scale)]
        inputs = self.signs_of(node, operation)
        kernels = np.split(operation.signs.transpose(3, 2, 0, 1), groups)
        (top, bottom), (left, right) = operation.pads
        window = (list(operation.strides), [top, left], [bottom, right], list(operation.dilations))
        outputs = [
            self.o1.binary_convolution(x, one_bit(kernel), *window, "xnor-popcount", float(operation.border))
            for x, kernel in zip(inputs, kernels, strict=True)
        ]
        for index, each in enumerate(outputs):
            name = node.name if groups == 1 else f"{node.name}/{index}"
            each.set_friendly_name(name)
            self.names.add(name)
        self.sums[node.name] = outputs[0].output(0)
        return [Value(each.output(0), scale) for each, scale in zip(outputs, scales, strict=True)]

    def signs_of(self, node: Node, operation: ops.BinaryConv) -> list[Any]:
        """Return the input's signs as 0 and 1, those of each group; layers of the same signs share them."""
        key = (node.inputs[0], operation.threshold.tobytes(), operation.groups)
        if key not in self.signs:
            x, threshold = self.before_sign(node.inputs[0], operation.threshold)
            channels, groups = self.graph.shapes[node.inputs[0]][-1], operation.groups
            parts = [x] if groups == 1 else self.o1.split(x, self.o1.constant(np.int64(1)), groups).outputs()
            thresholds = np.split(np.broadcast_to(threshold, channels), groups)
            self.signs[key] = [self.sign(*each) for each in zip(parts, thresholds, strict=True)]
        return self.signs[key]

    def sign(self, x: Any, threshold: np.ndarray) -> Any:
        """Return 1 where x is above the threshold and 0 elsewhere."""
        # Thresholds are given by channel even if all are equal: one for all moves before a transposition, where bits
        # are packed along another axis. Each constant is used once, else this cannot be fused.
        edges = [self.by_channel(each, x) for each in (threshold, threshold, 0, 1)]
        return self.o1.fake_quantize(x, *edges, 2).output(0)

    def before_sign(self, name: str, threshold: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the tensor to compare, and above which thresholds its sign is +1."""
        folded = fold(self.graph, name, threshold)
        if folded is not None and folded.convolution.name in self.sums:
            x = self.sums[folded.convolution.name]
            for pool in folded.pools:
                x = _emit(pool.operation, self, pool, x).output(0)
            # The plugin has signs that are 0 above the threshold, but not everywhere.
            falling = (folded.direction < 0).any()
            return self.finished(Value(x, folded.direction if falling else None)), folded.threshold
        x = self.value(name)
        is_affine = isinstance(self.nodes[name].operation, ops.Affine)  # which the plugin merges with a sign, ties lost
        if only_signs(self.graph, name) and (is_affine or self.behind_addition(name)):
            x = self.o1.max_pool(x, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
        return x, below(threshold)

    def behind_addition(self, name: str) -> bool:
        """Whether nothing but operations by channel stands between an addition of two tensors and a node."""
        node = self.nodes[name]
        while isinstance(node.operation, PER_CHANNEL):
            node = self.nodes[node.inputs[0]]
            if self.graph.only_consumer(node.name) is None:
                return False
        return isinstance(node.operation, (ops.Add, ops.TapBias))

    def convolution(self, operation: ops.Convolution, x: Any, kernel: np.ndarray, border: float = 0.0) -> Any:
        """Return a real convolution; a kernel of plus and minus one number for each filter takes 1 bit for a weight."""
        (top, bottom), (left, right) = operation.pads
        if border and operation.pads != ops.NO_PADS:
            begin, end = np.array([0, 0, top, left]), np.array([0, 0, bottom, right])
            x = self.o1.pad(x, begin, end, "constant", np.float32(border))
            top = bottom = left = right = 0
        window = (list(operation.strides), [top, left], [bottom, right], list(operation.dilations))
        weights, scale = self.weights(kernel.transpose(3, 2, 0, 1), operation.groups)
        if operation.groups > 1:
            y = self.o1.group_convolution(x, weights, *window)
        else:
            y = self.o1.convolution(x, weights, *window)
        y = y.output(0)
        return y if scale is None else self.o1.multiply(y, self.by_channel(scale, y)).output(0)

    def weights(self, kernel: np.ndarray, groups: int) -> tuple[Any, np.ndarray | None]:
        shape = kernel.shape if groups == 1 else (groups, kernel.shape[0] // groups, *kernel.shape[1:])
        parts = binary_filters(kernel.transpose(1, 2, 3, 0)) if kernel[0].size >= 32 else None
        if parts is None or not parts[1].is_symmetric:
            return self.constant(kernel.reshape(shape)), None
        bits = self.o1.convert(one_bit(kernel > 0, shape, "big"), "f32")
        ones = self.o1.subtract(self.o1.multiply(bits, self.constant(2.0)), self.constant(1.0))
        return ones, parts[1].high


def one_bit(bits: np.ndarray, shape: Sequence[int] | None = None, order: str = "little") -> Any:
    """Return a constant of 1-bit numbers.

    A binary convolution reads the first of eight from a byte's lowest bit, a conversion from its highest.
    """
    import openvino as ov

    tensor = ov.Tensor(ov.Type.u1, ov.Shape(list(shape or bits.shape)))  # owns its memory, unlike one of an array
    packed = np.packbits(bits.reshape(-1), bitorder="little" if order == "little" else "big")
    tensor.data.view(np.uint8).reshape(-1)[:] = packed
    return ov.op.Constant(tensor, shared_memory=True)


def _reason(operation: ops.BinaryConv, image: ops.Shape, result: ops.Shape) -> str | None:
    """Return why the plugin would not compute a binary convolution, or not rightly."""
    channels = image[-1] // operation.groups
    if channels % 8:
        return f"it has {channels} input channels{' a group' if operation.groups > 1 else ''}, not a multiple of 8"
    largest = max(operation.size)
    if max(operation.strides) > 2 and largest > 3:
        return f"it has a {largest}x{largest} kernel and a stride of {max(operation.strides)}"
    edge = max(max(pads) for pads in operation.pads)
    if max(operation.reach) > 3 and edge > min(result[:2]):
        return f"its padding of {edge} pixels is larger than its result"
    return None


# Everything else, of tensors with their channels first


@functools.singledispatch
def _emit(operation: Any, emitter: _Emitter, node: Node, *inputs: Any) -> Any:
    raise ValueError(f"OpenVINO's emitter does not know {type(operation).__name__}, of the layer {node.layer}.")


@_emit.register
def _(operation: ops.Conv, emitter: _Emitter, node: Node, x: Any) -> Any:
    return emitter.convolution(operation, x, operation.kernel)


@_emit.register
def _(operation: ops.TapBias, emitter: _Emitter, node: Node, y: Any, x: Any) -> Any:
    table, rows, columns = operation.table(emitter.graph.shapes[node.inputs[1]])
    bias = emitter.constant(table.transpose(2, 0, 1)[None])
    for axis, places in ((2, rows), (3, columns)):
        bias = emitter.o8.gather(
            bias, emitter.o1.constant(places.astype(np.int64)), emitter.o1.constant(np.int64(axis))
        )
    return emitter.o1.add(y, bias)


@_emit.register
def _(operation: ops.Binarize, emitter: _Emitter, node: Node, x: Any) -> Any:
    is_above = emitter.o1.greater(x, emitter.by_channel(below(operation.threshold), x))
    return emitter.o1.select(is_above, emitter.by_channel(operation.high, x), emitter.by_channel(operation.low, x))


@_emit.register
def _(operation: ops.Dense, emitter: _Emitter, node: Node, x: Any) -> Any:
    kernel, before = operation.kernel, emitter.nodes[node.inputs[0]]
    if isinstance(before.operation, ops.Reshape) and before.name in emitter.done:
        height, width, channels = emitter.graph.shapes[before.inputs[0]]
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    weights, scale = emitter.weights(kernel.T[:, :, None, None], 1)
    weights = emitter.o1.reshape(weights, emitter.o1.constant(np.array(kernel.T.shape)), False)
    if len(node.shape) == 3:
        x = emitter.channels_last(x, 3)
    y = emitter.o1.matmul(x, weights, False, True).output(0)
    y = emitter.channels_first(y, len(node.shape))
    return y if scale is None else emitter.o1.multiply(y, emitter.by_channel(scale, y))


@_emit.register
def _(operation: ops.Reshape, emitter: _Emitter, node: Node, x: Any) -> Any:
    before = emitter.graph.shapes[node.inputs[0]]
    following = emitter.graph.only_consumer(node.name)
    if len(before) == 3 and len(node.shape) == 1 and max(before[:2]) > 1:
        if following is not None and isinstance(following.operation, ops.Dense):
            emitter.done.add(node.name)  # its kernel takes the channels first
        else:
            x = emitter.channels_last(x, 3)
    elif len(before) == 3 and len(node.shape) == 3:
        x = emitter.channels_last(x, 3)
    target = emitter.o1.constant(np.array([0, *node.shape]))
    y = emitter.o1.reshape(x, target, True).output(0)
    return emitter.channels_first(y, len(node.shape))


@_emit.register
def _(operation: ops.Add, emitter: _Emitter, node: Node, *inputs: Any) -> Any:
    return functools.reduce(emitter.o1.add, inputs)


@_emit.register
def _(operation: ops.Multiply, emitter: _Emitter, node: Node, *inputs: Any) -> Any:
    return functools.reduce(emitter.o1.multiply, inputs)


@_emit.register
def _(operation: ops.Clip, emitter: _Emitter, node: Node, x: Any) -> Any:
    if operation.high < math.inf:
        return emitter.o1.clamp(x, operation.low, operation.high)
    return emitter.o1.relu(x) if operation.low == 0 else emitter.o1.maximum(x, emitter.constant([operation.low]))


@_emit.register
def _(operation: ops.Sigmoid, emitter: _Emitter, node: Node, x: Any) -> Any:
    return emitter.o1.sigmoid(x)


@_emit.register
def _(operation: ops.Softmax, emitter: _Emitter, node: Node, x: Any) -> Any:
    return emitter.o8.softmax(x, 1)


@_emit.register
def _(operation: ops.MaxPool, emitter: _Emitter, node: Node, x: Any) -> Any:
    (top, bottom), (left, right) = operation.pads
    return emitter.o1.max_pool(x, list(operation.strides), [top, left], [bottom, right], list(operation.window))


@_emit.register
def _(operation: ops.AveragePool, emitter: _Emitter, node: Node, x: Any) -> Any:
    (top, bottom), (left, right) = operation.pads
    if operation.window == (1, 1):
        return emitter.o1.max_pool(x, list(operation.strides), [0, 0], [0, 0], [1, 1])
    return emitter.o1.avg_pool(x, list(operation.strides), [top, left], [bottom, right], list(operation.window), True)


@_emit.register
def _(operation: ops.GlobalAveragePool, emitter: _Emitter, node: Node, x: Any) -> Any:
    return emitter.o1.reduce_mean(x, emitter.o1.constant(np.array([2, 3])), operation.keep)


@_emit.register
def _(operation: ops.Pad, emitter: _Emitter, node: Node, x: Any) -> Any:
    edges = (operation.channels, *operation.pads)[: len(node.shape)]
    begin, end = np.array([(0, 0), *edges]).T
    return emitter.o1.pad(x, begin, end, "constant", np.float32(operation.value))


@_emit.register
def _(operation: ops.Concatenate, emitter: _Emitter, node: Node, *inputs: Any) -> Any:
    return emitter.o1.concat(list(inputs), 1)


@_emit.register
def _(operation: ops.GatherChannels, emitter: _Emitter, node: Node, x: Any) -> Any:
    index, channels = operation.index, emitter.graph.shapes[node.inputs[0]][-1]
    constant = emitter.o1.constant
    if len(index) == channels and len(node.shape) == 3:
        # A shuffle stays in the plugin's own order of axes, as a gathering does not.
        counts = (groups for groups in range(2, channels) if channels % groups == 0)
        shuffles = {groups: np.arange(channels).reshape(groups, -1).T.ravel() for groups in counts}
        groups = next((groups for groups, each in shuffles.items() if np.array_equal(index, each)), 0)
        if groups:
            return emitter.o3.shuffle_channels(x, 1, groups)
    if times := operation.repeats(channels):
        return emitter.o1.concat([x] * times, 1)
    if np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        ends = (constant(np.array([int(end)])) for end in (index[0], index[-1] + 1, 1, 1))
        return emitter.o8.slice(x, *ends)
    return emitter.o8.gather(x, constant(index.astype(np.int64)), constant(np.int64(1)))
