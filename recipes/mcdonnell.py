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
from .data.augmentation import random_crop, random_flip, random_scale
from .data.datasets import get_dataset
from .recipe import Recipe, Stage, register, resolved
from .training.moments import average_batch_moments
from .training.optimizers import L2SGD
from .training.schedules import WarmRestarts, cycle_ends

EPOCHS = {"cifar10": 254, "cifar100": 254, "svhn": 30, "mnist": 14, "imagenet32": 30, "imagenet2012": 62}
"""Lengths of the paper's trainings with batch normalisation, each of which ends with a cycle."""


@register
def mcdonnell(
    *,
    dataset: str = "cifar10",
    depth: int | None = None,
    width: float | None = None,
    activation: str = "relu",
    temperature: float | None = None,
    quantized: bool = True,
    learned_norm: bool | None = None,
    input_relu: bool = False,
    padding: str = "same",
    epochs: int | None = None,
    first_cycle: int | None = None,
    batch_size: int = 125,
    lr_max: float = 0.1,
    lr_min: float | None = None,
    momentum: float = 0.9,
    weight_decay: float | None = None,
    cutout: bool | None = None,
    average_moments: bool = False,
) -> Recipe:
    """The paper's recipe for the CIFAR networks, SVHN, MNIST, ImageNet32 and ImageNet.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"``, ``"svhn"``, ``"mnist"``, ``"imagenet32"`` or ``"imagenet2012"``. As in
            the paper, images are flipped but for SVHN and MNIST, shifted but for MNIST and ImageNet, and cropped at
            random scales for ImageNet.
        depth, width, activation, temperature, quantized, learned_norm, input_relu, padding: The network, see
            `WideResNet`, or, for ImageNet, `WideResNetImageNet`. ``None`` is 20-4, for ImageNet 18-2.5; for the shifted
            ReLU the temperature above; and learned normalisations for ImageNet32 and ImageNet alone, as in the paper.
        epochs: ``None``, as in the paper, is 254 for CIFAR (126 there, too), 30 for SVHN and ImageNet32 (62 for 26
            layers), 14 for MNIST (also less), 62 for ImageNet; for CIFAR with the shifted ReLU it is 300.
        first_cycle: Epochs of the first cycle; each is twice as long as the one before. ``None`` is 2, with the shifted
            ReLU ``epochs``.
        batch_size: Partial batches are dropped.
        lr_max, lr_min: Learning rate at the start and at the end of each cycle. ``lr_min=None`` is 1e-4, with the
            shifted ReLU 1e-5.
        momentum: SGD momentum, without Nesterov.
        weight_decay: L2 on the kernels alone. It acts on the latent weights and keeps them small, so that signs can
            change. ``None``, as in the paper, is 1e-4 for ImageNet32 and ImageNet, and 5e-4 for the others.
        cutout: Whether each image loses an 18 x 18 patch to random pixels; ``None`` is for CIFAR only. The paper
            reports CIFAR with and without.
        average_moments: Whether the normalisations' statistics are taken anew over the training set at the end, see
            `average_batch_moments`, as paper and MATLAB code do. The Keras code keeps the running averages.

    Raises:
        ValueError: There is no such dataset, or ``first_cycle`` is below 1.
    """
    known, of_cifar, of_imagenet = get_dataset(dataset), dataset.startswith("cifar"), dataset.startswith("imagenet")
    layers, factor = (18, 2.5) if dataset == "imagenet2012" else (20, 4.0)
    layers, factor = resolved(depth, layers), resolved(width, factor)
    shifted = activation == "shifted_relu"
    divisor = resolved(temperature, 25.0 if dataset == "cifar100" else 40.0) if shifted else temperature
    deep = dataset == "imagenet32" and layers == 26
    length = resolved(epochs, 300 if shifted and of_cifar else 62 if deep else EPOCHS[dataset])
    cycle = resolved(first_cycle, max(length, 1) if shifted else 2)
    lowest = resolved(lr_min, 1e-5 if shifted else 1e-4)
    cuts, learned = resolved(cutout, of_cifar), resolved(learned_norm, of_imagenet)
    l2 = resolved(weight_decay, 1e-4 if of_imagenet else 5e-4)
    if cycle < 1:
        raise ValueError(f"first_cycle must be at least 1, not {cycle!r}.")

    def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if known.shifts:
            images = random_crop(images, seed + [10, 0], padding=4, random_pixels=True)
        if known.flips:
            images = random_flip(images, seed + [20, 0])
        return cut_out(images, seed + [30, 0], size=18) if cuts else images

    def build(num_classes: int, input_shape: tuple[int, ...]) -> tf.keras.Model:
        # Settings are of any value; the network's function checks them.
        network: Callable[..., tf.keras.Model] = WideResNetImageNet if dataset == "imagenet2012" else WideResNet
        return network(
            depth=layers,
            width=factor,
            activation=activation,
            temperature=divisor,
            quantized=quantized,
            learned_norm=learned,
            input_relu=input_relu,
            padding=padding,
            num_classes=num_classes,
            input_shape=input_shape,
        )

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return L2SGD(WarmRestarts(steps_per_epoch, lr_max, lowest, cycle), momentum=momentum, l2=l2)

    stage = Stage(
        name="train",
        epochs=length,
        build=build,
        optimizer=optimizer,
        augment=augment,
        crop=random_scale,
        finish=average_batch_moments if average_moments else None,
        milestones=sorted({*cycle_ends(length, cycle), length}),
    )
    settings = {
        "depth": layers,
        "width": factor,
        "temperature": divisor,
        "learned_norm": learned,
        "epochs": length,
        "first_cycle": cycle,
        "lr_min": lowest,
        "weight_decay": l2,
        "cutout": cuts,
    }
    return Recipe("mcdonnell", dataset, batch_size, "raw", [stage], settings)
