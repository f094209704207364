"""From signs and scales back to latent weights that quantize to exactly these, for many random filters."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import LibraPB, MagnitudeAwareSign, McDonnellSign, ScaledSign
from onebit.quantizers.kernel import KernelQuantizer
from onebit.zoo.checkpoints import latents

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
    """Return a kernel's quantized values, and those of the latent weights made from their signs and magnitudes."""
    quantized = quantizer(kernel).numpy()
    in_order = list(range(kernel.ndim - 1))
    axes = quantizer.filter_axes(kernel.shape) if isinstance(quantizer, KernelQuantizer) else in_order
    signs, magnitudes = latents.split(latents.as_filters(quantized, axes))
    assert signs.dtype == bool
    filters = latents.latent_filters(signs, magnitudes, quantizer)
    assert filters.dtype == magnitudes.dtype
    assert np.isfinite(filters).all()
    latent = latents.from_filters(filters, kernel.shape, axes)
    return quantized, quantizer(latent).numpy(), latent


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("quantizer", [ScaledSign, MagnitudeAwareSign, LibraPB])
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


def test_without_magnitudes_latents_are_of_he_size():
    signs = np.array([[True, False, True, True]])
    np.testing.assert_allclose(
        latents.latent_filters(signs, None, McDonnellSign()), [[0.5**0.5, -(0.5**0.5), 0.5**0.5, 0.5**0.5]]
    )


@pytest.mark.parametrize("values", [[1.0, -2.0], [1.0, 0.0], [np.nan, np.nan], [np.inf, -np.inf]])
def test_filters_that_no_sign_and_scale_describe(values):
    assert latents.split(np.array([[1.0, -1.0], values])) is None


def test_split_takes_zero_for_positive():
    signs, magnitudes = latents.split(np.array([[0.0, -0.0], [-2.0, 2.0]]))
    np.testing.assert_array_equal(signs, [[True, True], [False, True]])
    np.testing.assert_array_equal(magnitudes, [0, 2])


@pytest.mark.parametrize("axes", [[0, 1, 2], [0, 1, 3], [0, 1], [1]])
def test_matrix_form_and_back(axes):
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    matrix = latents.as_filters(kernel, axes)
    assert matrix.shape[1] == np.prod([kernel.shape[axis] for axis in axes])
    first = tuple(slice(None) if axis in axes else 0 for axis in range(4))
    np.testing.assert_array_equal(matrix[0], kernel[first].ravel())
    np.testing.assert_array_equal(latents.from_filters(matrix, kernel.shape, axes), kernel)
