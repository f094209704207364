"""How IR-Net was trained, on CIFAR-10 and ImageNet.

H. Qin et al., *Forward and Backward Information Retention for Accurate Binary Neural Networks*, CVPR 2020,
arXiv 1909.10788; official code: `htqin/IR-Net`, `CIFAR-10/`.

    onebit train irnet --data-dir DATA --output RUN

is ResNet-20 with 1-bit weights and activations, 400 epochs; the authors report 86.5 %.

    onebit train irnet_imagenet --data-dir DATA --output RUN

is ResNet-18 on ImageNet (58.1 %), by the published configuration: its trainer was not released.

| what | paper | official code | here |
|---|---|---|---|
| T_min of EDE, ResNet-20 1w1a | 1e-1 | 1e-3 | ``t_min=1e-3`` |
| T_min of EDE, 1w32a and VGG-Small | 1e-1 | 1e-1 | ``t_min=1e-1`` for them |
| test images scored | all | 9,984 (the last batch is dropped) | all |
| epoch that is reported | - | the best on the test images | the last |
| statistics of normalisations, ImageNet | - | each GPU's own 64 images | the whole batch's |
| VGG-Small | - | 300 epochs, rate 0.007 | ``epochs=300 lr=0.007`` for it |
| ResNet-18 for CIFAR | those of `kuangliu/pytorch-cifar` | no trainer | ``epochs=200 weight_decay=5e-4`` for it |
| a new rate, with momentum | - | for the whole velocity (PyTorch) | for new gradients: Keras' velocity holds the rate |

That the paper points to pytorch-cifar for ResNet-18 is what a reader says in issue 11 of the official repository. The
settings here are those of its later versions: rate 0.1, a cosine over 200 epochs, decay 5e-4 (earlier ones had 350
epochs, and a tenth of the rate after 150 and again after 250). *Our choices* for this network: T_min, and the
normalisation of images, which is the other trainers'.

Readers who trained by the authors' settings report less than the paper: 86 instead of 91.5 % with ResNet-18 (issue 11),
87.8 instead of 90.4 % with VGG-Small (issue 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ..quantizers import EDESchedule
from ..quantizers.ede import ede_quantizers
from ..zoo import load
from .data.augmentation import flip_and_jitter
from .data.datasets import usual_augmentation
from .recipe import Recipe, Stage, register, resolved
from .training.optimizers import L2SGD, every
from .training.schedules import CosineEpochs, WarmupSteps


class Official(NamedTuple):
    """What the authors chose for a network on CIFAR-10."""

    epochs: int
    lr: float
    weight_decay: float
    t_min: float


RESNET20 = Official(400, 0.1, 1e-4, 1e-3)
OTHERS = {
    "irnet_resnet20_1w32a": RESNET20._replace(t_min=1e-1),
    "irnet_vgg_small": Official(300, 0.007, 1e-4, 1e-1),
    "irnet_resnet18_cifar": RESNET20._replace(epochs=200, weight_decay=5e-4),
}


@register
def irnet(
    *,
    model: str = "irnet_resnet20",
    dataset: str = "cifar10",
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float | None = None,
    t_min: float | None = None,
    t_max: float = 1e1,
) -> Recipe:
    """SGD with a cosine schedule while EDE narrows, from scratch.

    Args:
        model: A registered IR-Net for CIFAR; with ``"irnet_resnet20_real"``, the teacher of other networks, EDE has
            nothing to do.
        dataset: ``"cifar10"`` in the paper.
        epochs: Length of the training, and of the EDE schedule. ``None``, as in the sources, is 200 for ResNet-18, 300
            for VGG-Small and 400 for the others.
        batch_size: Partial batches are dropped.
        lr: Rate of the first epoch; a cosine brings it down epoch by epoch. ``None`` is 0.007 for VGG-Small and 0.1 for
            the others.
        momentum: SGD momentum, without Nesterov.
        weight_decay: L2 on all parameters, normalisations and classifier included. ``None``, as in the sources, is 5e-4
            for ResNet-18 and 1e-4 for the others.
        t_min, t_max: See `ede_schedule`. ``t_min=None`` is 1e-1 for VGG-Small and for ResNet-20 with real activations,
            and 1e-3 for the others.
    """
    official = OTHERS.get(model, RESNET20)
    length, rate = resolved(epochs, official.epochs), resolved(lr, official.lr)
    decay, narrow = resolved(weight_decay, official.weight_decay), resolved(t_min, official.t_min)

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2SGD(CosineEpochs(steps_per_epoch, length, rate), momentum=momentum, l2=decay, decays=every)

    stage = _stage(model, dataset, length, optimizer, EDESchedule(length, narrow, t_max))
    settings = {"epochs": length, "lr": rate, "weight_decay": decay, "t_min": narrow}
    return Recipe("irnet", dataset, batch_size, "imagenet", [stage], settings)


@register
def irnet_imagenet(
    *,
    model: str = "irnet_resnet18",
    dataset: str = "imagenet2012",
    epochs: int = 100,
    batch_size: int = 2048,
    lr: float = 0.8,
    warmup_lr: float = 0.2,
    warmup_epochs: float | None = None,
    momentum: float = 0.9,
    weight_decay: float | None = None,
    t_min: float = 1e-1,
    t_max: float = 1e1,
) -> Recipe:
    """SGD with a warm-up and three drops of the rate while EDE narrows, from scratch.

    Args:
        model: A registered IR-Net for ImageNet.
        dataset: ``"imagenet2012"`` in the paper.
        epochs: Length of the training; the rate falls to a tenth after 30, 60 and 90 % of it.
        batch_size: Over all replicas: 64 on each of 32 GPUs. Partial batches are dropped.
        lr: Rate after the warm-up. It belongs to the batch: change both together.
        warmup_lr: Rate of the first step.
        warmup_epochs: Length of the warm-up, at most until the first drop. ``None`` is 4 % of the epochs, as are the
            source's 2,500 steps of 62,500.
        momentum: SGD momentum, Nesterov's.
        weight_decay: L2 on all parameters. ``None``, as in the source, is 1e-5 for ResNet-18 with 1-bit weights and
            activations, and 1e-4 for the others.
        t_min, t_max: See `ede_schedule`. *Our choice*: the source does not say for ImageNet.

    The crop (8 to 100 % of the area) and the flip are *our choice* as well; the source has colour jitter alone.

    Raises:
        ValueError: The warm-up is longer than what comes before the first drop.
    """
    rising = resolved(warmup_epochs, 0.04 * epochs)
    decay = resolved(weight_decay, 1e-5 if model == "irnet_resnet18" else 1e-4)
    if not 0 <= rising <= 0.3 * epochs:
        raise ValueError(f"warmup_epochs must be from 0 to 0.3 * epochs, {0.3 * epochs:g}, not {rising!r}.")

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        drops = [round(steps_per_epoch * epochs * part) for part in (0.3, 0.6, 0.9)]
        schedule = WarmupSteps(lr, drops, round(rising * steps_per_epoch), warmup_lr)
        return L2SGD(schedule, momentum=momentum, nesterov=True, l2=decay, decays=every)

    stage = _stage(model, dataset, epochs, optimizer, EDESchedule(epochs, t_min, t_max))
    settings = {"warmup_epochs": rising, "weight_decay": decay}
    return Recipe("irnet_imagenet", dataset, batch_size, "imagenet", [stage], settings)


def _stage(
    model: str,
    dataset: str,
    epochs: int,
    optimizer: Callable[[int], tf.keras.optimizers.Optimizer],
    ede: tf.keras.callbacks.Callback,
) -> Stage:
    """Return a training from scratch in which EDE narrows."""
    return Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape),
        optimizer=optimizer,
        augment=usual_augmentation(dataset, imagenet=flip_and_jitter),
        callbacks=lambda network: [ede] if ede_quantizers(network) else [],
    )
