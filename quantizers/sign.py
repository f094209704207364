"""The sign of the 1-bit activations, with sign(0) = +1."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from .fused import fused, fused_in_training


@fused
def _sign(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    x = _above(x, *threshold)
    one = tf.ones_like(x)
    return tf.where(x >= 0, one, tf.where(x < 0, -one, x))


def _larq_sign(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    return lq.math.sign(_above(x, *threshold))


def _above(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    return tf.subtract(x, *threshold) if threshold else x


def sign(x: tf.Tensor, *threshold: tf.Tensor, training: Any) -> tf.Tensor:
    """Return Larq's sign of ``x``, or of what it is above a threshold, in one pass over memory when training.

    Larq's own, which converters look for, takes three passes, and the difference one more. NaN stays NaN in both.
    """
    return fused_in_training(_sign, training, _larq_sign)(x, *threshold)
