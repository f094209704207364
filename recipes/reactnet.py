"""How ReActNet was trained: two steps, both towards a real-valued teacher.

Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, *ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions*, ECCV 2020, arXiv 2003.03488; official code: `liuzechun/ReActNet`.

    onebit train reactnet --data-dir DATA --output RUN

trains the CIFAR form with the settings of the official code: the authors published ImageNet results alone. Theirs is

    onebit train reactnet --data-dir DATA --output RUN --set model=reactnet_a --set dataset=imagenet2012

The teacher is the official code's, torchvision's ResNet-34 with its weights for ImageNet, and for CIFAR-10 *our
choice*: IR-Net's ResNet-20 without quantizers.

| what | code, ReActNet-A | code, ReAct-ResNet-18 | paper |
|---|---|---|---|
| epochs in each step, rate | 128, 1.25e-3 (or 256, 5e-4) | 128, 2.5e-3 (or 256, 1e-3) | 600,000 batches, 5e-4 |
| batch | 256 | 512 | 256 |
| weight decay | 1e-5 in step 1, 0 in step 2 | the same | the same |
| an epoch's last, partial batch | trained on; here dropped | the same | - |
| statistics of normalisations | each GPU's own; here the whole batch's | the same | - |

The paper's column is from a summary and from what readers quote of it.

The released code of ReActNet-A loads step 1 into step 2 with ``strict=False`` while the binary kernels have another
name there, and so drops them without a word. Here they are handed over; ``released=true`` reproduces the released
behaviour.
"""

from __future__ import annotations

from typing import NamedTuple

import larq as lq
import tensorflow as tf

from ..zoo import load
from ..zoo.checkpoints.variables import binary_kernels
from .data.augmentation import flip_and_light
from .data.datasets import usual_augmentation
from .inherit import inherit_all
from .recipe import Recipe, Stage, register, resolved
from .training.optimizers import L2Adam
from .training.schedules import LinearEpochs
from .training.teachers import load_teacher

PREPROCESSING = "imagenet"
LABELS = "labels"
TEACHERS = {"cifar10": "irnet_resnet20_real:cifar10", "imagenet2012": "resnet34:imagenet"}
"""By dataset; the first is in the package, the second is downloaded once, and PyTorch is needed to read it."""


class Official(NamedTuple):
    """What the authors chose for a kind of network."""

    batch_size: int
    lr: float


MOBILENET, RESNET = Official(256, 1.25e-3), Official(512, 2.5e-3)


@register
def reactnet(
    *,
    model: str = "reactnet20",
    dataset: str = "cifar10",
    teacher: str | None = None,
    epochs: int = 128,
    batch_size: int | None = None,
    lr: float | None = None,
    weight_decay: float = 1e-5,
    cache_teacher: bool = False,
    released: bool = False,
) -> Recipe:
    """Adam with a linear schedule in two steps: binary activations with real-valued weights, then both binary.

    Args:
        model: A registered ReActNet of step 2.
        dataset: What to train on.
        teacher: ``"MODEL:TAG"``, registered weights of the zoo; or the path of a packed file or of a whole Keras
            model, ``.keras``. It sees the student's images, normalised as its weights say (a Keras model: as the
            student's), and has its classes. ``"labels"`` trains on the labels instead, which the paper compares with.
            ``None`` is `TEACHERS`' for the dataset.
        epochs: Length of each step.
        batch_size: Partial batches are dropped. ``None``, as in the code, is 512 for ReAct-ResNet and 256 for the
            others.
        lr: Rate of Adam in each step; it falls linearly, epoch by epoch, to 0 in the last one. ``None``, as in the
            code, is 2.5e-3 for ReAct-ResNet and 1.25e-3 for the others.
        weight_decay: L2, in step 1 alone, on what the official code takes for convolutions: all kernels but the
            classifier's, the thresholds, and the shifts of RPReLU.
        cache_teacher: Run the teacher only once over the training set, whose order and augmentation then are the same
            in every epoch. Saves its time, and costs accuracy.
        released: Start the binary kernels of step 2 anew, as the released code of ReActNet-A does.

    Raises:
        ValueError: There is no teacher for the dataset, and none is given.
    """
    master = resolved(teacher, TEACHERS.get(dataset))
    if not master:
        raise ValueError(
            f"teacher must be given for {dataset!r}: MODEL:TAG, the path of a packed file or of a .keras file, or "
            f"{LABELS!r}, to train on the labels. The zoo has teachers for {' and '.join(TEACHERS)}."
        )
    official = RESNET if model.startswith("react_resnet") else MOBILENET
    batch, rate = resolved(batch_size, official.batch_size), resolved(lr, official.lr)

    def step(number: int) -> Stage:
        return Stage(
            name=f"step{number}",
            epochs=epochs,
            build=lambda classes, shape: load(model, step=number, num_classes=classes, input_shape=shape),
            optimizer=lambda steps: L2Adam(
                LinearEpochs(steps, epochs, rate), l2=weight_decay if number == 1 else 0.0, decays=is_convolution
            ),
            augment=usual_augmentation(dataset, imagenet=flip_and_light),
            teacher=None if master == LABELS else lambda classes, shape: load_teacher(master, PREPROCESSING),
            repeats=cache_teacher,
            inherit=_inherit_but_kernels if released else inherit_all,
        )

    settings = {"teacher": master, "batch_size": batch, "lr": rate}
    return Recipe("reactnet", dataset, batch, PREPROCESSING, [step(1), step(2)], settings)


@lq.utils.register_keras_custom_object
def is_convolution(name: str) -> bool:
    """Return whether the official code takes a variable for a convolution's, and so has it decay."""
    layer, _, variable = ("/" + name).rpartition("/")  # of quantizers in a cloned model Keras gives no layer
    wanted = ("kernel", "alpha_bias", "shift_in", "shift_out")
    return variable.startswith(wanted) and not layer.startswith("/logits")


def _inherit_but_kernels(before: tf.keras.Model, network: tf.keras.Model) -> None:
    fresh = {name: kernel.variable.numpy() for name, kernel in binary_kernels(network).items()}
    inherit_all(before, network)
    for name, kernel in binary_kernels(network).items():
        kernel.variable.assign(fresh[name])
