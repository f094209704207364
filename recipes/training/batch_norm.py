"""Batch-normalisation statistics taken after training instead of during it."""

from __future__ import annotations

import tensorflow as tf

from .strategies import batch_norms


def recalibrate_batch_norm(model: tf.keras.Model, batches: tf.data.Dataset) -> None:
    r"""Set the moving statistics of every batch normalisation to averages of its batches' moments.

    One pass over the training batches in training mode, with constant weights. As in the official MATLAB code, it is
    the means \(\mu_b\) and the deviations \(\sqrt{\sigma_b^2 + \epsilon}\) of the batches \(b\) that are averaged,
    so that the normalisations then use
    \[ \mu = \overline{\mu_b}, \qquad \sigma^2 = \left(\overline{\sqrt{\sigma_b^2 + \epsilon}}\right)^2 - \epsilon \]
    \(\sigma_b^2\) is what the layer remembers of a batch, mostly the unbiased estimate; the MATLAB code has the biased
    one.

    Args:
        model: The trained model, changed in place.
        batches: Batches (images, labels) of one epoch, augmented as in training.

    Raises:
        ValueError: There are no batches.

    References:
        - [Training wide residual networks for deployment using a single bit for each
            weight](https://arxiv.org/abs/1802.08530), section 3.3; `WideResNet_Test.m` in
            `McDonnell-Lab/1-bit-per-weight`
    """
    layers = batch_norms(model)

    def moments() -> list[tf.Tensor]:
        return [
            moment for layer in layers for moment in (layer.moving_mean, tf.sqrt(layer.moving_variance + layer.epsilon))
        ]

    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # the moving statistics are then those of the last batch
    try:
        # Every replica sees every batch: they agree without another word.
        strategy = tf.distribute.get_strategy()
        run = tf.function(lambda images: strategy.run(lambda x: model(x, training=True), (images,)))
        sums, count = [tf.zeros_like(moment) for moment in moments()], 0
        for images, *_ in batches:
            run(images)
            sums = [total + moment for total, moment in zip(sums, moments(), strict=True)]
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not count:
        raise ValueError("batches must hold at least one batch.")
    for layer, mean, deviation in zip(layers, sums[::2], sums[1::2], strict=True):
        layer.moving_mean.assign(mean / count)
        # Rounding may leave a channel without variance a little less than none.
        layer.moving_variance.assign(tf.nn.relu(tf.square(deviation / count) - layer.epsilon))
