"""How Bi-Real Net was trained: from scratch (the PyTorch code), or in stages (the paper and the Caffe code).

Z. Liu et al., *Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational Capability and
Advanced Training Algorithm*, ECCV 2018, arXiv 1808.00278; official code: `liuzechun/Bi-Real-net`.

    onebit train birealnet --data-dir DATA --output RUN --set model=birealnet20

trains the CIFAR form with the paper's settings: the authors published ImageNet results alone. Theirs is

    onebit train birealnet --data-dir DATA --output RUN --set model=birealnet18 --set dataset=imagenet2012

| what | paper, Caffe code | PyTorch code |
|---|---|---|
| recipe | ``birealnet_staged`` | ``birealnet`` |
| stages | ReLU, leaky clip, clip, binary, ±1 weights | binary |
| its optimizer | SGD 0.9, rate 0.01, a tenth after 10 and 15 of 20 epochs | Adam, 1e-3 linearly to 0, 256 epochs |
| batch | 128 | 512 |
| images of ImageNet | shorter side 256, 224 at random, flipped | 8-100 % of the area, flipped, lighting |
| label smoothing | none | 0.1 |
| gradient of binary weights | with their scale (`MagnitudeAwareSign`) | without (`ScaledSign`), as here in both |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..zoo import load
from ..zoo.naming import assign, binary_kernels, named_variables
from .augmentation import flip, flip_and_light, random_place
from .datasets import usual_augmentation
from .losses import SmoothedCrossentropy
from .moments import average_batch_moments
from .optimizers import L2SGD, L2Adam
from .recipe import Recipe, Stage, register, resolved
from .schedules import LinearEpochs, StepEpochs


@register
def birealnet(
    *,
    model: str = "birealnet20",
    dataset: str = "cifar10",
    epochs: int = 256,
    batch_size: int = 512,
    lr: float = 1e-3,
    label_smoothing: float = 0.1,
    weight_decay: float = 0.0,
) -> Recipe:
    """The PyTorch code's recipe: one stage, from scratch. The authors state that it reaches the paper's accuracy.

    Args:
        model: A registered Bi-Real Net.
        dataset: What to train on.
        epochs: 256 in the code.
        batch_size: 512 in the code, 256 for 50 layers. The rate belongs to the batch: halve both together.
        lr: Rate of Adam; it falls linearly, epoch by epoch, to 0 in the last one. 5e-4 for 50 layers.
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
        augment=usual_augmentation(dataset, imagenet=flip_and_light),
        loss=SmoothedCrossentropy(label_smoothing),
    )
    return Recipe("birealnet", dataset, batch_size, "imagenet", [stage])


@register
def birealnet_staged(
    *,
    model: str = "birealnet20",
    dataset: str = "cifar10",
    epochs: int = 20,
    pretraining_epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 0.01,
    pretraining_lr: float = 0.1,
    momentum: float = 0.9,
    pretraining_weight_decay: float = 1e-4,
) -> Recipe:
    """The paper's recipe: the non-linearity comes closer to the sign from stage to stage.

    1. ``relu``: a real-valued network with ReLU in place of the sign, from scratch. *Our choices*, where the sources
       say "ResNet hyper-parameters": SGD, rate 0.1 falling to a tenth after a half and three quarters of the epochs,
       decay 1e-4, and the shortcuts of Bi-Real Net.
    2. ``leaky_clip``: ReLU becomes a clip to [-1, 1] with slope 0.1 outside; fine-tuned at a tenth of that rate.
    3. ``clip``: slope 0 outside; likewise.
    4. ``binary``: signs and binary weights, no decay.
    5. ``unit_weights``: the weights become ±1 without their scales, and the normalisations' statistics, scales and
       offsets, and the classifier, are trained for one epoch, so that they absorb the scales. No convolution changes.
       *Our choice*: the rate, a hundredth of the binary stage's.

    Args:
        model, dataset: As in `birealnet`.
        epochs: Of the binary stage: 20 in the README for 18 layers (40 for 34).
        pretraining_epochs: Of each of the three stages before; not given in the sources. Default: as many.
        batch_size: 128 in the README for 18 layers (1024 for 34).
        lr: Rate of the binary stage, a tenth after a half and after three quarters of it. 0.08 for 34 layers.
        pretraining_lr: Rate of the first stage.
        momentum: Of SGD, not Nesterov's.
        pretraining_weight_decay: L2 on the kernels in the real-valued stages.
    """

    pretraining = resolved(pretraining_epochs, epochs)

    def stage(name: str, length: int, rate: float, decay: float, **changes: Any) -> Stage:
        arguments = {} if name == "binary" else {"quantized": False, "activation": name}
        return Stage(
            **{
                "name": name,
                "epochs": length,
                "build": lambda classes, shape: load(model, num_classes=classes, input_shape=shape, **arguments),
                "optimizer": lambda steps: L2SGD(
                    StepEpochs(steps, length, rate, sorted({length // 2, 3 * length // 4} - {0})),
                    momentum=momentum,
                    l2=decay,
                ),
                "augment": usual_augmentation(dataset, imagenet=flip),
                "crop": random_place,
                "inherit": inherit_all,
                **changes,
            }
        )

    def frozen(classes: int, shape: tuple[int, ...]) -> tf.keras.Model:
        network = load(model, num_classes=classes, input_shape=shape)
        for layer in network.layers:
            layer.trainable = not isinstance(layer, tf.keras.layers.Conv2D)
        return network

    stages = [
        stage("relu", pretraining, pretraining_lr, pretraining_weight_decay, inherit=None),
        stage("leaky_clip", pretraining, pretraining_lr / 10, pretraining_weight_decay),
        stage("clip", pretraining, pretraining_lr / 10, pretraining_weight_decay),
        stage("binary", epochs, lr, 0.0),
        stage("unit_weights", 1, lr / 100, 0.0, build=frozen, inherit=inherit_signs, finish=average_batch_moments),
    ]
    preprocessing = "caffe" if dataset == "imagenet2012" else "imagenet"
    settings = {"pretraining_epochs": pretraining}
    return Recipe("birealnet_staged", dataset, batch_size, preprocessing, stages, settings)


def inherit_all(before: tf.keras.Model, network: tf.keras.Model) -> None:
    """Hand all variables over by their names, which must be the same in both networks, in shape too.

    Raises:
        ValueError: The networks do not fit; nothing was handed over.
    """
    values = {name: variable.numpy() for name, variable in named_variables(before).items()}
    own = {name: variable.numpy() for name, variable in named_variables(network).items()}
    # Quantizers have a state of their own (thresholds, EDE), which a real-valued network lacks.
    state = {name: value for name, value in own.items() if "_quantizer/" in name and name not in values}
    values = {name: value for name, value in values.items() if name in own or "_quantizer/" not in name}
    assign(network, {**values, **state}, f"The network of the stage before, {before.name!r},")


def inherit_signs(before: tf.keras.Model, network: tf.keras.Model) -> None:
    """Hand all variables over, with binary kernels of ±1: their scales are left to the batch normalisations."""
    inherit_all(before, network)
    for kernel in binary_kernels(network).values():
        quantized = kernel.quantized(kernel.variable.numpy())
        kernel.variable.assign(np.where(quantized > 0, 1.0, -1.0))
