"""How McDonnell trained 1-bit-per-weight Wide ResNets.

M. D. McDonnell, *Training wide residual networks for deployment using a single bit for each weight*, ICLR 2018,
arXiv 1802.08530, sections 3.2 and 4; official code: `McDonnell-Lab/1-bit-per-weight`.

    onebit train mcdonnell --data-dir DATA --output RUN

is the paper's network 20-4 with cutout: 254 epochs, 94.66 % on CIFAR-10. Warm restarts make the accuracy meaningful
only after 2, 6, 14, 30, 62, 126 and 254 epochs, which are when the test set is evaluated.

| what | paper | official code | here |
|---|---|---|---|
| last learning rate of a cycle | 1e-4 | 1e-5 | ``lr_min=1e-4`` |
| momentum at a restart | - | MATLAB clears it, Keras keeps it | kept |
| shifts of the crop | - | MATLAB: never equal in x and y; Keras: 0 twice as likely | uniform |
| initial weights | He | MATLAB normal, Keras truncated normal | truncated normal |
| padding without cutout | random pixels | Keras: zeros | random pixels |
| normalisation statistics | averaged over the training set afterwards | Keras: running averages | ``average_moments`` |
"""

from __future__ import annotations

import tensorflow as tf

from ..zoo import WideResNet, WideResNetImageNet
from .augmentation import cutout as cut_out
from .augmentation import random_crop, random_flip, random_scale
from .datasets import get_dataset
from .moments import average_batch_moments
from .optimizers import SGD
from .recipe import Recipe, Stage, register
from .schedules import WarmRestarts, cycle_ends


@register
def mcdonnell(
    *,
    dataset: str = "cifar10",
    depth: int = 20,
    width: float = 4.0,
    activation: str = "relu",
    quantized: bool = True,
    epochs: int = 254,
    batch_size: int = 125,
    lr_max: float = 0.1,
    lr_min: float = 1e-4,
    momentum: float = 0.9,
    weight_decay: float | None = None,
    cutout: bool | None = None,
    average_moments: bool = False,
) -> Recipe:
    """The paper's recipe for the CIFAR networks, SVHN, MNIST, ImageNet32 and ImageNet.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"``, ``"svhn"``, ``"mnist"``, ``"imagenet32"`` or ``"imagenet2012"``. As in
            the paper, images are flipped but for SVHN and MNIST, shifted but for MNIST and ImageNet, cut at random
            scales for ImageNet, and normalisations learn scale and offset for ImageNet32 and ImageNet.
        depth, width, activation, quantized: The network, see `WideResNet`, or, for ImageNet, `WideResNetImageNet`,
            which is 18-2.5 in the paper.
        epochs: 126 or 254 in the paper for CIFAR, 30 for SVHN and ImageNet32 (62 for 26-10 there), 1 to 14 for MNIST,
            62 for ImageNet.
        batch_size: Partial batches are dropped.
        lr_max, lr_min: Learning rate at the start and at the end of each cycle.
        momentum: Of SGD, not Nesterov's.
        weight_decay: L2 on the kernels alone. It acts on the latent weights and keeps them small, so that signs can
            change. ``None``, as in the paper, is 1e-4 for ImageNet32 and ImageNet, and 5e-4 for the others.
        cutout: Whether each image loses an 18 x 18 patch to random pixels; ``None`` is for CIFAR only. The paper
            reports CIFAR with and without.
        average_moments: Re-estimate the normalisations' statistics over the training set at the end, as paper and
            MATLAB code do. The Keras code keeps the running averages.
    """
    known, of_imagenet = get_dataset(dataset), dataset.startswith("imagenet")
    cuts = dataset.startswith("cifar") if cutout is None else cutout
    l2 = (1e-4 if of_imagenet else 5e-4) if weight_decay is None else weight_decay

    def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if known.shifts:
            images = random_crop(images, seed + [10, 0], padding=4, random_pixels=True)
        if known.flips:
            images = random_flip(images, seed + [20, 0])
        return cut_out(images, seed + [30, 0], size=18) if cuts else images

    def build(num_classes: int, input_shape: tuple[int, ...]) -> tf.keras.Model:
        network = WideResNetImageNet if dataset == "imagenet2012" else WideResNet
        return network(
            depth=depth,
            width=width,
            activation=activation,
            quantized=quantized,
            learned_norm=of_imagenet,
            num_classes=num_classes,
            input_shape=input_shape,
        )

    def optimizer(steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
        return SGD(WarmRestarts(steps_per_epoch, lr_max, lr_min), momentum=momentum, l2=l2)

    stage = Stage(
        name="train",
        epochs=epochs,
        build=build,
        optimizer=optimizer,
        augment=augment,
        crop=random_scale,
        finish=average_batch_moments if average_moments else None,
        milestones=sorted({*cycle_ends(epochs), epochs}),
    )
    return Recipe("mcdonnell", dataset, batch_size, "raw", [stage])
