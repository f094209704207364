"""ApproxSign: Bi-Real Net's sign for activations, with a tent for a gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .base import BinaryQuantizer
from .elementwise import fused, sign, tent

__all__ = ["ApproxSign"]


@fused
def _gradient(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy * tent(x)


# Under a name of its own: "ApproxSign" and "approx_sign" are Larq's.
@tf.keras.utils.register_keras_serializable("onebit")
class ApproxSign(BinaryQuantizer):
    r"""The sign, with a gradient that is the closer to the sign's the nearer the value is to 0.

    Forward:
    \[ q(x) = \mathrm{sign}(x), \qquad \mathrm{sign}(0) = +1 \]
    Backward:
    \[ \partial q / \partial x = \max(0, 2 - 2 |x|) \]

    Input and output: activations or kernels of any shape and float dtype. It computes what Larq's own does, in less
    time; by the name ``"approx_sign"`` a layer gets Larq's. The official code's `sign(0)` is 0.

    References:
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278), section 3.2
    """

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        @tf.custom_gradient
        def approx_sign(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return sign(x, training=training), lambda dy: _gradient(x, dy)

        return super().call(approx_sign(inputs))
