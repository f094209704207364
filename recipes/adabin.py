"""How AdaBin was trained, on CIFAR-10 and ImageNet.

Z. Tu, X. Chen, P. Ren, Y. Wang, *AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets*, ECCV 2022,
arXiv 2208.08084; official code: `huawei-noah/Efficient-Computing`, `BinaryNetworks/AdaBin`.

    onebit train adabin --data-dir DATA --output RUN

is ResNet-20 on CIFAR-10, 400 epochs; the authors report 88.1 %, and their weights have 87.99 % of all test images.

    onebit train adabin --data-dir DATA --output RUN --set dataset=imagenet2012

is ResNet-18 on ImageNet (63.1 %). Both are one stage from scratch, with 1-bit weights and activations from the start.

| what | official code | here |
|---|---|---|
| EDE on CIFAR-10 | with ``--progressive``, as in its ``train.sh``; else k t = 1 throughout | always |
| test images scored, CIFAR-10 | 9,984 (the last batch is dropped) | all |
| epoch that is reported | the best on the test images | the last |
| statistics of normalisations, ImageNet | each GPU's own 32 images | the whole batch's |
| a new rate, with momentum | for the whole velocity (PyTorch) | for new gradients: Keras' velocity holds the rate |

Not the authors', but what later papers on the same networks change, each an option that is off by default:

| option | what it does |
|---|---|
| ``shortcut=average_pool`` | downsampling shortcuts of CIFAR networks average, instead of dropping pixels |
| ``weight_decay=5e-4 warmup=5`` | more decay, after five epochs in which the rate rises |
| ``teacher=irnet_resnet20_real:cifar10`` | distillation from a full-precision network instead of the labels |

    onebit train adabin_distilled --data-dir DATA --output RUN

has all of them, and half as many epochs again. What it takes from whom: networks, sets of values, EDE, SGD and cosine
from AdaBin; a real-valued teacher and its loss in the labels' place from ReActNet (arXiv 2003.03488); averaging before
the shortcut from Bi-Real Net (arXiv 1808.00278), but with AdaBin's zeros instead of a convolution. Warm-up, decay and
length are *our choice*, and so is the teacher. A trial of fewer than ten epochs has no warm-up.
"""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from ..quantizers import EDESchedule
from ..quantizers.ede import ede_quantizers
from ..zoo import load
from .data.augmentation import flip
from .data.datasets import default_augmentation
from .recipe import Recipe, Settings, Stage, register
from .training.optimizers import L2SGD, decay_all
from .training.schedules import CosineEpochs
from .training.teachers import load_teacher

PREPROCESSING = "imagenet"
LABELS = "labels"

SETTINGS: Settings = {
    "default": {
        "model": "adabin_resnet20",
        "dataset": "cifar10",
        "epochs": 400,
        "batch_size": 128,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "t_min": 1e-3,
        "t_max": 1e1,
        "shortcut": None,
        "warmup": 0,
        "teacher": LABELS,
    },
    "dataset=imagenet2012": {"model": "adabin_resnet18", "epochs": 120, "batch_size": 256, "weight_decay": 1e-5},
}
DISTILLED: Settings = {
    "default": {
        **SETTINGS["default"],
        "epochs": 600,
        "weight_decay": 5e-4,
        "shortcut": "average_pool",
        "warmup": 5,
        "teacher": "irnet_resnet20_real:cifar10",
    },
    "epochs=?": {"warmup": 0},
}


@lq.utils.register_keras_custom_object
class WarmupCosineEpochs(CosineEpochs):
    """`CosineEpochs` behind a warm-up: in its epoch e of w, from 0, the rate has the factor (e + 1) / (w + 1).

    Args:
        steps_per_epoch, epochs, initial: As for `CosineEpochs`; ``epochs`` counts those of the warm-up.
        warmup: Epochs of the warm-up, from 0 (none) to less than ``epochs``.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(self, steps_per_epoch: int, epochs: int, initial: float, warmup: int = 0) -> None:
        super().__init__(steps_per_epoch, epochs, initial)
        if not 0 <= warmup < epochs:
            raise ValueError(f"warmup must be from 0 to less than the {epochs} epochs, not {warmup!r}.")
        self.warmup = warmup

    def _factor(self, epoch: tf.Tensor) -> tf.Tensor:
        rising = tf.minimum((epoch + 1) / (self.warmup + 1), 1)
        return tf.where(epoch < self.warmup, rising, super()._factor(epoch))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "warmup": self.warmup}


@register(
    DISTILLED,
    name="adabin_distilled",
    summary="AdaBin's recipe, longer, with a teacher, averaging shortcuts, a warm-up and more decay.",
)
@register(SETTINGS)
def adabin(
    *,
    model: str,
    dataset: str,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    t_min: float,
    t_max: float,
    shortcut: str | None,
    warmup: int,
    teacher: str,
) -> Recipe:
    """SGD with a cosine schedule while EDE narrows the gradient of the kernels' sign, from scratch.

    Args:
        model: A registered AdaBin.
        dataset: What to train on.
        epochs: Length of the training, and of the EDE schedule.
        batch_size: Over all replicas. Partial batches are dropped.
        lr: Rate of the first epoch; a cosine brings it down epoch by epoch.
        momentum: SGD momentum, without Nesterov.
        weight_decay: L2 on all parameters: those of quantizers, slopes and normalisations included.
        t_min, t_max: See `ede_schedule`.
        shortcut: See `zoo.AdaBinResNet20`; ``None`` is the official network's.
        warmup: Epochs at the beginning in which the rate rises to ``lr``.
        teacher: ``"labels"``, or what to distil from: ``"MODEL:TAG"``, registered weights of the zoo; or the path of a
            packed file or of a ``.keras`` file.

    Raises:
        ValueError: The warm-up is as long as the training.
    """
    options = {} if shortcut is None else {"shortcut": shortcut}
    WarmupCosineEpochs(1, epochs, lr, warmup)  # which says what is wrong before any data is read

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        schedule = WarmupCosineEpochs(steps_per_epoch, epochs, lr, warmup)
        return L2SGD(schedule, momentum=momentum, l2=weight_decay, decays=decay_all)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=lambda classes, shape: load(model, num_classes=classes, input_shape=shape, **options),
        optimizer=optimizer,
        augment=default_augmentation(dataset, imagenet=flip),
        teachers=[] if teacher == LABELS else [lambda classes, shape: load_teacher(teacher, PREPROCESSING)],
        callbacks=lambda network: [EDESchedule(epochs, t_min, t_max)] if ede_quantizers(network) else [],
    )
    return Recipe("adabin", dataset, batch_size, PREPROCESSING, [stage])
