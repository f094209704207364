"""Weights with which a network computes without rounding, so that two implementations must agree to the last bit.

All numbers are small multiples of powers of two: kernels of ± 1/16 (or -1/16 and 3/16 where their quantizer has such
values to offer), thresholds and shifts of odd multiples of 1/16, slopes of 0 and ± 1 (FPReLU's positive ones 1/2 and
1), batch normalisations with a variance of 1 and a scale that is a power of two. In float32 every sum of such numbers
is exact in any order, until a network is so deep that they need more than 24 bits.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from onebit.quantizers import latent_weights
from onebit.zoo.checkpoints.latents import as_filters, from_filters
from onebit.zoo.checkpoints.variables import BinaryKernel, binary_kernels, named_variables


def assign_exact_weights(model: tf.keras.Model, seed: int = 0) -> None:
    """Set every variable of a model of the zoo, but for the state of IR-Net's quantizers."""
    rng = np.random.default_rng(seed)
    epsilons = {layer.name: layer.epsilon for layer in model.layers if hasattr(layer, "epsilon")}
    for name, variable in named_variables(model).items():
        layer, kind = name.split("/")[0], name.rsplit("/")[-1]
        shape = tuple(variable.shape)
        if kind == "kernel":
            value = rng.choice([-1, 1], shape) / 16
        elif kind == "moving_variance":
            value = np.full(shape, np.float32(1) - np.float32(epsilons[layer]))
        elif kind == "gamma":
            value = rng.choice([0.25, 0.5], shape)
        elif kind == "positive_slope":
            value = rng.choice([0.5, 1], shape)
        elif kind.endswith("slope"):
            value = rng.choice([-1, 0, 1], shape)
        elif kind in ("k_bias", "t_bias"):
            continue
        else:
            value = (2 * rng.integers(-8, 8, shape) + 1) / 16
        variable.assign(value.astype(np.float32))
    for kernel in binary_kernels(model).values():
        _shift_values(kernel)


def _shift_values(kernel: BinaryKernel) -> None:
    """Give a kernel's filters the values -1/16 and 3/16 if its quantizer can."""
    axes, shape = kernel.filter_axes(), tuple(kernel.variable.shape)
    signs = as_filters(kernel.variable.numpy(), axes) > 0
    low, high = (np.full(len(signs), value, np.float32) for value in (-1 / 16, 3 / 16))
    latent = from_filters(latent_weights(kernel.quantizer, signs, low, high), shape, axes)
    wanted = from_filters(np.where(signs, high[:, None], low[:, None]), shape, axes)
    if np.array_equal(kernel.quantized(latent), wanted):
        kernel.variable.assign(latent)


def exact_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return (count, *shape) multiples of 1/4 between -2 and 2, float32."""
    return (np.random.default_rng(seed).integers(-8, 9, (count, *shape)) / 4).astype(np.float32)
