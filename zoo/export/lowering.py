"""From a Keras model to the `Graph` that every engine's file is made from, each kernel quantized once.

A layer says itself what it computes, by a method ``lower(graph, *inputs)`` that adds plain operations and returns the
node of its result. Keras' and Larq's layers are described here, by functions marked `lowers`. A layer that has neither,
or returns ``NotImplemented``, becomes an `Opaque` operation, which the Larq Compute Engine's and TensorFlow Lite's
converters may still know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf
from tf_keras.src.engine.functional import Functional
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from ...quantizers import BinaryActivation, BinarySet, binary_activation
from ...util import operations as ops
from ...util.graph import Graph, GraphBuilder, Node
from ..building.layers import BinaryConv2D
from ..building.torch_layers import ExactBatchNormalization
from ..checkpoints.variables import BinaryKernel, latent_variable

Lowering = Callable[..., Any]
_LOWERINGS: dict[type, Lowering] = {}
_FUNCTIONAL = (tf.keras.Sequential, Functional)


def lowers(*classes: type) -> Callable[[Lowering], Lowering]:
    """Register a function ``(layer, graph, *inputs)`` as what layers of these classes compute.

    It holds for their subclasses, too, as long as those compute nothing else: define no ``call`` of their own.
    """

    def register(function: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(classes, function))
        return function

    return register


def lower(model: tf.keras.Model) -> Graph:
    """Return what a model computes at inference, as plain operations.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32. It stays as it is. The
            layers of models among its layers are taken for its own.

    Raises:
        ValueError: The model is not of this kind.
    """
    _check(model)
    # What an interrupted call of a Larq layer leaves behind must not decide which weights are read.
    with lq.context.quantized_scope(False):
        return _Walk().model(model)


def leaf_layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Yield the layers of a model and of the functional models among them."""
    for layer in model.layers:
        if _is_functional(layer):
            yield from leaf_layers(layer)
        else:
            yield layer


def _is_functional(layer: Any) -> bool:
    computes_its_layers = any(type(layer).call is each.call for each in _FUNCTIONAL)
    return getattr(layer, "_is_graph_network", False) and computes_its_layers


def _check(model: tf.keras.Model) -> None:
    if not _is_functional(model):
        raise ValueError(
            "model must be a functional or sequential model of tf.keras (Keras 2) that is built, not "
            f"{type(model).__module__.split('.')[0]}.{type(model).__name__}."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"model must have one input and one output, not {len(model.inputs)} and {len(model.outputs)}.")
    shape = model.inputs[0].shape[1:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"model must have a fixed input shape, not {tuple(shape)}: a file for a device has no dynamic shapes. "
            "Build it with input_shape=(height, width, channels)."
        )
    layers = [layer for layer in leaf_layers(model) if not isinstance(layer, tf.keras.layers.InputLayer)]
    other = sorted({layer.compute_dtype for layer in layers if layer.compute_dtype} - {"float32"})
    if other:
        raise ValueError(
            f"model must compute in float32, not in {', '.join(other)}: build it under the policy 'float32' and load "
            "its weights."
        )


