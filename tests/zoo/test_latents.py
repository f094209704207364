"""Latent weights: in matrix form, where only their signs are known, and whatever Larq's quantized scope is."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.zoo.checkpoints import latents
from onebit.zoo.checkpoints.variables import binary_kernels, latent_scope, named_variables


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


@pytest.fixture
def leaked():
    """Larq's scope as an exception leaves it: here one of a quantizer that has no meaning in its layer."""
    local = lq.layers.QuantLocallyConnected1D(2, 2, kernel_quantizer="libra_pb")
    with pytest.raises(ValueError):
        local(tf.ones((1, 4, 3)))
    assert lq.context.should_quantize()


@pytest.mark.slow
def test_an_exception_that_leaves_larqs_scope_on_changes_nothing(leaked, tmp_path):
    """What is computed, packed, and read from other files is what it was."""
    with latent_scope():
        model = zoo.load("irnet_resnet20", weights="cifar10")
        before, expected = model.get_weights(), zoo.save_packed(model, tmp_path / "right.onebit").read_bytes()
        x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
        y = model(x, training=False)
        model.save_weights(tmp_path / "keras.weights.h5")
    assert lq.context.should_quantize()
    assert zoo.save_packed(model, tmp_path / "model.onebit").read_bytes() == expected
    np.testing.assert_array_equal(model(x, training=False), y)
    fresh = zoo.load("irnet_resnet20")
    for name in binary_kernels(fresh):
        assert len(np.unique(np.abs(named_variables(fresh)[name].numpy()))) > 100
    with pytest.raises(ValueError):
        zoo.load_weights(zoo.load("irnet_resnet20", num_classes=7), tmp_path / "keras.weights.h5")
    zoo.load_weights(model, tmp_path / "keras.weights.h5")
    with latent_scope():
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_the_scope_comes_back_after_an_exception():
    with pytest.raises(KeyboardInterrupt), latent_scope():
        raise KeyboardInterrupt
    assert not lq.context.should_quantize()
