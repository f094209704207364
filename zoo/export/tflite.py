"""The emitter for TensorFlow Lite and the Larq Compute Engine: a graph as TensorFlow operations that convert.

The engine's converter recognises a sign, a convolution whose kernel is of plus and minus one number for each filter,
and TensorFlow's own paddings. What a graph has besides is put into these terms, with the same result for every image:

- **Symmetric padding with a stride** is TensorFlow's ``same`` on an image enlarged at the bottom and right until
  ``same`` is symmetric; the rows and columns that this adds to the output are cut off. Where one of those that stay
  would see the enlargement, as with 5x5 kernels of stride 2, it is every second pixel of a convolution of stride 1,
  which takes four times as many operations.
- **Groups** are one convolution each: the engine refuses groups. A factor, an offset and positive slopes behind them
  are applied to each, where they become the convolution's own multiplier.
- **Zeros before a convolution with strides** are one row and column too many, which are cut off again: the converter
  (version 0.16) would take them for ``same`` wherever the output has the same size, though it begins at another pixel.
- **Two slopes** are a multiple of TensorFlow Lite's own PReLU, if all positive ones are positive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ...util import operations as ops
from ...util.graph import Graph

Function = Callable[[tf.Tensor], tf.Tensor]


def as_function(graph: Graph) -> Function:
    """Return a graph as a function of TensorFlow for batches of one image."""
    groups, done = _behind_groups(graph)

    def function(image: tf.Tensor) -> tf.Tensor:
        values = {graph.input.name: tf.cast(image, tf.float32)}
        for node in graph.nodes[1:]:
            inputs = [values[name] for name in node.inputs]
            operation = done.get(node.name, node.operation)
            if operation is None:
                values[node.name] = inputs[0]
            elif isinstance(operation, ops.BinaryConv):
                values[node.name] = _binary_conv(operation, inputs[0], groups.get(node.name))
            else:
                values[node.name] = _emit(operation, *inputs)
        return values[graph.output.name]

    return function


def check_engine(graph: Graph) -> None:
    """Raise `ValueError` where the Larq Compute Engine would compute something else, measured with version 0.16.

    It pads with +1 and takes that away again, but not where a kernel is larger than the image.
    """
    for node in graph.nodes:
        operation = node.operation
        if not isinstance(operation, ops.BinaryConv) or operation.border or operation.pads == ops.NO_PADS:
            continue
        height, width = _enlarged(operation, graph.shapes[node.inputs[0]][:2]) or graph.shapes[node.inputs[0]][:2]
        reach = operation.reach
        if height < reach[0] or width < reach[1]:
            raise ValueError(
                f"The layer {node.layer} pads an image of {height} x {width} pixels with zeros for a kernel of "
                f"{reach[0]} x {reach[1]}, which the Larq Compute Engine gets wrong: build the model for larger "
                "images, or with padding='same_one'."
            )


def strided_same(graph: Graph) -> int:
    """Return how many real convolutions of a graph have strides and TensorFlow's ``same`` padding."""
    convolutions = [(node.operation, graph.shapes[node.inputs[-1]]) for node in graph.nodes[1:]]
    return sum(
        isinstance(each, ops.Conv) and each.strides != (1, 1) and _padding(each, shape[:2]) == "SAME"
        for each, shape in convolutions
    )


def _behind_groups(graph: Graph) -> tuple[dict[str, ops.Affine], dict[str, ops.Operation | None]]:
    """Return what the groups of binary convolutions take over, by the convolution's name, and what is left elsewhere.

    The second says what nodes are instead of what they were, ``None`` for nothing.
    """
    taken: dict[str, ops.Affine] = {}
    left: dict[str, ops.Operation | None] = {}
    for node in graph.nodes:
        if not isinstance(node.operation, ops.BinaryConv) or node.operation.groups == 1:
            continue
        scale, offset = np.ones(node.shape[-1], np.float32), np.zeros(node.shape[-1], np.float32)
        following = graph.only_consumer(node.name)
        while following is not None and isinstance(affine := following.operation, ops.Affine):
            factor = np.float32(1) if affine.scale is None else affine.scale
            scale, offset = scale * factor, offset * factor
            offset = offset if affine.offset is None else offset + affine.offset
            left[following.name], following = None, graph.only_consumer(following.name)
        slopes = following.operation if following is not None else None
        if following is not None and isinstance(slopes, ops.TwoSlopes) and (slopes.positive > 0).all():
            scale, offset = scale * slopes.positive, offset * slopes.positive
            left[following.name] = ops.TwoSlopes(np.ones(1, np.float32), slopes.negative / slopes.positive)
        if (scale != 1).any() or offset.any():
            taken[node.name] = ops.Affine(scale, offset)
    return taken, left