class _Walk:
    """The nodes of a Keras model in the order of their computation."""

    def __init__(self) -> None:
        self.graph = GraphBuilder()
        self.binary: dict[str, str | None] = {}

    def model(self, model: tf.keras.Model) -> Graph:
        image = model.inputs[0]
        with self.graph.layer("image"):
            node = self.graph.add(ops.Input(tuple(image.shape[1:]), image.dtype.name), name="input")
        (output,) = self._nested(model, [node], "")
        fallbacks = {name: reason for name, reason in self.binary.items() if reason is not None}
        return self.graph.finish(model.name, output, binary_layers=tuple(self.binary), float_layers=fallbacks)

    def _nested(self, model: tf.keras.Model, inputs: list[Node], prefix: str) -> list[Node]:
        values = {id(tensor): node for tensor, node in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input and all(id(tensor) in values for tensor in node.keras_inputs):
                    given = [values[id(tensor)] for tensor in node.keras_inputs]
                    results = self._layer(node, given, prefix)
                    values.update(zip(map(id, tf.nest.flatten(node.outputs)), results, strict=True))
        return [values[id(tensor)] for tensor in model.outputs]

    def _layer(self, node: Any, inputs: list[Node], prefix: str) -> list[Node]:
        layer, name = node.layer, f"{prefix}{node.layer.name}"
        if _is_functional(layer):
            return self._nested(layer, inputs, f"{name}/")
        with self.graph.layer(name):
            result = _lower_call(node, self.graph, inputs)
            results = _opaque(node, self.graph, inputs) if result is NotImplemented else [result]
        if is_binary(layer):
            self.binary[name] = None if _has_binary(self.graph, name) else _reason(layer)
        return results


def is_binary(layer: tf.keras.layers.Layer) -> bool:
    """Return whether ``larq.models.summary`` counts multiplications of a layer as 1-bit."""
    from larq.models import LayerProfile

    return bool(LayerProfile(layer).op_count("mac", 1))


def _has_binary(graph: GraphBuilder, layer: str) -> bool:
    return any(node.layer == layer and isinstance(node.operation, ops.BinaryConv) for node in graph.nodes)


def _lower_call(node: Any, graph: GraphBuilder, inputs: list[Node]) -> Any:
    layer = node.layer
    if isinstance(layer, TFOpLambda):
        return _operator(node, graph, inputs)
    for kind in type(layer).__mro__:
        if "lower" in vars(kind):
            return layer.lower(graph, *inputs)
        if kind in _LOWERINGS:
            # A vector's channels are its last axis, whatever the layer's setting.
            if getattr(layer, "data_format", "channels_last") != "channels_last" and len(inputs[0].shape) > 1:
                return NotImplemented
            return _LOWERINGS[kind](layer, graph, *inputs)
        if vars(kind).keys() & {"call", "__call__", "convolution_op"}:
            break
    return NotImplemented


def _opaque(node: Any, graph: GraphBuilder, inputs: list[Node]) -> list[Node]:
    """Return one operation for each output of a layer, which calls the layer."""
    kind = f"{type(node.layer).__name__} ({node.layer.name})"

    def output(index: int) -> Callable[..., Any]:
        def function(*tensors: Any) -> Any:
            given: dict[str, list[Any]] = {key: [] for key in node.flat_input_ids}
            for key, tensor in zip(node.flat_input_ids, tensors, strict=True):
                given[key].append(tensor if tf.is_tensor(tensor) else tf.constant(tensor))
            args, kwargs = node.map_arguments(given)
            if node.layer._expects_training_arg:
                kwargs["training"] = False
            return tf.nest.flatten(node.layer(*args, **kwargs))[index]

        return function

    shapes = [tuple(tensor.shape[1:]) for tensor in tf.nest.flatten(node.outputs)]
    return [graph.add(ops.Opaque(output(index), kind, shape), *inputs) for index, shape in enumerate(shapes)]


def _operator(node: Any, graph: GraphBuilder, inputs: list[Node]) -> Any:
    """Lower what Keras makes of an operator or a TensorFlow function between its tensors."""
    name = node.layer.symbol.removeprefix("__operators__.").removeprefix("math.")
    arguments = [*node.call_args, *(value for key, value in node.call_kwargs.items() if key != "name")]
    if name == "cast":
        return inputs[0] if tf.as_dtype(arguments[1]) == tf.float32 else NotImplemented
    if len(arguments) == 1 and name in _ACTIVATIONS:
        return graph.add(_ACTIVATIONS[name](), *inputs)
    if len(arguments) != 2 or name not in _ARITHMETIC:
        return NotImplemented
    if len(inputs) == 2:
        return graph.add(ops.Add(), *inputs) if name == "add" else graph.add(ops.Multiply(), *inputs)
    number = arguments[1]
    if not isinstance(number, (int, float, np.number)):
        return NotImplemented
    return graph.add(_ARITHMETIC[name](float(number)), *inputs)


_ACTIVATIONS: Mapping[str, Callable[[], ops.Operation]] = {
    "relu": lambda: ops.Clip(0.0),
    "relu6": lambda: ops.Clip(0.0, 6.0),
    "sigmoid": ops.Sigmoid,
    "softmax": ops.Softmax,
}
_ARITHMETIC: Mapping[str, Callable[[float], ops.Operation]] = {
    "add": lambda number: ops.Affine(offset=np.float32(number)),
    "subtract": lambda number: ops.Affine(offset=np.float32(-number)),
    "multiply": lambda number: ops.Affine(np.float32(number)),
    "truediv": lambda number: ops.Affine(np.float32(1 / number)),
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
        return graph.add(_ACTIVATIONS[known[function]](), x)
    return graph.add(ops.Opaque(function, f"activation {_name(function)}", x.shape), x)


def _name(function: Any) -> str:
    return getattr(function, "name", None) or getattr(function, "__name__", None) or type(function).__name__


def _value(variable: Any) -> np.ndarray:
    return tf.convert_to_tensor(latent_variable(variable)).numpy()


def _last_axis(axis: Any, x: Node) -> bool:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return [each % (len(x.shape) + 1) for each in axes] == [len(x.shape)]


# Convolutions and products


class _Geometry(NamedTuple):
    """Where a convolution's windows lie, and how its channels are grouped."""

    strides: ops.Pair
    pads: ops.Pads
    dilations: ops.Pair
    groups: int


def _geometry(layer: Any, x: Node, groups: int) -> _Geometry:
    reach = tuple(rate * (size - 1) + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    if layer.padding == "valid":
        pads = ops.NO_PADS
    elif getattr(layer, "symmetric", False):
        pads = ((reach[0] // 2, reach[0] // 2), (reach[1] // 2, reach[1] // 2))
    else:
        pads = ops.same_pads(x.shape[:2], reach, layer.strides)
    return _Geometry(tuple(layer.strides), pads, tuple(layer.dilation_rate), groups)


def _finish(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    if layer.use_bias:
        x = graph.add(ops.Affine(offset=_value(layer.bias)), x)
    return activate(graph, x, layer.activation)


def convolve(graph: GraphBuilder, x: Node, kernel: np.ndarray, geometry: _Geometry, border: float = 0.0) -> Node:
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
    return _finish(layer, graph, convolve(graph, x, _value(layer.kernel), _geometry(layer, x, layer.groups)))


@lowers(tf.keras.layers.DepthwiseConv2D)
def _depthwise(layer: Any, graph: GraphBuilder, x: Node, kernel: np.ndarray | None = None) -> Node:
    kernel = _value(layer.depthwise_kernel) if kernel is None else kernel
    kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    border = float(getattr(layer, "pad_values", 0.0)) if layer.padding == "same" else 0.0
    return _finish(layer, graph, convolve(graph, x, kernel, _geometry(layer, x, x.shape[-1]), border))


@lowers(tf.keras.layers.Dense)
def _dense(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    return _finish(layer, graph, graph.add(ops.Dense(_value(layer.kernel)), x))


def quantized(layer: Any, attribute: str, quantizer: Any) -> np.ndarray:
    """Return a Larq layer's kernel as its quantizer makes it."""
    kernel = _value(getattr(layer, attribute))
    if quantizer is None:
        return kernel
    return BinaryKernel(layer, getattr(layer, attribute), quantizer).quantized(kernel)


def binarize(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    """Add a Larq layer's ``input_quantizer`` as an operation of its own."""
    quantizer = layer.input_quantizer
    if quantizer is None:
        return x
    values = binary_activation(quantizer)
    if values is not None:
        return graph.add(ops.Binarize(values.threshold, values.low, values.high), x)
    return graph.add(ops.Opaque(quantizer, f"input_quantizer {_name(quantizer)} of {layer.name}", x.shape), x)


@lowers(lq.layers.QuantConv2D, BinaryConv2D)
def _quant_conv(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kernel, values = quantized(layer, "kernel", layer.kernel_quantizer), binary_activation(layer.input_quantizer)
    geometry = _geometry(layer, x, layer.groups)
    border = float(layer.pad_values) if layer.padding == "same" else 0.0
    parts = binary_filters(kernel) if layer.kernel_quantizer is not None else None
    if values is not None and parts is not None and np.ptp(values.high - values.low) == 0:
        y = binary_convolve(graph, x, kernel, parts, values, geometry, border)
    else:
        y = convolve(graph, binarize(layer, graph, x), kernel, geometry, border)
    return _finish(layer, graph, y)


def binary_filters(kernel: np.ndarray) -> tuple[np.ndarray, BinarySet] | None:
    """Return where a quantized kernel has its filters' upper values, and these sets, if it has two for each filter."""
    parts = BinarySet.of_filters(kernel.reshape(-1, kernel.shape[-1]).T)
    return None if parts is None else (parts[0].T.reshape(kernel.shape), parts[1])


def binary_convolve(
    graph: GraphBuilder,
    x: Node,
    kernel: np.ndarray,
    parts: tuple[np.ndarray, BinarySet],
    values: BinaryActivation,
    geometry: _Geometry,
    border: float,
) -> Node:
    r"""Add a convolution of two-valued activations by two-valued filters as one of signs.

    With activations \(m_c + h s\) and filters \(b + a w\), where s and w are signs, it is
    \[ h a \sum s w + h b \sum s + \sum m_c (b + a w) \]
    The first sum is the convolution of signs. The second, the same for all filters, is one by a single filter of +1.
    The third is constant but where taps lie beyond the border. For sets of \(\pm 1\) and \(\pm a\) only the first is
    left.
    """
    signs, filters = parts
    scale, shift = (filters.high - filters.low) / 2, (filters.high + filters.low) / 2
    half, middle = float((values.high - values.low).flat[0]) / 2, (values.high + values.low) / 2
    # A border of the high value is the sign's own.
    outside = 1 if np.all(middle + half == border) else 0
    channels = x.shape[-1]
    threshold = np.broadcast_to(values.threshold, channels).astype(np.float32)

    def of_signs(name: str, signs: np.ndarray, scale: np.ndarray) -> Node:
        operation = ops.BinaryConv(
            **geometry._asdict(), signs=signs, scale=scale.astype(np.float32), threshold=threshold, border=outside
        )
        return graph.add(operation, x, name=name)

    y = of_signs("binaryconv", signs, half * scale)
    groups = geometry.groups
    if shift.any():
        ones = np.ones((*kernel.shape[:3], groups), bool)
        box = of_signs("boxsum", ones, np.full(groups, half))
        one_pixel = _Geometry((1, 1), ops.NO_PADS, (1, 1), groups)
        y = graph.add(ops.Add(), y, convolve(graph, box, shift.astype(np.float32).reshape(1, 1, 1, -1), one_pixel))
    by_group = np.split(kernel.astype(np.float64), groups, -1)
    centres = np.split(np.broadcast_to(middle, channels), groups)
    inside = np.concatenate([np.einsum("hwio,i->hwo", k, m) for k, m in zip(by_group, centres, strict=True)], -1)
    beyond = (border - half * outside) * kernel.sum(2, np.float64)
    return _add_taps(graph, y, x, inside, beyond, geometry)


def _add_taps(
    graph: GraphBuilder, y: Node, x: Node, inside: np.ndarray, beyond: np.ndarray, geometry: _Geometry
) -> Node:
    """Add to y, of windows over x, the sum of ``inside`` over the taps in the image and of ``beyond`` over the others.

    Both are of the shape (window's height, window's width, outputs).
    """
    if geometry.pads == ops.NO_PADS or np.allclose(inside, beyond, rtol=1e-12, atol=0):
        total = inside.sum((0, 1))
        return graph.add(ops.Affine(offset=total.astype(np.float32)), y) if total.any() else y
    if beyond.any():
        y = graph.add(ops.Affine(offset=beyond.sum((0, 1)).astype(np.float32)), y)
    kernel = (inside - beyond).astype(np.float32)[:, :, None]
    return graph.add(ops.TapBias(**geometry._replace(groups=1)._asdict(), kernel=kernel), y, x)


@lowers(lq.layers.QuantDepthwiseConv2D)
def _quant_depthwise(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kernel = quantized(layer, "depthwise_kernel", layer.depthwise_quantizer)
    return _depthwise(layer, graph, binarize(layer, graph, x), kernel)


@lowers(lq.layers.QuantDense)
def _quant_dense(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kernel = quantized(layer, "kernel", layer.kernel_quantizer)
    return _finish(layer, graph, graph.add(ops.Dense(kernel), binarize(layer, graph, x)))


def _reason(layer: Any) -> str:
    """Return why a layer with 1-bit multiplications has no binary convolution."""
    if not isinstance(layer, lq.layers.QuantConv2D):
        return f"there is no binary {type(layer).__name__}, only QuantConv2D"
    if layer.data_format != "channels_last":
        return f"its data_format is {layer.data_format!r}, and only 'channels_last' is known"
    values = binary_activation(layer.input_quantizer)
    if values is None:
        return f"its input_quantizer, {_name(layer.input_quantizer)}, is not a sign (or is one along another axis)"
    if np.ptp(values.high - values.low):
        return f"the values of its input_quantizer, {_name(layer.input_quantizer)}, differ by more in some channels"
    return f"its kernel_quantizer, {_name(layer.kernel_quantizer)}, does not give two finite values for each filter"


# Normalisations and activations


@lowers(tf.keras.layers.BatchNormalization, ExactBatchNormalization)
def normalise(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    """Add a batch normalisation; in float32, as Keras has it, for what is 0 there decides a sign."""
    if not _last_axis(layer.axis, x):
        return NotImplemented
    scale = 1 / np.sqrt(_value(layer.moving_variance) + np.float32(layer.epsilon))
    scale = scale * _value(layer.gamma) if layer.scale else scale
    offset = -_value(layer.moving_mean) * scale
    offset = offset + _value(layer.beta) if layer.center else offset
    return graph.add(ops.Affine(scale, offset), x)


@lowers(tf.keras.layers.Normalization)
def _normalization(layer: Any, graph: GraphBuilder, x: Node) -> Any:
    mean, deviation = _value(layer.mean), np.maximum(np.sqrt(_value(layer.variance)), 1e-7)
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
    slope = _value(layer.alpha)
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
