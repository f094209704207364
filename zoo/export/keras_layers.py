"""What Keras' layers compute, as plain operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ...util import operations as ops
from ...util.graph import GraphBuilder, Node
from ..building.torch_layers import ExactBatchNormalization
from ..checkpoints.variables import latent_variable

Lowering = Callable[..., Any]
LOWERINGS: dict[type, Lowering] = {}


def lowers(*classes: type) -> Callable[[Lowering], Lowering]:
    """Register a function ``(layer, graph, *inputs)`` as what layers of these classes compute.

    It holds for their subclasses, too, as long as those compute nothing else: define no ``call`` of their own.
    """

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(classes, function))
        return function

    return register


ACTIVATIONS: Mapping[str, Callable[[], ops.Operation]] = {
    "relu": lambda: ops.Clip(0.0),
    "relu6": lambda: ops.Clip(0.0, 6.0),
    "sigmoid": ops.Sigmoid,
    "softmax": ops.Softmax,
}


def activate(graph: GraphBuilder, x: Node, function: Any) -> Node:
    """Add what a Keras layer's ``activation`` computes."""
    known = {
        tf.keras.activations.relu: "relu",
        tf.nn.relu: "relu",
        tf.nn.relu6: "relu6",
        tf.keras.activations.sigmoid: "sigmoid",
        tf.nn.sigmoid: "sigmoid",
        tf.keras.activations.softmax: "softmax",
        tf.nn.softmax: "softmax",
    }
    if function is None or function is tf.keras.activations.linear:
        return x
    if isinstance(function, tf.keras.layers.ReLU):
        result = _relu(function, graph, x)
        if result is not NotImplemented:
            return result
    if function in known:
        return graph.add(ACTIVATIONS[known[function]](), x)
    return graph.add(ops.Opaque(function, f"activation {name_of(function)}", x.shape), x)


def name_of(function: Any) -> str:
    """Return what to call a function, a layer or a quantizer in a message."""
    return getattr(function, "name", None) or getattr(function, "__name__", None) or type(function).__name__


def value_of(variable: Any) -> np.ndarray:
    """Return the value of a layer's variable, of a quantized one the latent weights."""
    return tf.convert_to_tensor(latent_variable(variable)).numpy()


def _last_axis(axis: Any, x: Node) -> bool:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return [each % (len(x.shape) + 1) for each in axes] == [len(x.shape)]


# Convolutions and products


class Geometry(NamedTuple):
    """Where a convolution's windows lie, and how its channels are grouped."""

    strides: ops.Pair
    pads: ops.Pads
    dilations: ops.Pair
    groups: int


