"""How FTBNN-style networks are trained here, from scratch in one stage.

Z. Su et al., *FTBNN: Rethinking Non-linearity for 1-bit CNNs and Going Beyond*, arXiv 2010.09294. The authors published
neither code nor models, and no training details could be sourced: everything here is *our choice*, and no result of it
is a reproduction of theirs.

    onebit train ftbnn --data-dir DATA --output RUN --set nonlinearity=prelu

is one row of the ablation none / relu / prelu / fprelu.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from ..zoo import load
from .data.datasets import default_augmentation
from .recipe import Recipe, Settings, Stage, register
from .training.callbacks import NegativeSlopes
from .training.losses import SmoothedCrossentropy
from .training.optimizers import L2Adam
from .training.schedules import LinearEpochs

SETTINGS: Settings = {
    "default": {
        "model": "ftbnn20",
        "dataset": "cifar10",
        "nonlinearity": "fprelu",
        "order": "bn_act_add",
        "shortcut": "average_duplicate",
        "width": None,
        "groups": None,
        "shuffle": None,
        "epochs": 120,
        "batch_size": 256,
        "lr": 1e-3,
        "label_smoothing": 0.1,
        "weight_decay": 1e-5,
    },
}


@register(SETTINGS, quick={"lr": 0.01})
def ftbnn(
    *,
    model: str,
    dataset: str,
    nonlinearity: str,
    order: str,
    shortcut: str,
    width: float | None,
    groups: int | None,
    shuffle: bool | None,
    epochs: int,
    batch_size: int,
    lr: float,
    label_smoothing: float,
    weight_decay: float,
) -> Recipe:
    """Adam with a linear schedule and label smoothing.

    Args:
        model: A registered FTBNN.
        dataset: What to train on.
        nonlinearity, order, shortcut, width, groups, shuffle: Options of the network, see `zoo.FTBNN18`. ``None`` is
            what the registered model has.
        epochs: Length of the training.
        batch_size: Partial batches are dropped.
        lr: Rate of Adam; it falls linearly, epoch by epoch, to 0 in the last one.
        label_smoothing: Share of the target that is spread over all classes.
        weight_decay: L2 on the real-valued kernels; none on binary latent weights, normalisations and slopes.
    """
    given = {"width": width, "groups": groups, "shuffle": shuffle}
    options: dict[str, Any] = {"nonlinearity": nonlinearity, "order": order, "shortcut": shortcut}
    options |= {name: value for name, value in given.items() if value is not None}
    decays = decay_stem_and_logits if shortcut == "binary_conv" else decay_real_kernels

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2Adam(LinearEpochs(steps_per_epoch, epochs, lr), l2=weight_decay, decays=decays)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape, **options),
        optimizer=optimizer,
        augment=default_augmentation(dataset),
        loss=SmoothedCrossentropy(label_smoothing),
        callbacks=lambda network: [NegativeSlopes()],
    )
    return Recipe("ftbnn", dataset, batch_size, "imagenet", [stage])


@lq.utils.register_keras_custom_object
def decay_real_kernels(name: str) -> bool:
    """Return whether a variable is the kernel of the stem, of a real-valued shortcut or of the classifier."""
    return _is_kernel_of(("stem", "shortcut", "logits"), name)


@lq.utils.register_keras_custom_object
def decay_stem_and_logits(name: str) -> bool:
    """Return whether a variable is the kernel of the stem or the classifier, real even where shortcuts are binary."""
    return _is_kernel_of(("stem", "logits"), name)


def _is_kernel_of(parts: Sequence[str], name: str) -> bool:
    layer, _, variable = name.rpartition("/")
    return variable.startswith("kernel") and any(part in layer for part in parts)
