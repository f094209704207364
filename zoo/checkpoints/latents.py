"""A kernel as a matrix, (filters, weights in a filter), and back; and latent weights of which only the signs are known.

A packed file keeps of each binary kernel its signs, and two values for each filter. Quantizers bring the way back from
these to latent weights, `quantizers.latent_weights`.
"""

from __future__ import annotations

import math

import numpy as np


def as_filters(kernel: np.ndarray, axes: list[int]) -> np.ndarray:
    """Return a kernel as a matrix (filters, weights in a filter), where ``axes`` lie inside a filter."""
    channels = [axis for axis in range(kernel.ndim) if axis not in axes]
    matrix = kernel.transpose(channels + axes)
    return matrix.reshape(math.prod(kernel.shape[axis] for axis in channels), -1)


def from_filters(matrix: np.ndarray, shape: tuple[int, ...], axes: list[int]) -> np.ndarray:
    """Return a matrix of `as_filters` as a kernel of ``shape``."""
    order = [axis for axis in range(len(shape)) if axis not in axes] + axes
    return matrix.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def he_weights(signs: np.ndarray) -> np.ndarray:
    """Return float32 weights of these signs and of the deviation of He's initialisation, both (filters, n).

    For quantizers whose values follow from the signs, or from the shape.
    """
    deviation = math.sqrt(2 / signs.shape[1])
    if math.frexp(deviation)[0] == 0.5:  # a power of two, which Libra-PB would take for its own output
        deviation *= 1.0625
    return np.where(signs, np.float32(deviation), np.float32(-deviation))
