"""AdaBin's adaptive binary sets: two values of its own for each filter, and two for each layer's input."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from .base import INPUT, BinaryQuantizer, get_initializer
from .binary_set import BinaryActivation
from .ede import EDEState
from .elementwise import at_least_float32, fused, fused_in_training
from .kernel import KernelQuantizer

__all__ = ["AdaBinActivation", "AdaBinKernel"]


@lq.utils.register_alias("adabin_kernel")
@lq.utils.register_keras_custom_object
class AdaBinKernel(KernelQuantizer, EDEState):
    r"""The mean of each filter, plus or minus its deviation.

    Forward, for the \(n\) weights \(w\) of one filter (see `KernelQuantizer`), with the deviation of \(n\):
    \[ \beta = \overline w, \qquad \alpha = \sqrt{\overline{(w - \beta)^2}}, \qquad u = (w - \beta) / \alpha, \qquad
       q(w) = \alpha \, \mathrm{sign}(u) + \beta \]
    Backward, with EDE's state \((k, t)\), and on through both \(\alpha\) and \(\beta\) of both formulas:
    \[ \partial \, \mathrm{sign}(u) / \partial u = k t \, (1 - \tanh^2(t u)) \]

    Input and output: a kernel of any shape with at least two axes, in any float dtype. It is computed in float64 and
    rounded once, which is what lets `latent_weights` find weights with given values. Nothing is clipped.

    A filter whose weights are all equal (as that of a single weight always is) has no deviation, and the official code
    yields NaN: here both of its values are that weight, and its gradient is the mean's alone. The official `sign(0)`
    is 0, ours is +1.

    Args:
        k, t: EDE's state, see `EDE`.
        channel_axis: See `KernelQuantizer`.

    References:
        - [AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets](https://arxiv.org/abs/2208.08084)
        - `AdaBin_Conv2d` in `huawei-noah/Efficient-Computing`, `BinaryNetworks/AdaBin/cifar10/utils/binarylib.py`
    """

    def __init__(self, k: float = 10.0, t: float = 0.1, **kwargs: Any) -> None:
        super().__init__(k=k, t=t, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        axes = self.filter_axes(inputs.shape)
        w = tf.cast(inputs, tf.float64)
        mean = tf.reduce_mean(w, axis=axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(w - mean), axis=axes, keepdims=True)
        # The mean of equal weights may be off by a rounding error: compare the weights themselves. The root has an
        # infinite slope at 0, so such filters are taken out before it.
        largest = tf.reduce_max(w, axis=axes, keepdims=True)
        equal = tf.reduce_all(tf.equal(w, largest), axis=axes, keepdims=True) | tf.equal(variance, 0)
        deviation = tf.sqrt(tf.where(equal, tf.ones_like(variance), variance))
        signs = self.sign(tf.where(equal, tf.zeros_like(w), (w - mean) / deviation))
        # Adding the mean's own difference to the weight keeps its gradient.
        centre = tf.where(equal, mean + tf.stop_gradient(largest - mean), mean)
        values = tf.where(equal, tf.zeros_like(variance), deviation) * signs + centre
        return super().call(tf.cast(values, inputs.dtype))

    def latent_weights(self, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return weights that this quantizer maps to ``high`` where ``signs`` are True, and to ``low`` elsewhere.

        They are exact, bit for bit, for float32 values, unless one of the two is less than a thousandth of the other.
        For float64 values the last digit may differ.

        Args:
            signs: (filters, weights in a filter), bool.
            low, high: (filters,), finite, both float32 or both float64.

        Returns:
            Latent weights, (filters, weights in a filter), of the dtype of ``low``.
        """
        swapped = low > high
        signs, low, high = signs ^ swapped[:, None], np.where(swapped, high, low), np.where(swapped, low, high)
        latents = np.where(signs, high[:, None], low[:, None])
        left = np.flatnonzero(signs.any(axis=1) & ~signs.all(axis=1) & (low < high))
        rng = np.random.default_rng(0)
        # Those that serve a layer of 16 bits as well, where there are any.
        for dtype in [_narrowest(low, high)] * 500 + [low.dtype] * 500:
            if not left.size:
                break
            latents[left] = _random_latents(signs[left], low[left], high[left], dtype, rng)
            left = left[~_quantize_to(latents[left], signs[left], low[left], high[left], dtype)]
        return latents


def _random_latents(
    signs: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype, rng: np.random.Generator
) -> np.ndarray:
    r"""Return weights whose mean -+ deviation are nearly ``low`` and ``high``, above and below as ``signs`` say.

    With p weights above the mean b and q below, p weights of \(b + a \sqrt{q / p}\) and q of \(b - a \sqrt{p / q}\)
    have the deviation a. Spread at random, their rounding errors are as well, and average out.

    They have ``dtype`` but for a small part: a layer that rounds them to this compute dtype gets the same values.
    """
    above = signs.sum(axis=1, keepdims=True)
    side = np.where(signs, above, signs.shape[1] - above)
    w = np.where(signs, 1, -1) * np.sqrt(signs.shape[1] / side - 1) * rng.uniform(0.75, 1.25, signs.shape)
    low, high = (each.astype(np.float64)[:, None] for each in (low, high))

    def with_moments(w: np.ndarray) -> np.ndarray:
        standard = (w - w.mean(axis=1, keepdims=True)) / w.std(axis=1, keepdims=True)
        return (high + low) / 2 + (high - low) / 2 * standard

    return with_moments(with_moments(w).astype(dtype).astype(np.float64))


def _quantize_to(
    latents: np.ndarray, signs: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """Return for each filter whether it quantizes as wanted, also in ``dtype``, whatever the order of summation."""
    fits = np.ones(len(latents), bool)
    for kind in {low.dtype, dtype}:
        w = latents.astype(kind).astype(np.float64)
        mean, deviation = w.mean(axis=1), w.std(axis=1)
        fits &= ((w > mean[:, None]) == signs).all(axis=1)
        for wanted, found in ((low, mean - deviation), (high, mean + deviation)):
            unit = np.spacing(np.abs(wanted).astype(kind)).astype(np.float64)
            fits &= np.abs(found - wanted) < 0.499 * unit
    return fits


def _narrowest(*values: np.ndarray) -> np.dtype:
    """Return bfloat16 or float16 if it holds all the values, else their own dtype."""
    for dtype in (tf.bfloat16.as_numpy_dtype, np.float16):
        with np.errstate(over="ignore"):
            if all(np.array_equal(each.astype(dtype).astype(each.dtype), each) for each in values):
                return np.dtype(dtype)
    return values[0].dtype


@fused
def _binary(x: tf.Tensor, threshold: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    return tf.where(x >= threshold, high, tf.where(x < threshold, low, x))


@fused
def _gradient(x: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    u = (x - beta) / alpha
    inside = tf.abs(u) < 1
    slope = tf.where(inside, 2 - 2 * tf.abs(u), tf.zeros_like(u))
    signs = tf.sign(alpha) * tf.where(x >= beta, tf.ones_like(x), -tf.ones_like(x))
    return dy * slope, dy * (signs - tf.where(inside, u * slope, tf.zeros_like(u)))


@lq.utils.register_alias("adabin_activation")
@lq.utils.register_keras_custom_object
class AdaBinActivation(BinaryQuantizer):
    r"""One of two values, by which side of a learned threshold the input is on; their distance is learned as well.

    Forward, with two scalars for the layer, \(\alpha\) and \(\beta\):
    \[ u = (x - \beta) / \alpha, \qquad q(x) = \alpha \, (\mathrm{sign}(u) + \beta) \]
    Backward, with Bi-Real Net's slope of the sign, \(d = \max(0, 2 - 2 |u|)\), the sums being over all of the input:
    \[ \partial L / \partial x = \partial L / \partial q \cdot d, \qquad
       \partial L / \partial \alpha = \sum \partial L / \partial q \cdot (\mathrm{sign}(u) + \beta - u d), \qquad
       \partial L / \partial \beta = \sum \partial L / \partial q \cdot (\alpha - d) \]

    Input and output: activations of any shape and float dtype. It is a trainable quantizer for `input_quantizer=`.

    The two values are \(\alpha \beta \pm |\alpha|\): this is the official code, whose weights need it; the paper has
    \(\beta \pm \alpha\). A negative \(\alpha\), which nothing prevents, acts as its magnitude in all but the middle of
    the two. At the threshold the output is the higher value; the official `sign(0)` is 0.

    Args:
        alpha_initializer, beta_initializer: Start of \(\alpha\) and of \(\beta\): numbers, or Keras initializers or
            their names.

    Raises:
        ValueError: When a layer calls it: it is not the layer's `input_quantizer`.

    References:
        - [AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets](https://arxiv.org/abs/2208.08084)
        - `BinaryActivation` in `huawei-noah/Efficient-Computing`, `BinaryNetworks/AdaBin/cifar10/utils/binarylib.py`
    """

    def __init__(self, alpha_initializer: Any = 1.0, beta_initializer: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = get_initializer(alpha_initializer)
        self.beta_initializer = get_initializer(beta_initializer)

    def build(self, input_shape: Any) -> None:
        self.alpha = self.add_weight("alpha_bias", shape=(), initializer=self.alpha_initializer)
        self.beta = self.add_weight("beta_bias", shape=(), initializer=self.beta_initializer)
        super().build(input_shape)

    def _bind(self, layer: tf.keras.layers.Layer, roles: list[str]) -> None:
        if any(role != INPUT for role in roles):
            raise ValueError(
                f"AdaBinActivation quantizes activations and cannot be the {roles[-1]} of {type(layer).__name__} "
                f"({layer.name}). For kernels see AdaBinKernel."
            )

    def values(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the two values of the output, the lower one first, in the dtype of the variables."""
        both = self.alpha * (self.beta - 1), self.alpha * (self.beta + 1)
        return tf.minimum(*both), tf.maximum(*both)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        @tf.custom_gradient
        def quantize(
            x: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor, low: tf.Tensor, high: tf.Tensor
        ) -> tuple[tf.Tensor, Any]:
            def grad(dy: tf.Tensor) -> list[tf.Tensor | None]:
                dx, dalpha = _gradient(x, alpha, beta, dy)
                # In 16 bits millions of small terms would stop adding up.
                total, total_dx, total_dalpha = (tf.reduce_sum(at_least_float32(each)) for each in (dy, dx, dalpha))
                return [dx, total_dalpha + beta * total, alpha * total - total_dx, None, None]

            return fused_in_training(_binary, training)(
                x, *(tf.cast(each, x.dtype) for each in (beta, low, high))
            ), grad

        dtype = at_least_float32(inputs).dtype
        alpha, beta = (tf.cast(each, dtype) for each in (self.alpha, self.beta))
        return super().call(quantize(inputs, alpha, beta, *self.values()))

    def binary_activation(self) -> BinaryActivation:
        low, high = self.values()
        return BinaryActivation(self.beta.numpy(), low.numpy(), high.numpy())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha_initializer": tf.keras.initializers.serialize(self.alpha_initializer),
            "beta_initializer": tf.keras.initializers.serialize(self.beta_initializer),
        }
