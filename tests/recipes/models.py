"""A network and data small enough to train in a test."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf

from onebit.quantizers import EDE, LibraPB


def tiny_network(num_classes: int, input_shape: tuple[int, int, int]) -> tf.keras.Model:
    """Return a binary network with everything that has state: kernels, EDE, batch normalisation."""
    return tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(8, 3, strides=4, use_bias=False, input_shape=input_shape, name="stem_conv"),
            tf.keras.layers.BatchNormalization(name="stem_bn"),
            lq.layers.QuantConv2D(
                8, 3, use_bias=False, input_quantizer=EDE(), kernel_quantizer=LibraPB(), name="stage1_block1_conv"
            ),
            tf.keras.layers.BatchNormalization(name="stage1_block1_bn"),
            tf.keras.layers.GlobalAveragePooling2D(name="pool"),
            tf.keras.layers.Dense(num_classes, name="logits"),
            tf.keras.layers.Activation("softmax", name="predictions"),
        ]
    )


def striped_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 32, 32, 3) of horizontal or vertical stripes in noise, and which they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    stripes = (np.arange(32) // 4 % 2 * 160).astype(np.float64)
    images = rng.uniform(0, 95, (count, 32, 32, 3))
    images += np.where(labels[:, None, None, None] == 1, stripes[None, None, :, None], stripes[None, :, None, None])
    return images.astype(np.uint8), labels
