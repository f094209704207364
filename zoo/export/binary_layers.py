"""What Larq's layers compute, as plain operations: convolutions of signs where both sides have two values."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ...quantizers import BinaryActivation, BinarySet, binary_activation
from ...util import operations as ops
from ...util.graph import GraphBuilder, Node
from ..building.layers import BinaryConv2D
from ..checkpoints.variables import BinaryKernel
from .keras_layers import Geometry, convolve, depthwise, finish, geometry_of, lowers, name_of, value_of


def is_binary(layer: tf.keras.layers.Layer) -> bool:
    """Return whether ``larq.models.summary`` counts multiplications of a layer as 1-bit."""
    from larq.models import LayerProfile

    return bool(LayerProfile(layer).op_count("mac", 1))


def quantized(layer: Any, attribute: str, quantizer: Any) -> np.ndarray:
    """Return a Larq layer's kernel as its quantizer makes it."""
    kernel = value_of(getattr(layer, attribute))
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
    return graph.add(ops.Opaque(quantizer, f"input_quantizer {name_of(quantizer)} of {layer.name}", x.shape), x)


@lowers(lq.layers.QuantConv2D, BinaryConv2D)
def _quant_conv(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kernel, values = quantized(layer, "kernel", layer.kernel_quantizer), binary_activation(layer.input_quantizer)
    geometry = geometry_of(layer, x, layer.groups)
    border = float(layer.pad_values) if layer.padding == "same" else 0.0
    parts = binary_filters(kernel) if layer.kernel_quantizer is not None else None
    if values is not None and parts is not None and np.ptp(values.high - values.low) == 0:
        y = binary_convolve(graph, x, kernel, parts, values, geometry, border)
    else:
        y = convolve(graph, binarize(layer, graph, x), kernel, geometry, border)
    return finish(layer, graph, y)


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
    geometry: Geometry,
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
        one_pixel = Geometry((1, 1), ops.NO_PADS, (1, 1), groups)
        y = graph.add(ops.Add(), y, convolve(graph, box, shift.astype(np.float32).reshape(1, 1, 1, -1), one_pixel))
    by_group = np.split(kernel.astype(np.float64), groups, -1)
    centres = np.split(np.broadcast_to(middle, channels), groups)
    inside = np.concatenate([np.einsum("hwio,i->hwo", k, m) for k, m in zip(by_group, centres, strict=True)], -1)
    beyond = (border - half * outside) * kernel.sum(2, np.float64)
    return _add_taps(graph, y, x, inside, beyond, geometry)


def _add_taps(
    graph: GraphBuilder, y: Node, x: Node, inside: np.ndarray, beyond: np.ndarray, geometry: Geometry
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
    return depthwise(layer, graph, binarize(layer, graph, x), kernel)


@lowers(lq.layers.QuantDense)
def _quant_dense(layer: Any, graph: GraphBuilder, x: Node) -> Node:
    kernel = quantized(layer, "kernel", layer.kernel_quantizer)
    return finish(layer, graph, graph.add(ops.Dense(kernel), binarize(layer, graph, x)))


def why_not_binary(layer: Any) -> str:
    """Return why a layer with 1-bit multiplications has no binary convolution."""
    if not isinstance(layer, lq.layers.QuantConv2D):
        return f"there is no binary {type(layer).__name__}, only QuantConv2D"
    if layer.data_format != "channels_last":
        return f"its data_format is {layer.data_format!r}, and only 'channels_last' is known"
    values = binary_activation(layer.input_quantizer)
    if values is None:
        return f"its input_quantizer, {name_of(layer.input_quantizer)}, is not a sign (or is one along another axis)"
    if np.ptp(values.high - values.low):
        return f"the values of its input_quantizer, {name_of(layer.input_quantizer)}, differ by more in some channels"
    return f"its kernel_quantizer, {name_of(layer.kernel_quantizer)}, does not give two finite values for each filter"
