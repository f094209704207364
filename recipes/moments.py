"""Batch-normalisation statistics taken after training instead of during it."""

from __future__ import annotations

import tensorflow as tf

from .strategies import batch_norms


def average_batch_moments(model: tf.keras.Model, batches: tf.data.Dataset) -> None:
    """Set the moving statistics of every batch normalisation to the average of its batch moments.

    One pass over the training batches in training mode, the weights standing still: McDonnell, section 3.3, and the
    last step of Bi-Real Net's staged recipe.

    Args:
        model: The trained model, changed in place.
        batches: Batches (images, labels) of one epoch, augmented as in training.

    Raises:
        ValueError: There are no batches.
    """
    layers = batch_norms(model)
    statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # the moving statistics are then those of the last batch
    try:
        # Every replica sees every batch: they agree without another word.
        strategy = tf.distribute.get_strategy()
        run = tf.function(lambda images: strategy.run(lambda x: model(x, training=True), (images,)))
        sums, count = [tf.zeros_like(variable) for variable in statistics], 0
        for images, *_ in batches:
            run(images)
            sums = [total + variable for total, variable in zip(sums, statistics, strict=True)]
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not count:
        raise ValueError("batches must hold at least one batch.")
    for variable, total in zip(statistics, sums, strict=True):
        variable.assign(total / count)
