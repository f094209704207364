"""Elementwise formulas as one pass over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .base import wide


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
    def computed_wide(x: tf.Tensor, *others: tf.Tensor) -> Any:
        results = formula(*(wide(each) for each in (x, *others)))
        return tf.nest.map_structure(lambda result: tf.cast(result, x.dtype), results)

    return tf.function(computed_wide, jit_compile=True, autograph=False)


def fused_in_training(formula: Any, training: Any, otherwise: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a `fused` formula where ``training`` is certain, and elsewhere ``otherwise``, or the plain function."""
    return formula if training is True else otherwise or formula.python_function.__wrapped__