# Convolutions


def _padding(operation: ops.Window, image: Sequence[int]) -> str | None:
    """Return TensorFlow's name of a window's padding, if it has one."""
    if operation.pads == ops.NO_PADS:
        return "VALID"
    same = operation.pads == ops.same_pads(image, operation.reach, operation.strides)
    return "SAME" if same and operation.dilations[0] == operation.dilations[1] else None


def _enlarged(operation: ops.Window, image: Sequence[int]) -> tuple[int, int] | None:
    """Return from which size on ``same`` pads as the operation does before height and width, if there is one near."""
    sizes = []
    for axis in (0, 1):
        for size in range(image[axis], image[axis] + operation.strides[axis]):
            square = ops.same_pads((size, size), operation.reach, operation.strides)
            if square[axis][0] == operation.pads[axis][0]:
                sizes.append(size)
                break
        else:
            return None
    return sizes[0], sizes[1]


def _binary_conv(operation: ops.BinaryConv, x: tf.Tensor, affine: ops.Affine | None) -> tf.Tensor:
    image, padding = x.shape[1:3], _padding(operation, x.shape[1:3])
    if operation.threshold.any():
        x = x - operation.threshold
    if padding is not None or operation.border:
        return _groups(operation, x, operation.strides, padding, affine)
    kept = operation.shape((*image, 0))[:2]
    enlarged = _enlarged(operation, image)
    last = [
        (out - 1) * stride - pads[0] + k - 1
        for out, stride, pads, k in zip(kept, operation.strides, operation.pads, operation.reach, strict=True)
    ]
    if enlarged is None or any(seen >= n and size > n for seen, n, size in zip(last, image, enlarged, strict=True)):
        y = _groups(operation, x, (1, 1), "SAME", affine)
        return y[:, :: operation.strides[0], :: operation.strides[1]]
    x = tf.pad(x, [(0, 0), *((0, size - n) for size, n in zip(enlarged, image, strict=True)), (0, 0)])
    return _groups(operation, x, operation.strides, "SAME", affine)[:, : kept[0], : kept[1]]


def _groups(
    operation: ops.BinaryConv, x: tf.Tensor, strides: ops.Pair, padding: str | None, affine: ops.Affine | None
) -> tf.Tensor:
    kernel = np.where(operation.signs, operation.scale, -operation.scale).astype(np.float32)

    def convolve(x: tf.Tensor, kernel: np.ndarray) -> tf.Tensor:
        x = lq.math.sign(x)
        mode = padding
        if operation.border and operation.pads != ops.NO_PADS:
            x, mode = tf.pad(x, [(0, 0), *operation.pads, (0, 0)], constant_values=operation.border), "VALID"
        return tf.nn.conv2d(x, kernel, strides, mode, dilations=operation.dilations)

    if operation.groups == 1:
        return convolve(x, kernel)
    parts = zip(tf.split(x, operation.groups, -1), np.split(kernel, operation.groups, -1), strict=True)
    results = [convolve(*part) for part in parts]
    if affine is not None:
        each = (np.split(np.asarray(value), operation.groups) for value in (affine.scale, affine.offset))
        results = [y * scale + offset for y, scale, offset in zip(results, *each, strict=True)]
    return tf.concat(results, -1)


@functools.singledispatch
def _emit(operation: Any, *inputs: tf.Tensor) -> tf.Tensor:
    raise TypeError(f"There is no TensorFlow operation for {type(operation).__name__}.")


@_emit.register
def _(operation: ops.Conv, x: tf.Tensor) -> tf.Tensor:
    padding, channels = _padding(operation, x.shape[1:3]), x.shape[-1]
    if padding is None:
        edges, padding = operation.pads, "VALID"
        if operation.strides == (1, 1):
            x = tf.pad(x, [(0, 0), *edges, (0, 0)])
        else:
            x = tf.pad(x, [(0, 0), *((before, after + 1) for before, after in edges), (0, 0)])[:, :-1, :-1]
    if operation.groups == channels > 1 and operation.strides[0] == operation.strides[1]:
        kernel = operation.kernel.reshape(*operation.kernel.shape[:2], channels, -1)
        strides = (1, *operation.strides, 1)
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=operation.dilations)
    return tf.nn.conv2d(x, operation.kernel, operation.strides, padding, dilations=operation.dilations)


