"""The two values of a 1-bit tensor, and the way from them back to latent weights."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import quantizers
from onebit.quantizers import (
    EDE,
    ApproxSign,
    BinarySet,
    LibraPB,
    MagnitudeAwareSign,
    McDonnellSign,
    RSign,
    ScaledSign,
    binary_activation,
    latent_weights,
)

SIZES = [1, 2, 3, 4, 5, 7, 9, 10, 16, 27, 64, 100, 144, 147, 255, 256, 257, 576, 1000, 1152, 2304, 4608, 5000]
FILTERS = 200


def random_filters(rng, count):
    """Return filters of many kinds and magnitudes, (count, FILTERS), float64."""
    filters = rng.standard_normal((count, FILTERS))
    filters[:, 20:40] **= 3  # heavy tails
    filters[:, 40:60] = rng.standard_cauchy((count, 20))
    filters[:, 60:80] = rng.choice([-1.0, 1.0], (count, 20))
    filters[:, 80:100] = np.abs(filters[:, 80:100])  # one sign only
    filters[0, 100:120] *= 10.0 ** rng.uniform(0, 6, 20)  # one weight outweighs the others
    filters *= 10.0 ** rng.uniform(-25, 25, FILTERS)
    filters[:, 120] = 0
    filters[:, 121] = 3.25
    filters[:, 122] = -1e-3
    filters[0, 123:130] = 0
    return filters


def round_trip(quantizer, kernel):
    """Return a kernel's quantized values, those of the latent weights made from them, and these; all (n, filters)."""
    quantized = quantizer(kernel).numpy()
    signs, binary = BinarySet.of_filters(quantized.T)
    np.testing.assert_array_equal(binary.values(signs), quantized.T)
    latent = latent_weights(quantizer, signs, binary.low, binary.high).T
    assert latent.dtype == quantized.dtype and np.isfinite(latent).all()
    return quantized, quantizer(latent).numpy(), latent


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "quantizer", [ScaledSign, MagnitudeAwareSign, LibraPB, McDonnellSign, EDE, lq.quantizers.SteSign]
)
def test_random_filters_come_back_exactly(quantizer, dtype):
    rng = np.random.default_rng(1)
    tf.keras.backend.set_floatx(np.dtype(dtype).name)
    for count in SIZES:
        if quantizer is LibraPB and count == 2:
            continue  # always on the brink between two scales
        kernel = random_filters(rng, count).astype(dtype)
        quantized, again, latent = round_trip(quantizer(), kernel)
        np.testing.assert_array_equal(again, quantized, err_msg=f"{count} weights in a filter")
        # A second generation is the same as the first.
        np.testing.assert_array_equal(round_trip(quantizer(), latent)[2], latent)


@pytest.mark.parametrize("scale", [1, 1 / 2, 1 / 4, 1 / 8])
def test_libra_pb_scales_of_heavy_tails(scale):
    """The more of a filter's size sits in one weight, the smaller is its scale."""
    rng = np.random.default_rng(2)
    found = 0
    for count in (16, 64, 576, 2304):
        kernel = rng.standard_normal((count, 60))
        kernel[0] = np.geomspace(1, 1e4, 60)
        quantized, again, latent = round_trip(LibraPB(), kernel.astype(np.float32))
        np.testing.assert_array_equal(again, quantized)
        here = np.abs(quantized[0]) == scale
        found += here.sum()
        # The scale does not stand on the brink of the next one: another order of summation cannot tip it.
        standard = (latent - latent.mean(axis=0)) / latent.std(axis=0, ddof=1)
        shift = np.log2(np.abs(standard).mean(axis=0))[here]
        assert (np.abs(shift - np.log2(scale)) < 0.499).all()
    assert found >= 10


def test_libra_pb_latents_start_like_an_initialisation():
    kernel = np.random.default_rng(3).standard_normal((576, 8)).astype(np.float32)
    _, _, latent = round_trip(LibraPB(), kernel)
    np.testing.assert_allclose(latent.std(axis=0, ddof=1), np.sqrt(2 / 576), rtol=1e-4)
    np.testing.assert_allclose(latent.mean(axis=0), 0, atol=1e-6)


def test_averaging_latents_have_the_mean_in_any_order():
    rng = np.random.default_rng(4)
    kernel = rng.standard_normal((999, 50)).astype(np.float32)
    quantized, _, latent = round_trip(ScaledSign(), kernel)
    for _ in range(5):
        size = np.abs(rng.permutation(latent))
        total = np.zeros(50, np.float32)
        for row in size:
            total += row
        np.testing.assert_array_equal(total / np.float32(999), np.abs(quantized[0]))
    # None is far from the mean, so that no weight is closer to a change of sign than another.
    np.testing.assert_allclose(np.abs(latent), np.broadcast_to(np.abs(quantized[0]), latent.shape), rtol=1e-3)


@pytest.mark.parametrize("values", [[1.0, -2.0, 0.0], [np.nan, np.nan, 1.0], [np.inf, -np.inf, np.inf]])
def test_filters_of_no_two_values(values):
    assert BinarySet.of_filters(np.array([[1.0, -1.0, 1.0], values])) is None


def test_sets_of_filters():
    filters = np.array([[1.0, 1.0, -1.0], [2.5, -0.5, 2.5], [0.0, -0.0, 0.0], [-2.0, -2.0, -2.0]])
    signs, binary = BinarySet.of_filters(filters)
    np.testing.assert_array_equal(signs, [[True, True, False], [True, False, True], [True] * 3, [False] * 3])
    np.testing.assert_array_equal(binary.low, [-1, -0.5, 0, -2])
    np.testing.assert_array_equal(binary.high, [1, 2.5, 0, 2])
    assert not binary.is_symmetric and BinarySet.of_filters(filters[[0, 2, 3]])[1].is_symmetric


@pytest.mark.parametrize(
    "quantizer", [ApproxSign(), EDE(), RSign(), lq.quantizers.SteSign(), lq.quantizers.SwishSign(), "rsign, moved"]
)
def test_binary_activations_are_what_is_computed(quantizer):
    moved = isinstance(quantizer, str)
    quantizer = RSign() if moved else quantizer
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    quantizer(x)
    if moved:
        quantizer.alpha.assign([0.5, -0.25, 0.0])
    x[:3] = [[0.5, -0.25, 0], [0, -0.0, 1e-7], [np.nextafter(np.float32(0.5), 0), -0.3, -1e-7]]
    binary = binary_activation(quantizer)
    np.testing.assert_array_equal(np.where(x >= binary.threshold, binary.high, binary.low), quantizer(x))


@pytest.mark.parametrize(
    "quantizer", [None, ScaledSign(), LibraPB(), lq.quantizers.SteHeaviside(), lq.quantizers.DoReFa(2), tf.nn.relu]
)
def test_no_binary_activation(quantizer):
    assert binary_activation(quantizer) is None


def test_thresholds_along_another_axis_are_not_told():
    quantizer = RSign(axis=1)
    quantizer.build((None, 3, 4, 4))
    assert binary_activation(quantizer) is None


def test_a_quantizer_of_ones_own_brings_its_own():
    class Shifted(quantizers.KernelQuantizer):
        def latent_weights(self, signs, low, high):
            return np.where(signs, 7.0, -7.0)

    assert (np.abs(latent_weights(Shifted(), np.ones((2, 3), bool), np.zeros(2), np.ones(2))) == 7).all()
