"""The statistics of batch normalisation after training: averages over batches, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes import recalibrate_batch_norm

SCALES = np.array([1, 2, 3, 4]).reshape(4, 1, 1, 1, 1)
BATCHES = (3 + SCALES * np.random.default_rng(0).normal(size=(4, 8, 5, 5, 2))).astype(np.float32)


def network():
    """Return two normalisations in a row, of which the second sees what the first makes of each batch."""
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, input_shape=(5, 5, 2), name="bn1"),
            tf.keras.layers.Conv2D(3, 3, name="conv"),
            tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="bn2"),
        ]
    )


def moments(x):
    """Return mean and variance in each channel; as TensorFlow's kernel, by the unbiased estimate."""
    values = x.reshape(-1, x.shape[-1])
    return values.mean(0), values.var(0, ddof=1)


def test_averages_over_batches():
    model = network()
    layers = [model.get_layer(name) for name in ("bn1", "bn2")]
    trained = [variable.numpy() for variable in model.trainable_variables]
    labels = np.zeros(len(BATCHES))
    recalibrate_batch_norm(model, tf.data.Dataset.from_tensor_slices((BATCHES, labels)))
    inside = [
        model.get_layer("conv")((x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)).numpy() for x in BATCHES
    ]
    for layer, seen in zip(layers, (BATCHES, inside), strict=True):
        means, variances = zip(*map(moments, seen), strict=True)
        deviation = np.mean([np.sqrt(variance + 1e-5) for variance in variances], axis=0)
        np.testing.assert_allclose(layer.moving_mean, np.mean(means, axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.sqrt(layer.moving_variance + 1e-5), deviation, rtol=1e-5)
        assert layer.momentum == 0.9
    average = np.mean([moments(x)[1] for x in BATCHES], axis=0)
    assert np.all(layers[0].moving_variance < 0.9 * average), "deviations are averaged, not variances"
    for before, variable in zip(trained, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, variable)


def test_a_channel_that_never_changes_keeps_no_variance():
    model = network()
    recalibrate_batch_norm(model, tf.data.Dataset.from_tensors((np.full((8, 5, 5, 2), 7, np.float32), np.zeros(8))))
    statistics = model.get_layer("bn1")
    np.testing.assert_allclose(statistics.moving_mean, 7, rtol=1e-6)
    np.testing.assert_allclose(statistics.moving_variance, 0, atol=1e-10)
    assert np.all(statistics.moving_variance >= 0)


def test_the_momentum_survives_an_error():
    model = network()
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        recalibrate_batch_norm(model, tf.data.Dataset.from_tensor_slices((BATCHES, np.zeros(4))).take(0))
    assert [model.get_layer(name).momentum for name in ("bn1", "bn2")] == [0.9, 0.9]
