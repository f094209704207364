"""The sign of the 1-bit activations, with sign(0) = +1."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from .fused import fused


@fused
def _sign(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    x = tf.subtract(x, *threshold) if threshold else x
    one = tf.ones_like(x)
    return tf.where(x >= 0, one, tf.where(x < 0, -one, x))


def sign(x: tf.Tensor, *threshold: tf.Tensor, training: Any) -> tf.Tensor:
    """Return Larq's sign of ``x``, or of the difference to a threshold, in one pass over memory when training.

    Larq's own, which converters look for, takes three passes, and a difference one more. NaN stays NaN in both.
    """
    if training is True:
        return _sign(x, *threshold)
    return lq.math.sign(tf.subtract(x, *threshold) if threshold else x)