@_emit.register
def _(operation: ops.TapBias, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    # Ones that are no constant: of constants the converter would make a map as large as the result.
    ones = tf.clip_by_value(x[..., :1], 1, 1)
    return y + _emit(ops.Conv(operation.strides, operation.pads, operation.dilations, kernel=operation.kernel), ones)


@_emit.register
def _(operation: ops.Binarize, x: tf.Tensor) -> tf.Tensor:
    if np.all(operation.low == -1) and np.all(operation.high == 1):
        return lq.math.sign(x - operation.threshold if np.any(operation.threshold) else x)
    return tf.where(x >= operation.threshold, operation.high, operation.low)


@_emit.register
def _(operation: ops.Dense, x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, operation.kernel) if x.shape.rank == 2 else tf.tensordot(x, operation.kernel, 1)


# Element by element


@_emit.register
def _(operation: ops.Affine, x: tf.Tensor) -> tf.Tensor:
    if operation.scale is not None and np.any(operation.scale != 1):
        x = x * operation.scale
    return x if operation.offset is None else x + operation.offset


@_emit.register
def _(operation: ops.Add, *inputs: tf.Tensor) -> tf.Tensor:
    return functools.reduce(tf.add, inputs)


@_emit.register
def _(operation: ops.Multiply, *inputs: tf.Tensor) -> tf.Tensor:
    return functools.reduce(tf.multiply, inputs)


@_emit.register
def _(operation: ops.TwoSlopes, x: tf.Tensor) -> tf.Tensor:
    positive, negative = operation.positive, operation.negative
    if not (positive > 0).all():
        return x * tf.where(x > 0, positive, negative)
    if (positive != 1).any():
        x, negative = x * positive, negative / positive
    # The converter sees a PReLU in these two rectifiers, if its slopes have the shape of an image less its batch.
    slopes = negative.reshape((1,) * (x.shape.rank - 2) + (-1,))
    return tf.nn.relu(x) + -slopes * tf.nn.relu(-x)


@_emit.register
def _(operation: ops.Clip, x: tf.Tensor) -> tf.Tensor:
    if operation.low == 0 and operation.high in (6, np.inf):
        return tf.nn.relu6(x) if operation.high == 6 else tf.nn.relu(x)
    if operation.high == np.inf:
        return tf.maximum(x, operation.low)
    return tf.clip_by_value(x, operation.low, operation.high)


@_emit.register
def _(operation: ops.Sigmoid, x: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(x)


@_emit.register
def _(operation: ops.Softmax, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(x)


@_emit.register
def _(operation: ops.Opaque, *inputs: tf.Tensor) -> tf.Tensor:
    return operation.function(*inputs)


# Pixels and channels


@_emit.register
def _(operation: ops.MaxPool, x: tf.Tensor) -> tf.Tensor:
    padding = _padding(operation, x.shape[1:3])
    if padding is None:
        x, padding = tf.pad(x, [(0, 0), *operation.pads, (0, 0)], constant_values=float("-inf")), "VALID"
    return tf.nn.max_pool2d(x, operation.window, operation.strides, padding)


@_emit.register
def _(operation: ops.AveragePool, x: tf.Tensor) -> tf.Tensor:
    padding = _padding(operation, x.shape[1:3])
    if padding is None:
        raise ValueError(f"TensorFlow has no average pooling with the padding {operation.pads}.")
    return tf.nn.avg_pool2d(x, operation.window, operation.strides, padding)


@_emit.register
def _(operation: ops.GlobalAveragePool, x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x, [1, 2], keepdims=operation.keep)


@_emit.register
def _(operation: ops.Pad, x: tf.Tensor) -> tf.Tensor:
    return tf.pad(x, [(0, 0), *operation.pads, operation.channels][-x.shape.rank :], constant_values=operation.value)


@_emit.register
def _(operation: ops.Concatenate, *inputs: tf.Tensor) -> tf.Tensor:
    return tf.concat(inputs, -1)


@_emit.register
def _(operation: ops.GatherChannels, x: tf.Tensor) -> tf.Tensor:
    if times := operation.repeats(x.shape[-1]):
        return tf.concat([x] * times, -1)
    return tf.gather(x, operation.index.astype(np.int32), axis=-1)


@_emit.register
def _(operation: ops.Reshape, x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, (-1, *operation.target))