def geometry_of(layer: Any, x: Node, groups: int) -> Geometry:
    """Return where the windows of a convolutional layer lie over x."""
    reach = tuple(rate * (size - 1) + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    if layer.padding == "valid":
        pads = ops.NO_PADS
    elif getattr(layer, "symmetric", False):
        pads = ((reach[0] // 2, reach[0] // 2), (reach[1] // 2, reach[1] // 2))
    else:
        pads = ops.same_pads(x.shape[:2], reach, layer.strides)
    return Geometry(tuple(layer.strides), pads, tuple(layer.dilation_rate), groups)


def finish(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    """Add a layer's bias and activation."""
    if layer.use_bias:
        x = graph.add(ops.Affine(offset=value_of(layer.bias)), x)
    return activate(graph, x, layer.activation)


def convolve(graph: GraphBuilder, x: Node, kernel: np.ndarray, geometry: Geometry, border: float = 0.0) -> Node:
    """Add a real convolution; zeros that were put around the image before it become its own."""
    if border and geometry.pads != ops.NO_PADS:
        x = graph.add(ops.Pad(geometry.pads, value=border), x)
        geometry = geometry._replace(pads=ops.NO_PADS)
    elif isinstance(x.operation, ops.Pad) and not (x.operation.value or any(x.operation.channels)) and not border:
        (a, b), (c, d) = x.operation.pads
        (e, f), (g, h) = geometry.pads
        pads = ((a + e, b + f), (c + g, d + h))
        geometry, x = geometry._replace(pads=pads), graph.producer(x)
    return graph.add(ops.Conv(**geometry._asdict(), kernel=kernel), x)


@lowers(tf.keras.layers.Conv2D)
def _conv(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return finish(layer, graph, convolve(graph, x, value_of(layer.kernel), geometry_of(layer, x, layer.groups)))


@lowers(tf.keras.layers.DepthwiseConv2D)
def depthwise(layer: Any, graph: GraphBuilder, x: Node, kernel: np.ndarray | None = None) -> Node:
    """Add a depthwise convolution by the layer's kernel or a quantized one."""
    kernel = value_of(layer.depthwise_kernel) if kernel is None else kernel
    kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    border = float(getattr(layer, "pad_values", 0.0)) if layer.padding == "same" else 0.0
    return finish(layer, graph, convolve(graph, x, kernel, geometry_of(layer, x, x.shape[-1]), border))


@lowers(tf.keras.layers.Dense)
def _dense(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return finish(layer, graph, graph.add(ops.Dense(value_of(layer.kernel)), x))


# Normalisations and activations


@lowers(tf.keras.layers.BatchNormalization, ExactBatchNormalization)
def normalise(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    """Add a batch normalisation; in float32, as Keras has it, for what is 0 there decides a sign."""
    if not _last_axis(layer.axis, x):
        return NotImplemented
    scale = 1 / np.sqrt(value_of(layer.moving_variance) + np.float32(layer.epsilon))
    scale = scale * value_of(layer.gamma) if layer.scale else scale
    offset = -value_of(layer.moving_mean) * scale
    offset = offset + value_of(layer.beta) if layer.center else offset
    return graph.add(ops.Affine(scale, offset), x)


@lowers(tf.keras.layers.Normalization)
def _normalization(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    mean, deviation = value_of(layer.mean), np.maximum(np.sqrt(value_of(layer.variance)), 1e-7)
    if layer.invert or mean.size not in (1, x.shape[-1]) or mean.size != mean.shape[-1]:
        return NotImplemented
    scale = (1 / deviation).reshape(-1)
    return graph.add(ops.Affine(scale, -mean.reshape(-1) * scale), x)


@lowers(tf.keras.layers.Rescaling)
def _rescaling(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    scale, offset = np.float32(layer.scale), np.float32(layer.offset)
    return NotImplemented if scale.ndim > 1 or offset.ndim > 1 else graph.add(ops.Affine(scale, offset), x)


@lowers(tf.keras.layers.Activation)
def _activation(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return activate(graph, x, layer.activation)


def _leaky(graph: GraphBuilder, x: Node, slope: np.ndarray) -> Node:
    """Add what is x above zero, and ``slope`` x below."""
    return graph.add(ops.TwoSlopes(np.ones(1, np.float32), slope), x)


@lowers(tf.keras.layers.ReLU)
def _relu(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    if layer.threshold or (layer.negative_slope and layer.max_value is not None):
        return NotImplemented
    if layer.negative_slope:
        return _leaky(graph, x, np.full(1, layer.negative_slope, np.float32))
    return graph.add(ops.Clip(0.0, math.inf if layer.max_value is None else float(layer.max_value)), x)


@lowers(tf.keras.layers.LeakyReLU)
def _leaky_relu(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return _leaky(graph, x, np.full(1, layer.alpha, np.float32))


@lowers(tf.keras.layers.PReLU)
def _prelu(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    slope = value_of(layer.alpha)
    if slope.size not in (1, slope.shape[-1]):
        return NotImplemented
    return _leaky(graph, x, slope.reshape(-1))


@lowers(tf.keras.layers.Softmax)
def _softmax(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    return graph.add(ops.Softmax(), x) if _last_axis(layer.axis, x) else NotImplemented


# Everything else


@lowers(tf.keras.layers.Add)
def _add(layer: Any, graph: GraphBuilder, *inputs: Node) -> Node:
    return graph.add(ops.Add(), *inputs)


@lowers(tf.keras.layers.Multiply)
def _multiply(layer: Any, graph: GraphBuilder, *inputs: Node) -> Node:
    return graph.add(ops.Multiply(), *inputs)


@lowers(tf.keras.layers.Concatenate)
def _concatenate(layer: Any, graph: GraphBuilder, *inputs: Node) -> Any:
    return graph.add(ops.Concatenate(), *inputs) if _last_axis(layer.axis, inputs[0]) else NotImplemented


@lowers(tf.keras.layers.MaxPooling2D, tf.keras.layers.AveragePooling2D)
def _pool(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kind = ops.MaxPool if isinstance(layer, tf.keras.layers.MaxPooling2D) else ops.AveragePool
    window, strides = tuple(layer.pool_size), tuple(layer.strides)
    pads = ops.same_pads(x.shape[:2], window, strides) if layer.padding == "same" else ops.NO_PADS
    return graph.add(kind(strides, pads, window=window), x)


@lowers(tf.keras.layers.GlobalAveragePooling2D)
def _global_average(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return graph.add(ops.GlobalAveragePool(layer.keepdims), x)


@lowers(tf.keras.layers.ZeroPadding2D)
def _zero_padding(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return graph.add(ops.Pad(layer.padding), x)


@lowers(tf.keras.layers.Flatten)
def _flatten(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return graph.add(ops.Reshape((math.prod(x.shape),)), x)


@lowers(tf.keras.layers.Reshape)
def _reshape(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return graph.add(ops.Reshape(tuple(layer.output_shape[1:])), x)


@lowers(
    tf.keras.layers.Dropout,
    tf.keras.layers.SpatialDropout2D,
    tf.keras.layers.GaussianNoise,
    tf.keras.layers.GaussianDropout,
    tf.keras.layers.ActivityRegularization,
    tf.keras.layers.RandomFlip,
    tf.keras.layers.RandomRotation,
    tf.keras.layers.RandomTranslation,
    tf.keras.layers.RandomZoom,
    tf.keras.layers.RandomContrast,
    tf.keras.layers.RandomBrightness,
)
def _only_in_training(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return x
