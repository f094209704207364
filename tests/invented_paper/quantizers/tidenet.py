"""The invented paper's quantizers, each of two values that are not +a and -a, and its non-linearity."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..util import operations as ops
from .base import BinaryQuantizer, ChannelParameters
from .binary_set import BinaryActivation
from .kernel import KernelQuantizer

__all__ = ["Tide", "TideKernel", "TideSign"]


@lq.utils.register_alias("tide_kernel")
@lq.utils.register_keras_custom_object
class TideKernel(KernelQuantizer):
    r"""Half of each filter's largest weight where a weight is above the filter's middle, else half of its smallest.

    Forward, for the weights \(w\) of one filter:
    \[ q(w) = \begin{cases} \max w / 2 & w \ge (\max w + \min w) / 2 \\ \min w / 2 & \text{else} \end{cases} \]
    Backward, straight through: \(\partial L / \partial w = \partial L / \partial q\).

    References:
        - Tide Networks, invented for a test
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        axes = self.filter_axes(inputs.shape)

        @tf.custom_gradient
        def quantize(w: tf.Tensor) -> tuple[tf.Tensor, Any]:
            low, high = (reduce(w, axes, keepdims=True) / 2 for reduce in (tf.reduce_min, tf.reduce_max))
            return tf.where(w >= low + high, high, low), lambda dy: dy

        return super().call(quantize(inputs))

    def latent_weights(self, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return super().latent_weights(signs, 2 * low, 2 * high)


@lq.utils.register_alias("tide_sign")
@lq.utils.register_keras_custom_object
class TideSign(BinaryQuantizer):
    r"""0.75 from a learned threshold \(\tau\) on, and -0.25 below it.

    Backward: slope 1 where \(|x - \tau| \le 1\), for \(\tau\) the opposite, summed over the input.

    References:
        - Tide Networks, invented for a test
    """

    LOW, HIGH = -0.25, 0.75

    def build(self, input_shape: Any) -> None:
        self.threshold = self.add_weight("threshold_bias", shape=(), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def quantize(x: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                dx = tf.where(tf.abs(x - threshold) <= 1, dy, tf.zeros_like(dy))
                return dx, -tf.reduce_sum(dx)

            low, high = (tf.constant(value, x.dtype) for value in (self.LOW, self.HIGH))
            return tf.where(x >= threshold, high, tf.where(x < threshold, low, x)), grad  # NaN stays NaN

        return super().call(quantize(inputs, tf.cast(self.threshold, inputs.dtype)))

    def binary_activation(self) -> BinaryActivation:
        return BinaryActivation(self.threshold.numpy(), np.float32(self.LOW), np.float32(self.HIGH))


@lq.utils.register_keras_custom_object
class Tide(ChannelParameters):
    r"""\(f(x) = x + c |x| + d\), with one \(c\) and one \(d\) for each channel, which start at 0.5 and 0."""

    def build(self, input_shape: Any) -> None:
        self.bend = self.add_channel_weight("bend", input_shape, tf.keras.initializers.Constant(0.5))
        self.shift = self.add_channel_weight("shift", input_shape, "zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + self.bend * tf.abs(inputs) + self.shift

    def lower(self, graph: ops.GraphBuilder, x: ops.Node) -> ops.Node:
        """Add what it computes to a lowered graph: two slopes, and a shift."""
        bend, shift = self.bend.numpy().reshape(-1), self.shift.numpy().reshape(-1)
        return graph.add(ops.Affine(offset=shift), graph.add(ops.TwoSlopes(1 + bend, 1 - bend), x))
