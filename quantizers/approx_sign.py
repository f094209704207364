"""ApproxSign: Bi-Real Net's sign for activations, with a tent for a gradient."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from .base import BinaryQuantizer
from .fused import fused
from .sign import sign
from .stated import Stated


def tent(x: tf.Tensor) -> tf.Tensor:
    """Return max(0, 2 - 2 abs(x)), in any float dtype."""
    return tf.nn.relu(2 - 2 * tf.abs(x))


@fused
def _gradient(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy * tent(x)


@lq.utils.register_alias("approx_sign")
@lq.utils.register_keras_custom_object
class ApproxSign(Stated, lq.quantizers.ApproxSign):
    r"""The sign, with a gradient that is the closer to the sign's the nearer the value is to 0.

    Forward:
    \[ q(x) = \mathrm{sign}(x), \qquad \mathrm{sign}(0) = +1 \]
    Backward:
    \[ \partial q / \partial x = \max(0, 2 - 2 |x|) \]

    Input and output: activations or kernels of any shape and float dtype. It computes what Larq's own does,
    in less time, and takes its place in the registry: `"approx_sign"` is this one wherever onebit is imported. The
    official code's `sign(0)` is 0.

    Args:
        metrics: Larq's quantizer metrics: ``["flip_ratio"]`` or None.

    References:
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278), section 3.2
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("autocast", False)  # the output has the dtype of the input, whatever the policy
        super().__init__(**kwargs)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        @tf.custom_gradient
        def approx_sign(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return sign(x, training=training), lambda dy: _gradient(x, dy)

        # Past Larq's own sign, to its metrics.
        return super(lq.quantizers.ApproxSign, self).call(approx_sign(inputs))

    binary_activation = BinaryQuantizer.binary_activation
    latent_weights = BinaryQuantizer.latent_weights
