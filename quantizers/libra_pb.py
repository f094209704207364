"""LibraPB: IR-Net's balanced and standardised binary kernel."""

from __future__ import annotations

import math
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from .ede import EDEState
from .elementwise import at_least_float32
from .kernel import KernelQuantizer

__all__ = ["LibraPB"]


@lq.utils.register_alias("libra_pb")
@lq.utils.register_keras_custom_object
class LibraPB(KernelQuantizer, EDEState):
    r"""The sign of each filter's standardised weights, times a power of two.

    Forward, for the \(n\) weights \(w\) of one filter (see `KernelQuantizer`), with the deviation of \(n - 1\):
    \[ \hat w = \frac{w - \overline w}{\sigma(w)}, \qquad
       q(w) = 2^{s} \, \mathrm{sign}(\hat w), \qquad s = \mathrm{round}(\log_2 \overline{|\hat w|}) \]
    Backward, \(s\) being constant, and on through deviation and mean:
    \[ \partial L / \partial \hat w = \partial L / \partial q \cdot 2^s \cdot k t \, (1 - \tanh^2(t \hat w)) \]

    Input and output: a kernel of any shape with at least two axes, in any float dtype (16-bit kernels are standardised
    in float32). Halves round to even. Nothing is clipped.

    A filter whose weights are all equal has no deviation, and the official code yields NaN: here its standardised
    weights are 0, its signs +1, its scale 1 and its gradient 0. A filter that is quantized already, its weights of both
    signs and of one magnitude that is a power of two, keeps that magnitude. The official `sign(0)` is 0, ours is +1.

    Args:
        k, t: EDE's state, see `EDE`.
        channel_axis: See `KernelQuantizer`.

    References:
        - [Forward and Backward Information Retention for Accurate Binary Neural
            Networks](https://arxiv.org/abs/1909.10788), section 3.2
        - `IRConv2d` in `htqin/IR-Net`
    """

    def __init__(self, k: float = 10.0, t: float = 0.1, **kwargs: Any) -> None:
        super().__init__(k=k, t=t, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        axes = self.filter_axes(inputs.shape)
        latent = at_least_float32(inputs)
        w = standardise(latent, axes)
        magnitude = tf.reduce_mean(tf.abs(w), axis=axes, keepdims=True)
        scale = _power_of_two(tf.round(tf.math.log(magnitude) / tf.math.log(tf.constant(2, w.dtype))))
        scale = tf.where(magnitude == 0, tf.ones_like(scale), scale)
        scale = tf.where(_is_quantized(latent, axes), tf.reduce_max(tf.abs(latent), axes, keepdims=True), scale)
        return super().call(tf.cast(tf.stop_gradient(scale) * self.sign(w), inputs.dtype))

    def latent_weights(self, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        deviation = math.sqrt(2 / signs.shape[1])  # as training would start with
        return (deviation * standardised_weights(signs, high.astype(np.float64))).astype(high.dtype)


def standardise(w: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Return ``w`` with mean 0 and (n - 1)-deviation 1 over ``axes``; 0 where all weights of a filter are equal."""
    count = math.prod(w.shape[axis] for axis in axes)
    centred = w - tf.reduce_mean(w, axis=axes, keepdims=True)
    variance = tf.reduce_sum(tf.square(centred), axis=axes, keepdims=True) / max(count - 1, 1)
    # The mean of equal weights may be off by a rounding error, which the deviation would blow up to 1: compare the
    # weights themselves. The root has an infinite slope at 0, so filters without a variance are taken out before it;
    # those with a NaN stay NaN.
    equal = tf.reduce_max(w, axis=axes, keepdims=True) == tf.reduce_min(w, axis=axes, keepdims=True)
    constant = (equal & (variance >= 0)) | (variance == 0)
    deviation = tf.sqrt(tf.where(constant, tf.ones_like(variance), variance))
    return tf.where(constant, tf.zeros_like(centred), centred / deviation)


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    return tf.pow(tf.constant(2, exponent.dtype), exponent)


def _is_quantized(w: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Return which filters are the quantizer's own output: of both signs, and of one magnitude, a power of two."""
    size = tf.abs(w)
    largest, smallest = (reduce(size, axes, keepdims=True) for reduce in (tf.reduce_max, tf.reduce_min))
    shift = tf.round(tf.math.log(largest) / tf.math.log(tf.constant(2, w.dtype)))
    both = (tf.reduce_max(w, axes, keepdims=True) > 0) & (tf.reduce_min(w, axes, keepdims=True) < 0)
    return (largest == smallest) & (_power_of_two(shift) == largest) & both


def standardised_weights(signs: np.ndarray, scales: np.ndarray) -> np.ndarray:
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
