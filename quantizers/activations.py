"""The real-valued non-linearities that the papers put between their binary convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..util.graph import GraphBuilder, Node
from ..util.operations import Add, Affine, Clip, TwoSlopes
from .base import ChannelParameters, NoAutoGraph, get_initializer, sum_to_channels
from .elementwise import fused, fused_in_training

__all__ = ["FPReLU", "HardTanh", "LeakyClip", "RPReLU", "ShiftedReLU"]

Formula = Callable[..., Any]


def _with_gradient(formula: Any, gradient: Formula, training: Any) -> Formula:
    """Return a `fused` ``formula(x, *parameters)``, fused in training only, with a gradient of its own.

    ``gradient(x, *parameters, dy)`` returns the gradient of ``x``, then what is summed to that of each parameter.
    """

    @tf.custom_gradient
    def function(x: tf.Tensor, *parameters: tf.Tensor) -> tuple[tf.Tensor, Formula]:
        def grad(dy: tf.Tensor) -> list[tf.Tensor]:
            dx, *rest = gradient(x, *parameters, dy)
            return [dx, *(sum_to_channels(value, p) for value, p in zip(rest, parameters, strict=True))]

        return fused_in_training(formula, training)(x, *parameters), grad

    return function


@fused
def _rprelu(x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor, shift_out: tf.Tensor) -> tf.Tensor:
    x = x + shift_in
    return tf.where(x > 0, x, slope * x) + shift_out


@fused
def _rprelu_slopes(x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    x = x + shift_in
    return tf.where(x > 0, dy, slope * dy), tf.minimum(x, 0) * dy


def _rprelu_gradient(
    x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor, shift_out: tf.Tensor, dy: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    dx, dslope = _rprelu_slopes(x, shift_in, slope, dy)
    return dx, dx, dslope, dy


@fused
def _fprelu(x: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    return x * tf.where(x > 0, positive, negative)


@fused
def _fprelu_gradient(
    x: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, dy: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return dy * tf.where(x > 0, positive, negative), tf.maximum(x, 0) * dy, tf.minimum(x, 0) * dy


def _clip(x: tf.Tensor) -> tf.Tensor:
    one = tf.ones((), x.dtype)
    return tf.minimum(tf.maximum(x, -one), one)  # in this order of arguments NaN stays NaN, but not with XLA


@fused
def _fused_clip(x: tf.Tensor) -> tf.Tensor:
    one = tf.ones_like(x)
    return tf.where(x > 1, one, tf.where(x < -1, -one, x))


@fused
def _hardtanh_gradient(y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.abs(y) < 1, dy, tf.zeros_like(dy))


@lq.utils.register_keras_custom_object
class RPReLU(ChannelParameters):
    r"""ReActNet's PReLU with a learned shift before and after it, all channel-wise.

    Forward, with shift_in \(a\), slope \(\beta\) and shift_out \(b\), which start at 0, 0.25 and 0:
    \[ f(x) = b + \begin{cases} x + a & x + a > 0 \\ \beta (x + a) & x + a \le 0 \end{cases} \]
    Backward: the derivative of that; at \(x + a = 0\) the slope is \(\beta\), as in PyTorch (Keras' own PReLU has 0).

    Input and output: activations of any rank, channels along `axis`. Both shifts are *added*, as in the official code;
    the paper writes \(x - \gamma\) with \(\gamma = -a\), and \(\zeta = b\).

    Args:
        axis: The channel axis.
        slope_initializer: Start of the slope: a number, or a Keras initializer or its name.

    References:
        - [ReActNet](https://arxiv.org/abs/2003.03488), section 4.2; `mobilenet/2_step2/reactnet.py` in
            `liuzechun/ReActNet`
    """

    def __init__(self, axis: int = -1, slope_initializer: Any = 0.25, **kwargs: Any) -> None:
        super().__init__(axis=axis, **kwargs)
        self.slope_initializer = get_initializer(slope_initializer)

    def build(self, input_shape: Any) -> None:
        self.shift_in = self.add_channel_weight("shift_in", input_shape, "zeros")
        self.slope = self.add_channel_weight("slope", input_shape, self.slope_initializer)
        self.shift_out = self.add_channel_weight("shift_out", input_shape, "zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        parameters = [tf.convert_to_tensor(each) for each in (self.shift_in, self.slope, self.shift_out)]
        return _with_gradient(_rprelu, _rprelu_gradient, training)(inputs, *parameters)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph: PReLU between two additions."""
        if not self._is_last_axis():
            return NotImplemented
        x = graph.add(Affine(offset=self.shift_in.numpy()), x)
        x = graph.add(TwoSlopes(np.ones(1, np.float32), self.slope.numpy()), x)
        return graph.add(Affine(offset=self.shift_out.numpy()), x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope_initializer": tf.keras.initializers.serialize(self.slope_initializer)}


@lq.utils.register_keras_custom_object
class FPReLU(ChannelParameters):
    r"""FTBNN's fully parametric ReLU: both slopes are learned, channel-wise.

    Forward:
    \[ f(x) = \begin{cases} p x & x > 0 \\ q x & x \le 0 \end{cases} \]
    Backward: the derivative of that; at 0 the slope is \(q\).

    Input and output: activations of any rank, channels along `axis`.

    The paper's start values are not known: 1 and 0.25, which start as PyTorch's PReLU does, are *our choice*, and those
    of AdaBin's code, whose "Maxout" is this layer (but for its slope at 0, which is 0). The slopes are not constrained
    and may turn negative.

    Args:
        axis: The channel axis.
        positive_initializer, negative_initializer: Start of \(p\) and of \(q\): numbers, or Keras initializers or
            their names.

    References:
        - [FTBNN: Rethinking Non-linearity for 1-bit CNNs and Going Beyond](https://arxiv.org/abs/2010.09294)
    """

    def __init__(
        self, axis: int = -1, positive_initializer: Any = 1.0, negative_initializer: Any = 0.25, **kwargs: Any
    ) -> None:
        super().__init__(axis=axis, **kwargs)
        self.positive_initializer = get_initializer(positive_initializer)
        self.negative_initializer = get_initializer(negative_initializer)

    def build(self, input_shape: Any) -> None:
        self.positive_slope = self.add_channel_weight("positive_slope", input_shape, self.positive_initializer)
        self.negative_slope = self.add_channel_weight("negative_slope", input_shape, self.negative_initializer)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        parameters = [tf.convert_to_tensor(each) for each in (self.positive_slope, self.negative_slope)]
        return _with_gradient(_fprelu, _fprelu_gradient, training)(inputs, *parameters)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        if not self._is_last_axis():
            return NotImplemented
        return graph.add(TwoSlopes(self.positive_slope.numpy(), self.negative_slope.numpy()), x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "positive_initializer": tf.keras.initializers.serialize(self.positive_initializer),
            "negative_initializer": tf.keras.initializers.serialize(self.negative_initializer),
        }


@lq.utils.register_keras_custom_object
class ShiftedReLU(NoAutoGraph, tf.keras.layers.Layer):
    r"""McDonnell's shifted ReLU, \(f(x) = \max(-1, x)\), which replaces batch normalisation and ReLU.

    Backward: slope 1 above -1, and 0 at and below it. Input and output: any shape.

    References:
        - [Single-bit-per-weight deep convolutional neural networks without batch-normalization layers for embedded
            systems](https://arxiv.org/abs/1907.06916); `resnet_layer_srelu` in `McDonnell-Lab/1-bit-per-weight`
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.where(inputs <= -1, -tf.ones_like(inputs), inputs)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(Clip(-1.0), x)


@lq.utils.register_keras_custom_object
class LeakyClip(NoAutoGraph, tf.keras.layers.Layer):
    r"""Identity on [-1, 1], slope 0.1 outside: Bi-Real Net's stand-in for the sign while pre-training.

    \[ f(x) = \begin{cases} x & |x| \le 1 \\ 0.1 x + 0.9 \, \mathrm{sign}(x) & |x| > 1 \end{cases} \]
    Backward: slope 1 on [-1, 1], both ends included, and `slope` outside. Input and output: any shape.

    Args:
        slope: The slope outside [-1, 1]; 0 makes it a plain clip, the next stage of the pre-training.

    References:
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278), section 3.3; `Leakyclip` in `liuzechun/Bi-Real-net`
    """

    def __init__(self, slope: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outside = self.slope * inputs + (1 - self.slope) * tf.sign(inputs)
        return tf.where(tf.abs(inputs) <= 1, inputs, outside)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph: the clipped part, and the slope times what was clipped off."""
        clipped = graph.add(Clip(-1.0, 1.0), x)
        rest = graph.add(Add(), x, graph.add(Affine(np.float32(-1)), clipped))
        return graph.add(Add(), clipped, graph.add(Affine(np.float32(self.slope)), rest))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope": self.slope}


@lq.utils.register_keras_custom_object
class HardTanh(NoAutoGraph, tf.keras.layers.Layer):
    r"""The clip to [-1, 1] that IR-Net has for a non-linearity, \(f(x) = \max(-1, \min(1, x))\).

    Backward: slope 1 inside, and 0 outside and at both ends, as in PyTorch. Input and output: any shape.

    References:
        - [Forward and Backward Information Retention for Accurate Binary Neural
            Networks](https://arxiv.org/abs/1909.10788); `nn.Hardtanh` in `htqin/IR-Net`
    """

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        @tf.custom_gradient
        def hardtanh(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
            y = fused_in_training(_fused_clip, training, _clip)(x)
            # Of the result, which the next layer keeps anyway, so that the input need not be kept.
            return y, lambda dy: _hardtanh_gradient(y, dy)

        return hardtanh(inputs)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(Clip(-1.0, 1.0), x)
