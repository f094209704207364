"""How Tide Networks are trained: they are an invention, and so is this.

onebit train tidenet --data-dir DATA --output RUN
"""

from __future__ import annotations

import tensorflow as tf

from ..zoo import load
from .data.datasets import default_augmentation
from .recipe import Recipe, Settings, Stage, register
from .training.optimizers import L2Adam
from .training.schedules import LinearEpochs

SETTINGS: Settings = {
    "default": {"model": "tidenet8", "dataset": "cifar10", "epochs": 20, "batch_size": 128, "lr": 1e-3},
}


@register(SETTINGS, quick={"lr": 0.01})
def tidenet(*, model: str, dataset: str, epochs: int, batch_size: int, lr: float) -> Recipe:
    """Adam with a linear schedule.

    Args:
        model: A registered Tide Network.
        dataset: What to train on.
        epochs: Length of the training.
        batch_size: Partial batches are dropped.
        lr: Rate of Adam; it falls linearly.
    """

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2Adam(LinearEpochs(steps_per_epoch, epochs, lr))

    stage = Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape),
        optimizer=optimizer,
        augment=default_augmentation(dataset),
    )
    return Recipe("tidenet", dataset, batch_size, "imagenet", [stage])
