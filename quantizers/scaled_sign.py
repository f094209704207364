"""ScaledSign: the binary kernel of the official Bi-Real Net and ReActNet code."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf

from .binary_set import averaging_weights
from .elementwise import at_least_float32
from .kernel import KernelQuantizer

__all__ = ["ScaledSign"]


@lq.utils.register_alias("scaled_sign")
@lq.utils.register_keras_custom_object
class ScaledSign(KernelQuantizer):
    r"""Mean absolute value of each filter, times the sign; the gradient does not see the scale.

    Forward, for the weights \(w\) of one filter (see `KernelQuantizer` for what a filter is in each layer):
    \[ q(w) = \overline{|w|} \cdot \mathrm{sign}(w), \qquad \mathrm{sign}(0) = +1 \]
    Backward, the mean being constant:
    \[ \partial L / \partial w = \partial L / \partial q \cdot 1_{|w| \le 1} \]

    Input and output: a kernel of any shape with at least two axes, in any float dtype.

    The paper's rule, and Larq's `MagnitudeAwareSign`, multiply that gradient by the mean as well. With Adam the two
    train alike; with SGD they are different learning rates per filter. The official code's `sign(0)` is 0.

    Args:
        channel_axis: See `KernelQuantizer`.

    References:
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278), [ReActNet](https://arxiv.org/abs/2003.03488)
        - `HardBinaryConv` in `liuzechun/Bi-Real-net` and `liuzechun/ReActNet`
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        axes = self.filter_axes(inputs.shape)

        @tf.custom_gradient
        def quantize(w: tf.Tensor) -> tuple[tf.Tensor, object]:
            scale = tf.reduce_mean(tf.abs(at_least_float32(w)), axis=axes, keepdims=True)

            def grad(dy: tf.Tensor) -> tf.Tensor:
                return tf.where(tf.abs(w) <= 1, dy, tf.zeros_like(dy))

            return tf.cast(scale, w.dtype) * lq.math.sign(w), grad

        return super().call(quantize(inputs))

    def latent_weights(self, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return averaging_weights(signs, high)
