"""Elementwise formulas as one pass over memory, among them the sign of 1-bit activations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import larq as lq
import tensorflow as tf


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Return ``x`` in at least float32: means and deviations are not taken in 16 bits."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def fused(formula: Callable[..., Any]) -> tf.types.experimental.PolymorphicFunction:
    """Decorate an elementwise function of tensors, which XLA compiles once for each shape and dtype.

    Outside a compiler each operation reads and writes whole tensors, and on CPUs TensorFlow's are slow in 16 bits: a
    gradient of five operations takes up to twice as long in float32, and three times in bfloat16. For what runs in
    training only: TensorFlow Lite and its like do not take compiled functions. Reductions do not belong inside, which
    XLA does in one thread.

    The formula is computed in at least float32, and its results have the dtype of the first tensor: in bfloat16 XLA
    would round after every operation, which takes longer than the operation.
    """

    @functools.wraps(formula)
    def computed(x: tf.Tensor, *others: tf.Tensor) -> Any:
        results = formula(*(at_least_float32(each) for each in (x, *others)))
        return tf.nest.map_structure(lambda result: tf.cast(result, x.dtype), results)

    return tf.function(computed, jit_compile=True, autograph=False)


def fused_in_training(formula: Any, training: Any, otherwise: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a `fused` formula where ``training`` is certain, and elsewhere ``otherwise``, or the plain function."""
    return formula if training is True else otherwise or formula.python_function.__wrapped__


def sign(x: tf.Tensor, *threshold: tf.Tensor, training: Any) -> tf.Tensor:
    """Return the sign of ``x``, or of what it is above a threshold, in one pass over memory when training.

    The sign of 0 is +1, and that of NaN is NaN. Elsewhere than in training it is Larq's, which converters look for, and
    which takes three passes, and the difference one more.
    """
    return fused_in_training(_fused_sign, training, _larq_sign)(x, *threshold)


@fused
def _fused_sign(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    x = _above(x, *threshold)
    one = tf.ones_like(x)
    return tf.where(x >= 0, one, tf.where(x < 0, -one, x))


def _larq_sign(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    return lq.math.sign(_above(x, *threshold))


def _above(x: tf.Tensor, *threshold: tf.Tensor) -> tf.Tensor:
    return tf.subtract(x, *threshold) if threshold else x


def tent(x: tf.Tensor) -> tf.Tensor:
    """Return max(0, 2 - 2 abs(x)), in any float dtype: the slope of Bi-Real Net's sign."""
    return tf.nn.relu(2 - 2 * tf.abs(x))
