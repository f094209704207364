"""A network, data and a recipe small enough to train in a test."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from onebit.quantizers import EDE, EDESchedule, LibraPB
from onebit.recipes import L2SGD, CosineEpochs, Recipe, Stage
from onebit.recipes.data.augmentation import flip_and_shift
from onebit.recipes.transfer import transfer_weights


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


DATA = striped_images(192, 0), striped_images(64, 1)


def recipe(epochs: int = 3, lr: float = 0.05, stages: int = 2) -> Recipe:
    """Return a recipe of tiny stages, the second of which starts from the first and has a teacher."""

    def stage(number: int) -> Stage:
        return Stage(
            name=f"step{number}",
            epochs=epochs,
            build=tiny_network,
            optimizer=lambda steps: L2SGD(CosineEpochs(steps, epochs, lr), momentum=0.9, l2=1e-4),
            augment=flip_and_shift,
            callbacks=lambda network: [EDESchedule(epochs)],
            init_from=transfer_weights if number > 1 else None,
            teachers=[tiny_network] if number > 1 else [],
        )

    settings = {"epochs": epochs, "lr": lr}
    return Recipe("tiny", "", 32, "0_255", [stage(i + 1) for i in range(stages)], settings)


def plain_network(num_classes: int, input_shape: tuple[int, int, int]) -> tf.keras.Model:
    """Return a network that is compiled at once, for what does not depend on the layers; ``norm`` and ``logits``."""
    return tf.keras.Sequential(
        [
            tf.keras.layers.AveragePooling2D(4, input_shape=input_shape),
            tf.keras.layers.Flatten(),
            tf.keras.layers.BatchNormalization(momentum=0.5, name="norm"),
            tf.keras.layers.Dense(num_classes, name="logits"),
            tf.keras.layers.Activation("softmax"),
        ],
        name="plain",
    )


def plain_recipe(epochs: int = 2, stages: int = 1, **changes: Any) -> Recipe:
    """Return a recipe of `plain_network`, without augmentation."""

    def stage(number: int) -> Stage:
        settings = {
            "build": plain_network,
            "optimizer": lambda steps: L2SGD(CosineEpochs(steps, epochs, 0.001)),
            "init_from": transfer_weights if number > 1 else None,
            **changes,
        }
        return Stage(name=f"step{number}", epochs=epochs, **settings)

    return Recipe("plain", "", 32, "0_255", [stage(i + 1) for i in range(stages)], {"epochs": epochs})
