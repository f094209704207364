"""1-bit Wide ResNets: McDonnell's networks with a single bit for each weight, and real activations.

M. D. McDonnell, *Training wide residual networks for deployment using a single bit for each weight*, ICLR 2018,
arXiv 1802.08530; official code: `McDonnell-Lab/1-bit-per-weight`, `ResNetModel.py`. Every convolution is binary, the
first and the last included, and scaled by a constant (`McDonnellSign`). The networks take raw pixels, 0 to 255: the
normalisation at the input is their preprocessing.

Published test accuracy in percent, 1-bit (Tables 1 and 2, and text):

| network | CIFAR-10, CIFAR-100 with cutout | without | others |
|---|---|---|---|
| 20-4 | 94.66, 76.26 | 93.87, 76.13 | SVHN 98.07, ImageNet32 43.92, MNIST 99.73 (width 4) |
| 20-10 | 96.08, 81.49 | 95.28, 80.65 | ImageNet32 55.73 |
| 20-15 | | | ImageNet32 58.74 |
| 26-10 | 96.59, 81.50 | 95.54, 81.06 | ImageNet32 58.64 |
| 20-20 | | CIFAR-100 81.19 | |
| 18-2.5 | | | ImageNet 68.97, and 73.96 over many crops |

The variant with shifted ReLUs reached 96.52 and 78.41, by notebooks that train on pixels from 0 to 1 and test on pixels
from 0 to 255.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import McDonnellSign, ShiftedReLU
from . import building as nn
from .images.images import for_dataset
from .registry import CIFAR, IMAGENET, Paper, register

__all__ = ["WideResNet", "WideResNetImageNet"]

PAPER = Paper(
    "Training wide residual networks for deployment using a single bit for each weight",
    "M. D. McDonnell",
    "ICLR 2018",
    "1802.08530",
    top1={
        "wide_resnet_20_4": 94.66,
        "wide_resnet_20_10": 96.08,
        "wide_resnet_26_10": 96.59,
        "wide_resnet_imagenet_18_2.5": 68.97,
    },
)
_NARROW = "Narrower than the paper's networks, of which 20-4 is the narrowest."
_OF_IMAGENET32 = "The paper's for ImageNet32 (num_classes=1000), where it reports 58.74 %."
_OF_CIFAR100 = "The paper's for CIFAR-100 (num_classes=100), where it reports 81.19 % without cutout."
_NO_CODE = "Stem and shortcuts are our choice: the paper gives depth, width and the number of weights."
Activation = Literal["relu", "shifted_relu"]
# The networks normalise at their input.
_CIFAR = CIFAR._replace(min_size=4, preprocessing=for_dataset("0_255", "cifar10"))
_IMAGENET = IMAGENET._replace(preprocessing=for_dataset("0_255", "imagenet2012"))


@register("wide_resnet_20_1", PAPER, note=_NARROW, depth=20, width=1)
@register("wide_resnet_20_2", PAPER, note=_NARROW, depth=20, width=2)
@register("wide_resnet_20_4", PAPER, depth=20, width=4)
@register("wide_resnet_20_10", PAPER, depth=20, width=10)
@register("wide_resnet_26_10", PAPER, depth=26, width=10)
@register("wide_resnet_20_15", PAPER, note=_OF_IMAGENET32, depth=20, width=15, learned_norm=True)
@register("wide_resnet_20_20", PAPER, note=_OF_CIFAR100, depth=20, width=20)
@nn.architecture(_CIFAR)
def WideResNet(
    *,
    depth: int = 20,
    width: float = 10,
    activation: Activation = "relu",
    learned_norm: bool = False,
    input_relu: bool = False,
    temperature: float = 40.0,
    quantized: bool = True,
    padding: nn.Padding = "same",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """The CIFAR network: three scales of 16, 32 and 64 times ``width`` channels, 10 classes.

    Args:
        depth: 6n + 2 convolutions, n blocks of two at each scale.
        width: Factor of the channels.
        activation: ``"relu"`` (default), after a batch normalisation; or ``"shifted_relu"``, the variant without batch
            normalisation (but for the input) of arXiv 1907.06916, max(-1, x).
        learned_norm: Whether all batch normalisations learn a scale and an offset, as for ImageNet and ImageNet32. By
            default only the input's does.
        input_relu: Whether a ReLU follows the input's normalisation: as in the MATLAB code, not in the Keras code
            (default).
        temperature: Divides the logits of the ``"shifted_relu"`` variant, which nothing else bounds. Officially 40 for
            CIFAR-10 and 25 for CIFAR-100.
        quantized: ``False`` builds the full-precision network.
        padding: ``"same"`` (default), as the official Keras code; ``"symmetric"``, as the MATLAB code.
    """
    return _wide_resnet(
        3, "wide_resnet", depth, width, activation, learned_norm, input_relu, temperature, quantized, padding, **options
    )


@register("wide_resnet_imagenet_18_2.5", PAPER, note=_NO_CODE, depth=18, width=2.5)
@nn.architecture(_IMAGENET)
def WideResNetImageNet(
    *,
    depth: int = 18,
    width: float = 2.5,
    activation: Activation = "relu",
    learned_norm: bool = True,
    input_relu: bool = False,
    temperature: float = 40.0,
    quantized: bool = True,
    padding: nn.Padding = "same",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """The ImageNet network: four scales of 64, 128, 256 and 512 times ``width`` channels, 1000 classes.

    The paper gives depth, width and the number of weights, 70.0 million, and no code. *Our choices*, where it is
    silent: the stem of He et al., a 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2, which gives 69.96
    million weights; and the shortcut of the CIFAR networks.

    Args:
        depth: 8n + 2 convolutions, n blocks of two at each scale.
        width: Factor of the channels.
        activation, learned_norm, input_relu, temperature, quantized, padding: See `WideResNet`.
    """
    return _wide_resnet(
        4,
        "wide_resnet_imagenet",
        depth,
        width,
        activation,
        learned_norm,
        input_relu,
        temperature,
        quantized,
        padding,
        **options,
    )


def _wide_resnet(
    scales: int,
    name: str,
    depth: int,
    width: float,
    activation: Activation,
    learned_norm: bool,
    input_relu: bool,
    temperature: float,
    quantized: bool,
    padding: nn.Padding,
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    blocks = _blocks(depth, scales)
    base = 16 if scales == 3 else 64
    if not (isinstance(width, int | float) and width > 0 and base * width % 1 == 0):
        raise ValueError(
            f"width must be a positive number with a whole number of channels, {base} * width, not {width!r}."
        )
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be a positive number, not {temperature!r}.")
    builder = nn.ModelBuilder(**options)

    def convolve(x: tf.Tensor, filters: int, size: int, layer: str, strides: int = 1) -> tf.Tensor:
        quantizer = McDonnellSign() if quantized else None
        return nn.binary_conv(
            x, filters, size, strides=strides, padding=padding, kernel_quantizer=quantizer, name=layer
        )

    def normalise(x: tf.Tensor, layer: str, learned: bool = learned_norm) -> tf.Tensor:
        return nn.ExactBatchNormalization(epsilon=1e-5, momentum=0.99, center=learned, scale=learned, name=layer)(x)

    def activate(x: tf.Tensor, layer: str) -> tf.Tensor:
        if activation == "shifted_relu":
            return ShiftedReLU(name=f"{layer}_srelu")(x)
        return tf.keras.layers.ReLU(name=f"{layer}_relu")(normalise(x, f"{layer}_bn"))

    x = normalise(builder.inputs, "input_bn", learned=True)
    if input_relu:
        x = tf.keras.layers.ReLU(name="input_relu")(x)
    channels = int(base * width)
    if scales == 3:
        x = convolve(x, channels, 3, "stem_conv")
    else:
        x = convolve(x, channels, 7, "stem_conv", strides=2)
        pool = nn.SymmetricMaxPool2D if padding == "symmetric" else tf.keras.layers.MaxPooling2D
        x = pool(3, strides=2, padding="same", name="stem_pool")(x)
    for stage in range(scales):
        for block in range(blocks):
            layer = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            y = activate(x, f"{layer}_1")
            y = convolve(y, channels << stage, 3, f"{layer}_conv1", strides)
            y = activate(y, f"{layer}_2")
            y = convolve(y, channels << stage, 3, f"{layer}_conv2")
            shortcut = x if strides == 1 else _halve(x, padding, layer)
            x = tf.keras.layers.Add(name=f"{layer}_add")([y, shortcut])
    x = activate(x, "head")
    if builder.include_top:
        x = convolve(x, builder.num_classes, 1, "logits_conv")
        if activation == "shifted_relu":
            # Keras takes a Python number for a float32.
            x = tf.keras.layers.Rescaling(np.float64(1 / temperature), name="logits_scale")(x)
        else:
            x = normalise(x, "logits_bn")
        x = tf.keras.layers.GlobalAveragePooling2D(name="logits")(x)
    return builder.finish(x, f"{name}_{depth}_{width}")


def _blocks(depth: int, scales: int) -> int:
    """Return the number of blocks at each scale."""
    blocks, rest = divmod(depth - 2, 2 * scales) if isinstance(depth, int) else (0, 1)
    if rest or blocks < 1:
        raise ValueError(f"depth must be {2 * scales}n + 2 with n at least 1, not {depth!r}.")
    return blocks


def _halve(x: tf.Tensor, padding: nn.Padding, layer: str) -> tf.Tensor:
    """Halve the image and double the channels without weights: an average, and zeros appended.

    The averages leave the padding out of their divisor.
    """
    channels = x.shape[-1]
    pool = tf.keras.layers.AveragePooling2D
    if padding == "symmetric":
        # At stride 1 `same` is symmetric, so every second of its windows is what MatConvNet averages.
        x = pool(3, 1, "same", name=f"{layer}_shortcut_pool")(x)
        x = pool(1, 2, name=f"{layer}_shortcut_subsample")(x)
    else:
        x = pool(3, 2, "same", name=f"{layer}_shortcut_pool")(x)
    return nn.PadChannels(after=channels, name=f"{layer}_shortcut_pad")(x)
