"""McDonnellSign: a sign with a constant scale, for networks with 1-bit weights and real activations."""

from __future__ import annotations

import math
from typing import Any

import larq as lq
import tensorflow as tf

from .kernel import KernelQuantizer

__all__ = ["McDonnellSign"]


@lq.utils.register_alias("mcdonnell_sign")
@lq.utils.register_keras_custom_object
class McDonnellSign(KernelQuantizer):
    r"""The sign, times the standard deviation that the layer's weights were initialised with.

    Forward, with \(n\) weights in a filter (\(k_h k_w c_{in}\) for a convolution; see `KernelQuantizer`):
    \[ q(w) = \frac{g}{\sqrt{n}} \, \mathrm{sign}(w), \qquad \mathrm{sign}(0) = +1 \]
    Backward, straight through, with neither the scale nor a clip:
    \[ \partial L / \partial w = \partial L / \partial q \]

    Input and output: a kernel of any shape with at least two axes, in any float dtype. The official code's `sign(0)`
    is 0 in training, but its stored bits hold a zero as +1, as here. Latent weights are never clipped.

    Args:
        gain: \(g\), a positive number. \(\sqrt 2\) (He) for residual networks, 2 for the paper's plain ones
            (appendix B).
        channel_axis: See `KernelQuantizer`.

    Raises:
        ValueError: `gain` is not positive and finite.

    References:
        - [Training wide residual networks for deployment using a single bit for each
            weight](https://arxiv.org/abs/1802.08530), section 2.1
        - `BinaryConv2D` in `McDonnell-Lab/1-bit-per-weight`
    """

    def __init__(self, gain: float = math.sqrt(2.0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (math.isfinite(gain) and gain > 0):
            raise ValueError(f"gain of McDonnellSign must be a positive number, not {gain!r}.")
        self.gain = gain

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        weights_per_filter = math.prod(inputs.shape[axis] for axis in self.filter_axes(inputs.shape))
        scale = self.gain / math.sqrt(weights_per_filter)

        @tf.custom_gradient
        def quantize(w: tf.Tensor) -> tuple[tf.Tensor, object]:
            return tf.constant(scale, w.dtype) * lq.math.sign(w), lambda dy: dy

        return super().call(quantize(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}
