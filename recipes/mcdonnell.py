"""How McDonnell trained 1-bit-per-weight Wide ResNets.

M. D. McDonnell, *Training wide residual networks for deployment using a single bit for each weight*, ICLR 2018,
arXiv 1802.08530, sections 3.2 and 4; official code: `McDonnell-Lab/1-bit-per-weight`.

    onebit train mcdonnell --data-dir DATA --output RUN

is the paper's network 20-4 with cutout (94.66 % on CIFAR-10), for 254 epochs. Warm restarts make the accuracy
meaningful only after 2, 6, 14, 30, 62, 126 and 254 epochs, which are when the test set is evaluated.

| what | paper | official code | here |
|---|---|---|---|
| last learning rate of a cycle | 1e-4 | 1e-5 | ``lr_min=1e-4`` |
| momentum at a restart | - | MATLAB clears it, Keras keeps it | kept |
| shifts of the crop | - | MATLAB: never equal in x and y; Keras: 0 twice as likely | uniform |
| initial weights | He | MATLAB normal, Keras truncated normal | truncated normal |
| padding without cutout | random pixels | Keras: zeros | random pixels |
| statistics | averaged over the training set | MATLAB: likewise; Keras: running | ``average_moments=false`` |
| ReLU at the input, padding | - | MATLAB: yes, symmetric; Keras: no, ``same`` | ``input_relu=false padding=same`` |

``learned_norm=true`` is the ablation of section 4.1, in which all normalisations learn a scale and an offset. Not here:
the multi-crop test of ImageNet (our figures are of the central crop), and the plain networks, without shortcuts.

``activation=shifted_relu`` is the variant of arXiv 1907.06916 without batch normalisation, by the official notebooks:

| what | notebooks | here |
|---|---|---|
| schedule | one cycle of 300 epochs, 0.1 to 1e-5 | one cycle of ``epochs``, ``lr_min=1e-5`` |
| temperature of the logits | 40 for CIFAR-10, 25 for CIFAR-100 | ``temperature``; 40 for all others |
| pixels | training 0 to 1, test 0 to 255 (the 96.52 and 78.41 % that they report) | 0 to 255 |
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from ..zoo import WideResNet, WideResNetImageNet
from .data.augmentation import cutout as cut_out
from .data.augmentation import random_crop, random_flip, scale_jitter_crop
from .data.datasets import get_dataset
from .recipe import Recipe, Same, Settings, Stage, register
from .training.batch_norm import recalibrate_batch_norm
from .training.optimizers import L2SGD
from .training.schedules import WarmRestarts, cycle_ends

SETTINGS: Settings = {
    "default": {
        "dataset": "cifar10",
        "depth": 20,
        "width": 4.0,
        "activation": "relu",
        "temperature": None,
        "quantized": True,
        "learned_norm": False,
        "input_relu": False,
        "padding": "same",
        "epochs": 254,
        "first_cycle": 2,
        "batch_size": 125,
        "lr_max": 0.1,
        "lr_min": 1e-4,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "cutout": False,
        "average_moments": False,
    },
    "dataset=cifar*": {"cutout": True},  # the paper reports both
    "dataset=svhn": {"epochs": 30},
    "dataset=mnist": {"epochs": 14},
    "dataset=imagenet*": {"learned_norm": True, "weight_decay": 1e-4},
    "dataset=imagenet32": {"epochs": 30},
    "dataset=imagenet32 depth=26": {"epochs": 62},
    "dataset=imagenet2012": {"depth": 18, "width": 2.5, "epochs": 62},
    # Without batch normalisation, by the notebooks: one cycle.
    "activation=shifted_relu": {"temperature": 40.0, "first_cycle": Same("epochs"), "lr_min": 1e-5},
    "activation=shifted_relu dataset=cifar*": {"epochs": 300},
    "activation=shifted_relu dataset=cifar100": {"temperature": 25.0},
}


@register(SETTINGS, quick={"depth": 8, "width": 1, "cutout": False, "average_moments": True})
def mcdonnell(
    *,
    dataset: str,
    depth: int,
    width: float,
    activation: str,
    temperature: float | None,
    quantized: bool,
    learned_norm: bool,
    input_relu: bool,
    padding: str,
    epochs: int,
    first_cycle: int,
    batch_size: int,
    lr_max: float,
    lr_min: float,
    momentum: float,
    weight_decay: float,
    cutout: bool,
    average_moments: bool,
) -> Recipe:
    """The paper's recipe for the CIFAR networks, SVHN, MNIST, ImageNet32 and ImageNet.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"``, ``"svhn"``, ``"mnist"``, ``"imagenet32"`` or ``"imagenet2012"``. As in
            the paper, images are flipped but for SVHN and MNIST, shifted but for MNIST and ImageNet, and cropped at
            random scales for ImageNet.
        depth, width, activation, temperature, quantized, learned_norm, input_relu, padding: The network, see
            `WideResNet`, or, for ImageNet, `WideResNetImageNet`.
        epochs: Length of the training. The paper's all end with a cycle; it also has 126 for CIFAR, and less for MNIST.
        first_cycle: Epochs of the first cycle; each is twice as long as the one before.
        batch_size: Partial batches are dropped.
        lr_max, lr_min: Learning rate at the start and at the end of each cycle.
        momentum: SGD momentum, without Nesterov.
        weight_decay: L2 on the kernels alone. It acts on the latent weights and keeps them small, so that signs can
            change.
        cutout: Whether each image loses an 18 x 18 patch to random pixels.
        average_moments: Whether the normalisations' statistics are taken anew over the training set at the end, see
            `recalibrate_batch_norm`, as paper and MATLAB code do. The Keras code keeps the running averages.

    Raises:
        ValueError: There is no such dataset, or ``first_cycle`` is below 1.
    """
    known = get_dataset(dataset)
    if first_cycle < 1 <= epochs:
        raise ValueError(f"first_cycle must be at least 1, not {first_cycle!r}.")

    def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if known.shifts:
            images = random_crop(images, seed + [10, 0], padding=4, random_pixels=True)
        if known.flips:
            images = random_flip(images, seed + [20, 0])
        return cut_out(images, seed + [30, 0], size=18) if cutout else images

    def build(num_classes: int, input_shape: tuple[int, ...]) -> tf.keras.Model:
        # Settings are of any value; the network's function checks them.
        network: Callable[..., tf.keras.Model] = WideResNetImageNet if dataset == "imagenet2012" else WideResNet
        return network(
            depth=depth,
            width=width,
            activation=activation,
            temperature=temperature,
            quantized=quantized,
            learned_norm=learned_norm,
            input_relu=input_relu,
            padding=padding,
            num_classes=num_classes,
            input_shape=input_shape,
        )

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2SGD(WarmRestarts(steps_per_epoch, lr_max, lr_min, first_cycle), momentum=momentum, l2=weight_decay)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=build,
        optimizer=optimizer,
        augment=augment,
        crop=scale_jitter_crop,
        finish=recalibrate_batch_norm if average_moments else None,
        milestones=sorted({*cycle_ends(epochs, max(first_cycle, 1)), epochs}),
    )
    return Recipe("mcdonnell", dataset, batch_size, "0_255", [stage])
