"""Elementwise formulas as one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def fused(formula: Callable[..., Any]) -> tf.types.experimental.PolymorphicFunction:
    """Decorate an elementwise function of tensors, which XLA compiles once for each shape and dtype.

    Outside a compiler each operation reads and writes whole tensors, and on CPUs TensorFlow's are slow in 16 bits: a
    gradient of five operations takes up to twice as long in float32, and three times in bfloat16. For what runs in
    training only: TensorFlow Lite and its like do not take compiled functions. Reductions do not belong inside, which
    XLA does in one thread.
    """
    return tf.function(formula, jit_compile=True, autograph=False)


def fused_in_training(formula: Any, training: Any) -> Callable[..., Any]:
    """Return a `fused` formula as it is where ``training`` is certain, and elsewhere the plain function."""
    return formula if training is True else formula.python_function
