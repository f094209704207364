"""How Bi-Real Net was trained: from scratch (the PyTorch code), or in stages (the paper and the Caffe code).

Z. Liu et al., *Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational Capability and
Advanced Training Algorithm*, ECCV 2018, arXiv 1808.00278; official code: `liuzechun/Bi-Real-net`.

    onebit train birealnet --data-dir DATA --output RUN --set model=birealnet20

trains the CIFAR form with the settings of the PyTorch code: the authors published ImageNet results alone. Theirs is

    onebit train birealnet --data-dir DATA --output RUN --set model=birealnet18 --set dataset=imagenet2012

| what | paper, README of the Caffe code | PyTorch code |
|---|---|---|
| recipe | ``birealnet_staged`` | ``birealnet`` |
| stages | ReLU, leaky clip, clip, binary, ±1 weights | binary |
| its optimizer | SGD 0.9, rate 0.01, a tenth after 10 and 15 of 20 epochs | Adam, 1e-3 linearly to 0, 256 epochs |
| batch | 128 | 512 |
| images of ImageNet | shorter side 256, 224 at random, flipped | 8-100 % of the area, flipped, lighting |
| label smoothing | none | 0.1 |
| gradient of binary weights | with their scale (paper); as it is (Caffe) | clipped (`ScaledSign`), as here in both |

Partial batches are dropped here; the PyTorch code trains on them.

``birealnet_staged`` trains the zoo's networks, which are the PyTorch code's, and so differs from the Caffe code in

| what | Caffe code | here |
|---|---|---|
| schedule, 18 layers | solver: drops after 10 and 14 of 18 epochs | the README's: 10 and 15 of 20 |
| schedule, 34 layers | solver: rate 0.01, drops after 16 and 24 of 32 | the README's: rate 0.08, 20 and 30 of 40 |
| initial weights | He normal (``msra``), classifier Xavier | stem, shortcuts, classifier: PyTorch's uniform |
| rate of the classifier's bias | twice that of everything else | the same |
| downsampling shortcuts | 1x1 convolution with bias, no batch normalisation | without bias, batch normalisation |
| statistics in the end | moving averages | averages over the training set, *our choice* |

Larq Zoo's recipe for the same network is not here: Adam, 5e-3 falling linearly to 0 batch by batch, 300 epochs, batches
of 512, Glorot normal initial weights, latent weights clipped to [-1, 1], no label smoothing, no lighting.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..zoo import load
from .data.augmentation import flip, flip_and_light, resize_random_crop
from .data.datasets import default_augmentation
from .recipe import Recipe, Same, Settings, Stage, register
from .training.batch_norm import recalibrate_batch_norm
from .training.losses import SmoothedCrossentropy
from .training.optimizers import L2SGD, L2Adam
from .training.schedules import LinearEpochs
from .transfer import transfer_signs, transfer_weights

PYTORCH_SETTINGS: Settings = {
    "default": {
        "model": "birealnet20",
        "dataset": "cifar10",
        "epochs": 256,
        "batch_size": 512,
        "lr": 1e-3,
        "label_smoothing": 0.1,
        "weight_decay": 0.0,
    },
    "model=birealnet50": {"batch_size": 256, "lr": 5e-4},
}

PAPER_SETTINGS: Settings = {
    "default": {
        "model": "birealnet20",
        "dataset": "cifar10",
        "epochs": 20,
        "pretraining_epochs": Same("epochs"),  # the sources do not say
        "batch_size": 128,
        "lr": 0.01,
        "pretraining_lr": 0.1,
        "momentum": 0.9,
        "pretraining_weight_decay": 1e-4,
    },
    "model=birealnet34": {"epochs": 40, "batch_size": 1024, "lr": 0.08},
}


@register(PYTORCH_SETTINGS, quick={"lr": 0.01})
def birealnet(
    *,
    model: str,
    dataset: str,
    epochs: int,
    batch_size: int,
    lr: float,
    label_smoothing: float,
    weight_decay: float,
) -> Recipe:
    """The PyTorch code's recipe: one stage, from scratch. The authors state that it reaches the paper's accuracy.

    Args:
        model: A registered Bi-Real Net.
        dataset: What to train on.
        epochs: Length of the training.
        batch_size: Partial batches are dropped. The rate belongs to the batch: halve both together.
        lr: Rate of Adam; it falls linearly, epoch by epoch, to 0 in the last one.
        label_smoothing: Share of the target that is spread over all classes.
        weight_decay: L2 on the kernels; none in the code.
    """

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2Adam(LinearEpochs(steps_per_epoch, epochs, lr), l2=weight_decay)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape),
        optimizer=optimizer,
        augment=default_augmentation(dataset, imagenet=flip_and_light),
        loss=SmoothedCrossentropy(label_smoothing),
    )
    return Recipe("birealnet", dataset, batch_size, "imagenet", [stage])


@register(PAPER_SETTINGS, quick={"pretraining_epochs": 3})
def birealnet_staged(
    *,
    model: str,
    dataset: str,
    epochs: int,
    pretraining_epochs: int,
    batch_size: int,
    lr: float,
    pretraining_lr: float,
    momentum: float,
    pretraining_weight_decay: float,
) -> Recipe:
    """The paper's recipe: the non-linearity comes closer to the sign from stage to stage.

    1. ``relu``: a real-valued network with ReLU in place of the sign, from scratch. *Our choices*, where the sources
       say "ResNet hyper-parameters": SGD, rate 0.1 falling to a tenth after a half and three quarters of the epochs,
       decay 1e-4, and the shortcuts of Bi-Real Net.
    2. ``leaky_clip``: ReLU becomes a clip to [-1, 1] with slope 0.1 outside; fine-tuned. *Our choice*: at a tenth of
       that rate.
    3. ``clip``: slope 0 outside; likewise.
    4. ``binary``: signs and binary weights, no decay.
    5. ``unit_weights``: the weights become ±1 without their scales, and the normalisations' statistics, scales and
       offsets, and the classifier, are trained for one epoch, so that they absorb the scales. No convolution changes.
       *Our choices*: the rate, a hundredth of the binary stage's, and that the statistics are then averaged over the
       training set (`recalibrate_batch_norm`).

    Args:
        model, dataset: As in `birealnet`.
        epochs: Length of the binary stage.
        pretraining_epochs: Length of each of the three stages before.
        batch_size: Partial batches are dropped.
        lr: Initial rate of the binary stage; it falls to a tenth after a half and again after three quarters of it.
        pretraining_lr: Rate of the first stage.
        momentum: SGD momentum, without Nesterov.
        pretraining_weight_decay: L2 on the kernels in the real-valued stages.
    """

    def stage(name: str, length: int, initial: float, decay: float, **changes: Any) -> Stage:
        arguments: dict[str, Any] = {} if name == "binary" else {"quantized": False, "activation": name}
        return Stage(
            **{
                "name": name,
                "epochs": length,
                "build": lambda classes, shape: load(model, num_classes=classes, input_shape=shape, **arguments),
                "optimizer": lambda steps: L2SGD(_steps(steps, length, initial), momentum=momentum, l2=decay),
                "augment": default_augmentation(dataset, imagenet=flip),
                "crop": resize_random_crop,
                "init_from": transfer_weights,
                **changes,
            }
        )

    def frozen(classes: int, shape: tuple[int, ...]) -> tf.keras.Model:
        network = load(model, num_classes=classes, input_shape=shape)
        for layer in network.layers:
            layer.trainable = not isinstance(layer, tf.keras.layers.Conv2D)
        return network

    stages = [
        stage("relu", pretraining_epochs, pretraining_lr, pretraining_weight_decay, init_from=None),
        stage("leaky_clip", pretraining_epochs, pretraining_lr / 10, pretraining_weight_decay),
        stage("clip", pretraining_epochs, pretraining_lr / 10, pretraining_weight_decay),
        stage("binary", epochs, lr, 0.0),
        stage("unit_weights", 1, lr / 100, 0.0, build=frozen, init_from=transfer_signs, finish=recalibrate_batch_norm),
    ]
    preprocessing = "mean_rgb" if dataset == "imagenet2012" else "imagenet"
    return Recipe("birealnet_staged", dataset, batch_size, preprocessing, stages)


def _steps(steps_per_epoch: int, epochs: int, initial: float) -> tf.keras.optimizers.schedules.PiecewiseConstantDecay:
    """Return a rate that falls to a tenth after a half and again after three quarters of a training."""
    drops = sorted({epochs // 2, 3 * epochs // 4, epochs} - {0})
    # Keras counts the batch of a boundary's own number to what is before it.
    boundaries = [steps_per_epoch * drop - 1 for drop in drops]
    rates = [initial * 0.1**passed for passed in range(len(drops) + 1)]
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
