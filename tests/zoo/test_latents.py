"""Kernels in matrix form, and latent weights of which only the signs are known."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.zoo.checkpoints import latents


def test_without_magnitudes_latents_are_of_he_size():
    signs = np.array([[True, False, True, True]])
    np.testing.assert_allclose(latents.he_weights(signs), [[0.5**0.5, -(0.5**0.5), 0.5**0.5, 0.5**0.5]])


@pytest.mark.parametrize("axes", [[0, 1, 2], [0, 1, 3], [0, 1], [1]])
def test_matrix_form_and_back(axes):
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    matrix = latents.as_filters(kernel, axes)
    assert matrix.shape[1] == np.prod([kernel.shape[axis] for axis in axes])
    first = tuple(slice(None) if axis in axes else 0 for axis in range(4))
    np.testing.assert_array_equal(matrix[0], kernel[first].ravel())
    np.testing.assert_array_equal(latents.from_filters(matrix, kernel.shape, axes), kernel)
