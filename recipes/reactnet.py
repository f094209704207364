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

import larq as lq
import tensorflow as tf

from ..zoo import load
from ..zoo.checkpoints.variables import binary_kernels
from .data.augmentation import flip_and_light
from .data.datasets import default_augmentation
from .recipe import Recipe, Settings, Stage, register
from .training.optimizers import L2Adam
from .training.schedules import LinearEpochs
from .training.teachers import load_teacher
from .transfer import transfer_weights

PREPROCESSING = "imagenet"
LABELS = "labels"

SETTINGS: Settings = {
    "default": {
        "model": "reactnet20",
        "dataset": "cifar10",
        "epochs": 128,
        "batch_size": 256,
        "lr": 1.25e-3,
        "weight_decay": 1e-5,
        "cache_teacher": False,
        "released": False,
    },
    "model=react_resnet*": {"batch_size": 512, "lr": 2.5e-3},
    "dataset=cifar10": {"teacher": "irnet_resnet20_real:cifar10"},  # in the package
    "dataset=imagenet2012": {"teacher": "resnet34:imagenet"},  # downloaded once; PyTorch is needed to read it
}


@register(SETTINGS, quick={"lr": 0.01, "cache_teacher": True})
def reactnet(
    *,
    model: str,
    dataset: str,
    teacher: str,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    cache_teacher: bool,
    released: bool,
) -> Recipe:
    """Adam with a linear schedule in two steps: binary activations with real-valued weights, then both binary.

    Args:
        model: A registered ReActNet of step 2.
        dataset: What to train on.
        teacher: ``"MODEL:TAG"``, registered weights of the zoo; or the path of a packed file or of a whole Keras
            model, ``.keras``. It sees the student's images, normalised as its weights say (a Keras model: as the
            student's), and has its classes. ``"labels"`` trains on the labels instead, which the paper compares with.
        epochs: Length of each step.
        batch_size: Partial batches are dropped.
        lr: Rate of Adam in each step; it falls linearly, epoch by epoch, to 0 in the last one.
        weight_decay: L2, in step 1 alone, on what the official code takes for convolutions: all kernels but the
            classifier's, the thresholds, and the shifts of RPReLU.
        cache_teacher: Run the teacher only once over the training set, whose order and augmentation then are the same
            in every epoch. Saves its time, and costs accuracy.
        released: Start the binary kernels of step 2 anew, as the released code of ReActNet-A does.
    """

    def step(number: int) -> Stage:
        return Stage(
            name=f"step{number}",
            epochs=epochs,
            build=lambda classes, shape: load(model, step=number, num_classes=classes, input_shape=shape),
            optimizer=lambda steps: L2Adam(
                LinearEpochs(steps, epochs, lr),
                l2=weight_decay if number == 1 else 0.0,
                decays=decay_reactnet_convolutions,
            ),
            augment=default_augmentation(dataset, imagenet=flip_and_light),
            teachers=[] if teacher == LABELS else [lambda classes, shape: load_teacher(teacher, PREPROCESSING)],
            repeats=cache_teacher,
            init_from=_transfer_but_kernels if released else transfer_weights,
        )

    return Recipe("reactnet", dataset, batch_size, PREPROCESSING, [step(1), step(2)])


@lq.utils.register_keras_custom_object
def decay_reactnet_convolutions(name: str) -> bool:
    """Return whether the official code takes a variable for a convolution's, and so has it decay."""
    layer, _, variable = ("/" + name).rpartition("/")  # of quantizers in a cloned model Keras gives no layer
    wanted = ("kernel", "alpha_bias", "shift_in", "shift_out")
    return variable.startswith(wanted) and not layer.startswith("/logits")


def _transfer_but_kernels(before: tf.keras.Model, network: tf.keras.Model) -> None:
    fresh = {name: kernel.variable.numpy() for name, kernel in binary_kernels(network).items()}
    transfer_weights(before, network)
    for name, kernel in binary_kernels(network).items():
        kernel.variable.assign(fresh[name])
