"""From the signs and scales of a binary kernel back to latent weights that quantize to exactly these.

A quantizer's output is a sign for each weight and a magnitude for each filter. Storing only those loses the latent
weights, so loading needs some that the quantizer maps to the same output, bit for bit. Here a kernel is a matrix,
(filters, weights in a filter); `as_filters` and `from_filters` bring it to that form and back.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from ...quantizers import LibraPB


def as_filters(kernel: np.ndarray, axes: list[int]) -> np.ndarray:
    """Return a kernel as a matrix (filters, weights in a filter), where ``axes`` lie inside a filter."""
    channels = [axis for axis in range(kernel.ndim) if axis not in axes]
    matrix = kernel.transpose(channels + axes)
    return matrix.reshape(math.prod(kernel.shape[axis] for axis in channels), -1)


def from_filters(matrix: np.ndarray, shape: tuple[int, ...], axes: list[int]) -> np.ndarray:
    """Return a matrix of `as_filters` as a kernel of ``shape``."""
    order = [axis for axis in range(len(shape)) if axis not in axes] + axes
    return matrix.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def split(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Split quantized filters into signs (bool, True for +1) and magnitudes, one for each filter.

    ``None`` where a filter's values differ in size or are not finite. The sign of zero is +1.
    """
    magnitudes = np.abs(filters[:, 0])
    if not (np.isfinite(magnitudes).all() and (np.abs(filters) == magnitudes[:, None]).all()):
        return None
    return filters >= 0, magnitudes


def latent_filters(
    signs: np.ndarray, magnitudes: np.ndarray | None, quantizer: tf.keras.layers.Layer | None
) -> np.ndarray:
    """Return latent weights that ``quantizer`` maps to ``signs`` (as ±1) times ``magnitudes``.

    Args:
        signs: (filters, weights in a filter), bool.
        magnitudes: (filters,), float32 or float64, finite and not negative; ``None`` where the quantizer's magnitude
            does not depend on the latent weights' size.
        quantizer: Decides how magnitudes come about: a mean size of the weights, or Libra-PB's power of two.

    Returns:
        Weights of the size that training would start with: the magnitude where that is the weights' mean, else the
        deviation of He's initialisation. float32, or the magnitudes' type.
    """
    deviation = math.sqrt(2 / signs.shape[1])
    if magnitudes is None:
        return np.where(signs, np.float32(deviation), np.float32(-deviation))
    if isinstance(quantizer, LibraPB):
        return (deviation * _standardising_to(signs, magnitudes.astype(np.float64))).astype(magnitudes.dtype)
    sizes = _averaging_to(magnitudes, signs.shape[1])
    return np.where(signs, sizes, -sizes)


def _averaging_to(means: np.ndarray, count: int) -> np.ndarray:
    """Return (filters, count) magnitudes whose mean is exactly ``means``, in whatever order they are added.

    All of a filter are multiples of one unit, the spacing of ``means``' type at their sum: each partial sum is exact.
    """
    kind = means.dtype.type
    with np.errstate(over="ignore"):
        guess = means * kind(count)
    # Below a power of two the spacing is half as wide.
    unit = np.spacing(np.nextafter(guess, kind(0))).astype(np.float64)[:, None]
    # Not every sum divides back to the mean, but the one that the mean came from is among the neighbours.
    candidates = np.rint(guess[:, None] / unit) + np.array([0, 1, -1, 2, -2])
    sums = (candidates * unit).astype(kind)
    fits = (sums / kind(count) == means[:, None]) & (sums == candidates * unit)
    units = np.take_along_axis(candidates, np.argmax(fits, axis=1)[:, None], axis=1)
    each, rest = np.divmod(units, count)
    return np.where(np.arange(count) < rest, ((each + 1) * unit).astype(kind), (each * unit).astype(kind))


def _standardising_to(signs: np.ndarray, scales: np.ndarray) -> np.ndarray:
    r"""Return weights with mean 0 and deviation 1 whose standardised mean size rounds to ``scales`` (powers of two).

    Give the positive weights of a filter shares that sum to 1 and the negative ones shares that sum to -1. Then the
    mean is 0, and with S the sum of the squared shares the standardised mean size is \(2 \sqrt{(n - 1) / S} / n\). It
    is largest for equal shares; moving a part \(\lambda\) of both sums onto one weight each lowers it as far as needed:
    \(S = S_0 + \lambda^2 (2 - S_0)\) with \(S_0 = 1/p + 1/q\) for p positive and q negative weights.

    A filter without negative weights is one whose weights are all equal, as Libra-PB defines it.
    """
    count = signs.shape[1]
    positive = signs.sum(axis=1, keepdims=True)
    negative = count - positive
    balanced = (positive > 0) & (negative > 0)
    size = np.where(signs, np.maximum(positive, 1), np.maximum(negative, 1))  # how many weights share a side
    equal = 1 / np.maximum(positive, 1) + 1 / np.maximum(negative, 1)
    with np.errstate(divide="ignore"):
        wanted = 4 * (count - 1) / (count * scales[:, None]) ** 2
    lowest, highest = np.maximum(wanted / 2, equal), np.minimum(wanted * 2, 2)  # what still rounds to the scale
    target = np.where((wanted >= lowest) & (wanted < highest), wanted, (lowest + highest) / 2)
    part = np.sqrt(np.clip((target - equal) / np.maximum(2 - equal, 1e-30), 0, 1))
    first = np.zeros_like(signs)
    for side in (signs, ~signs):
        first |= side & (np.cumsum(side, axis=1) == 1)
    shares = np.where(signs, 1.0, -1.0) * ((1 - part) / size + part * first)
    deviation = np.sqrt((shares**2).sum(axis=1, keepdims=True) / max(count - 1, 1))
    return np.where(balanced, shares / deviation, 1.0)
