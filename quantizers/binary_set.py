"""The two values that a 1-bit tensor takes: what packed files store, and what devices compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

__all__ = ["BinaryActivation", "BinarySet", "binary_activation", "latent_weights"]

_PROBE = np.array([-2.0, -0.5, -1e-7, 0.0, 1e-7, 0.5, 2.0], np.float32)


@dataclass(frozen=True, eq=False)
class BinarySet:
    """The two values of a 1-bit tensor, such as -1 and +1, or a lower and an upper one for each filter of a kernel.

    Attributes:
        low, high: The values, of shape () for the whole tensor, or (filters,); ``low`` is not above ``high``.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def is_symmetric(self) -> bool:
        """Whether the two differ in their sign alone, everywhere."""
        return bool(np.all(self.low == -self.high))

    def values(self, signs: np.ndarray) -> np.ndarray:
        """Return the tensor, (filters, n), whose upper values are where ``signs``, of that shape, is true."""
        return np.where(signs, self.high[..., None], self.low[..., None])

    @classmethod
    def of_filters(cls, filters: np.ndarray) -> tuple[np.ndarray, BinarySet] | None:
        """Return where quantized filters, (filters, n), have their upper value, and the two values of each filter.

        A filter of one value only, v, is taken for ``high`` = v if that is at least 0, else for ``low`` = v, of a
        symmetric set. ``None`` where a filter has more than two values, or one that is not finite.
        """
        low, high = filters.min(axis=1), filters.max(axis=1)
        constant = low == high
        size = np.abs(high)
        low, high = np.where(constant, -size, low), np.where(constant, size, high)
        signs = filters == high[:, None]
        if not (np.isfinite(filters).all() and (signs | (filters == low[:, None])).all()):
            return None
        return signs, cls(low, high)


@dataclass(frozen=True, eq=False)
class BinaryActivation:
    """What a 1-bit quantizer of activations computes: ``high`` where x >= ``threshold``, and ``low`` elsewhere.

    Attributes:
        threshold, low, high: Each of shape (), or (channels,) for activations whose last axis is the channels'.
    """

    threshold: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def sign(cls, threshold: Any = 0.0) -> BinaryActivation:
        """Return the sign of what x is above a threshold."""
        return cls(np.asarray(threshold), np.asarray(-1, np.float32), np.asarray(1, np.float32))


def binary_activation(quantizer: Any) -> BinaryActivation | None:
    """Return what a quantizer of activations computes, if that is two values on both sides of a threshold.

    Args:
        quantizer: One of this package, which says so itself (`BinaryQuantizer.binary_activation`); or any other
            function of tensors, such as Larq's quantizers, which is tried on a few numbers and found to be the sign or
            not.

    Returns:
        The values, or ``None``.
    """
    own = getattr(quantizer, "binary_activation", None)
    if own is not None:
        return own()
    if not callable(quantizer):
        return None
    signs = np.asarray(quantizer(tf.constant(_PROBE)))
    return BinaryActivation.sign() if np.array_equal(signs, np.where(_PROBE < 0, -1, 1)) else None


def latent_weights(quantizer: Any, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return latent weights that a quantizer of kernels maps to ``high`` where ``signs`` is true, else to ``low``.

    Args:
        quantizer: One of this package, which has an inverse of its own (`BinaryQuantizer.latent_weights`), or another;
            ``None`` for a kernel that nothing quantizes.
        signs: (filters, weights in a filter), bool.
        low, high: (filters,), of the type that the weights shall have.
    """
    own = getattr(quantizer, "latent_weights", None)
    if own is not None:
        return own(signs, low, high)
    if isinstance(quantizer, lq.quantizers.MagnitudeAwareSign):
        return averaging_weights(signs, high)
    return BinarySet(low, high).values(signs)


def upper_values(values: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """Return where quantized weights have the larger of their filter's two values; can be traced.

    A filter of one value alone, which has a scale and no offset, has the larger one if that is positive.

    Args:
        values: What a quantizer of kernels returned.
        axes: Those inside one filter.
    """
    low, high = (reduce(values, axes, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.where(low == high, values > 0, values > (low + high) / 2)


def averaging_weights(signs: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return weights of these signs, (filters, n), whose mean magnitudes are exactly ``means``, (filters,).

    They are so in whatever order they are added, for all of a filter are multiples of one unit, the spacing of
    ``means``' type at their sum: each partial sum is exact.
    """
    kind, count = means.dtype.type, signs.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # where no sum has a mean so large
        guess = means * kind(count)
        # Below a power of two the spacing is half as wide.
        unit = np.spacing(np.nextafter(guess, kind(0))).astype(np.float64)[:, None]
        # Not every sum divides back to the mean, but the one that the mean came from is among the neighbours.
        candidates = np.rint(guess[:, None] / unit) + np.array([0, 1, -1, 2, -2])
        sums = (candidates * unit).astype(kind)
    fits = (sums / kind(count) == means[:, None]) & (sums == candidates * unit)
    units = np.take_along_axis(candidates, np.argmax(fits, axis=1)[:, None], axis=1)
    each, rest = np.divmod(units, count)
    sizes = np.where(np.arange(count) < rest, ((each + 1) * unit).astype(kind), (each * unit).astype(kind))
    return np.where(signs, sizes, -sizes)
