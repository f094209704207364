"""How IR-Net was trained on CIFAR-10.

H. Qin et al., *Forward and Backward Information Retention for Accurate Binary Neural Networks*, CVPR 2020,
arXiv 1909.10788; official code: `htqin/IR-Net`, `CIFAR-10/`.

    onebit train irnet --data-dir DATA --output RUN

is ResNet-20 with 1-bit weights and activations, 400 epochs; the authors report 86.5 %. The ImageNet trainer was not
released.

| what | paper | official code | here |
|---|---|---|---|
| T_min of EDE, ResNet-20 1w1a | 1e-1 | 1e-3 | ``t_min=1e-3`` |
| T_min of EDE, 1w32a and VGG-Small | 1e-1 | 1e-1 | pass ``t_min=0.1`` |
| test images scored | all | 9,984 (the last batch is dropped) | all |
| VGG-Small | - | 300 epochs, rate 0.007 | pass ``epochs=300 lr=0.007 t_min=0.1`` |
"""

from __future__ import annotations

import tensorflow as tf

from ..quantizers import EDESchedule
from ..zoo import load
from .augmentation import flip_and_shift
from .optimizers import SGD, every
from .recipe import Recipe, Stage, register
from .schedules import CosineEpochs


@register
def irnet(
    *,
    model: str = "irnet_resnet20",
    dataset: str = "cifar10",
    epochs: int = 400,
    batch_size: int = 128,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    t_min: float = 1e-3,
    t_max: float = 1e1,
) -> Recipe:
    """SGD with a cosine schedule while EDE narrows, from scratch.

    Args:
        model: A registered IR-Net for CIFAR.
        dataset: ``"cifar10"`` in the paper.
        epochs: Length of the training, and of the EDE schedule.
        batch_size: Partial batches are dropped.
        lr: Rate of the first epoch; a cosine brings it down epoch by epoch.
        momentum: Of SGD, not Nesterov's.
        weight_decay: L2 on all parameters, normalisations and classifier included.
        t_min, t_max: See `ede_schedule`.
    """

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return SGD(CosineEpochs(steps_per_epoch, epochs, lr), momentum=momentum, l2=weight_decay, decays=every)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape),
        optimizer=optimizer,
        augment=flip_and_shift,
        callbacks=lambda: [EDESchedule(epochs, t_min, t_max)],
    )
    return Recipe("irnet", dataset, batch_size, "imagenet", [stage])
