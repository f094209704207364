"""Bi-Real Net: 1-bit residual networks with a real-valued shortcut around every convolution.

Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng, *Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved
Representational Capability and Advanced Training Algorithm*, ECCV 2018, arXiv 1808.00278; official code:
`liuzechun/Bi-Real-net`, `pytorch_implementation`. A block is sign, binary convolution, batch normalisation and the
addition of the shortcut; there is no other non-linearity. Stem, downsampling shortcuts and classifier are real-valued.

Published ImageNet accuracy, top-1 / top-5 in percent (official README): 18 layers 56.4 / 79.5, 34 layers 62.2 / 83.9,
50 layers 62.6 / 83.9. The network of 50 layers is from the journal paper (IJCV 2020, arXiv 1811.01335); that of 152
layers there (64.5) is not here: neither code nor a description of it could be had.
"""

from __future__ import annotations

import functools
from typing import Literal

import tensorflow as tf
from larq.quantizers import MagnitudeAwareSign
from typing_extensions import Unpack

from ..quantizers import ApproxSign, LeakyClip, ScaledSign
from . import building as nn
from .registry import CIFAR, IMAGENET, Paper, PaperCounts, register

__all__ = ["BiRealNet18", "BiRealNet18CIFAR", "BiRealNet20", "BiRealNet34", "BiRealNet50"]

PAPER = Paper(
    "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational Capability and Advanced "
    "Training Algorithm",
    "Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng",
    "ECCV 2018",
    "1808.00278",
    top1={"birealnet18": 56.4, "birealnet34": 62.2},
    counts={
        "birealnet18": PaperCounts(11_689_512, 10_985_472, 33.5, 1676, 137.8),
        "birealnet34": PaperCounts(21_797_672, 21_086_208, 43.9, 3526, 137.8),
        "birealnet18_cifar": PaperCounts(11_173_962, 10_985_472, 17.0, 547, 8.1),
        "birealnet20": PaperCounts(272_474, 267_264, 0.4, 40, 0.7),
    },
)
JOURNAL_PAPER = Paper(
    "Bi-Real Net: Binarizing Deep Network Towards Real-Network Performance",
    "Z. Liu, W. Luo, B. Wu, X. Yang, W. Liu, K.-T. Cheng",
    "IJCV 2020",
    "1811.01335",
    top1={"birealnet50": 62.6},
    counts={"birealnet50": PaperCounts(25_729_064, 20_672_512, 182.5, 3597, 569.6)},
)
Activation = Literal["relu", "leaky_clip", "clip"]
Variant = Literal["official", "larq_zoo"]

_BOTTLENECKS = nn.ResNetSpec("imagenet", (256, 512, 1024, 2048), (3, 4, 6, 3))


# The official code has 18, 34 and 50 layers. The CIFAR networks' names continue those of 18.
_layout = functools.partial(nn.StateDictLayout, implies={"padding": "symmetric"}, untold=("quantized",))


@register("birealnet18", PAPER)
@nn.architecture(
    IMAGENET,
    state_dict=_layout(lambda: _state_dict(nn.IMAGENET_18), implies={"padding": "symmetric", "variant": "official"}),
)
def BiRealNet18(
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    variant: Variant = "official",
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 18 layers for ImageNet: four stages of four one-convolution blocks, 64 to 512 channels.

    Args:
        quantized: ``False`` builds the full-precision network that the paper's pre-training starts from. The names of
            its variables are the same.
        activation: What that network has in place of the sign: ``"relu"`` (default), ``"leaky_clip"`` and ``"clip"``
            are the stages of the paper's pre-training.
        variant: ``"official"`` (default), or ``"larq_zoo"``: larq-zoo's network, which pads its real-valued layers with
            TensorFlow's ``same``, has batch normalisations of epsilon 1e-3 and momentum 0.8, and multiplies the
            gradient of binary weights by their scale (but does not clip them). Its weights need ``padding="same"`` as
            well. Without weights it starts as the official code does.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _birealnet(nn.IMAGENET_18, "birealnet18", quantized, activation, padding, variant, **options)


@register("birealnet34", PAPER)
@nn.architecture(IMAGENET, state_dict=_layout(lambda: _state_dict(nn.IMAGENET_34)))
def BiRealNet34(
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 34 layers for ImageNet: stages of 6, 8, 12 and 6 one-convolution blocks.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(nn.IMAGENET_34, "birealnet34", quantized, activation, padding, **options)


@register("birealnet18_cifar", PAPER, note=nn.ADAPTED)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict(nn.CIFAR_18)))
def BiRealNet18CIFAR(
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """`BiRealNet18` for small images: the stem is a 3x3 convolution of stride 1 and has no pooling. *Our adaptation.*

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(nn.CIFAR_18, "birealnet18_cifar", quantized, activation, padding, **options)


@register("birealnet20", PAPER, note=nn.ADAPTED)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict(nn.CIFAR_20)))
def BiRealNet20(
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """He et al.'s ResNet-20 for CIFAR-10 of Bi-Real blocks: three stages of six, 16 to 64 channels. *Our adaptation.*

    The stem is a 3x3 convolution and batch normalisation; the downsampling shortcuts are Bi-Real Net's.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(nn.CIFAR_20, "birealnet20", quantized, activation, padding, **options)


def _birealnet(
    spec: nn.ResNetSpec,
    name: str,
    quantized: bool,
    activation: Activation,
    padding: nn.Padding,
    variant: Variant = "official",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    builder = nn.ModelBuilder(**options)
    larq_zoo = variant == "larq_zoo"
    norm = functools.partial(nn.normalise, epsilon=1e-3, momentum=0.8) if larq_zoo else nn.normalise
    x = nn.stem(builder.inputs, spec, normalise=norm, padding="same" if larq_zoo else None)
    for block in spec.blocks():
        shortcut = x
        if block.channels != x.shape[-1]:
            shortcut = nn.real_shortcut(x, block, normalise=norm)
        layer = f"{block.name}_conv"
        x = _convolve(x, block.channels, 3, layer, quantized, activation, padding, block.strides, larq_zoo)
        x = norm(x, f"{block.name}_bn")
        x = tf.keras.layers.Add(name=f"{block.name}_add")([x, shortcut])
    return nn.classify(x, builder, name)


@register("birealnet50", JOURNAL_PAPER)
@nn.architecture(
    IMAGENET,
    state_dict=_layout(lambda: _state_dict_50(), ignored=("*.num_batches_tracked", "layers.0.down_conv1x1.weight")),
)
def BiRealNet50(
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 50 layers for ImageNet: bottlenecks, 3, 4, 6 and 3 of them, 256 to 2048 channels.

    Each of a bottleneck's three convolutions has a shortcut. The first takes the output of the previous bottleneck's
    3x3 convolution as its shortcut, and the third the previous bottleneck's output. The very first 1x1 convolution is
    real-valued, has no shortcut, and follows a leaky clip.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    builder = nn.ModelBuilder(**options)
    narrow = wide = nn.stem(builder.inputs, nn.IMAGENET_18)
    for block in _BOTTLENECKS.blocks():
        narrow, wide = _bottleneck(narrow, wide, block, quantized, activation, padding)
    return nn.classify(wide, builder, "birealnet50")


def _bottleneck(
    narrow: tf.Tensor, wide: tf.Tensor, block: nn.Block, quantized: bool, activation: Activation, padding: nn.Padding
) -> tuple[tf.Tensor, tf.Tensor]:
    name, channels = block.name, block.channels // 4
    changes = block.channels != wide.shape[-1]
    add = tf.keras.layers.Add
    binary = functools.partial(_convolve, quantized=quantized, activation=activation, padding=padding)
    if block.name == "stage1_block1":
        x = nn.convolve(LeakyClip(name=f"{name}_leaky_clip")(wide), channels, 1, f"{name}_conv1")
        x = nn.normalise(x, f"{name}_bn1")
    else:
        x = nn.normalise(binary(wide, channels, 1, f"{name}_conv1"), f"{name}_bn1")
        shortcut = nn.convolve(narrow, channels, 1, f"{name}_narrow_conv") if changes else narrow
        x = add(name=f"{name}_add1")([x, shortcut])
    narrow = nn.normalise(binary(x, channels, 3, f"{name}_conv2", strides=block.strides), f"{name}_bn2")
    shortcut = nn.average_pool(x, f"{name}_narrow_pool") if block.strides == 2 else x
    narrow = add(name=f"{name}_add2")([narrow, shortcut])
    x = nn.normalise(binary(narrow, block.channels, 1, f"{name}_conv3"), f"{name}_bn3")
    shortcut = nn.real_shortcut(wide, block) if changes else wide
    return narrow, add(name=f"{name}_add3")([x, shortcut])


def _convolve(
    x: tf.Tensor,
    filters: int,
    size: int,
    name: str,
    quantized: bool,
    activation: Activation,
    padding: nn.Padding,
    strides: int = 1,
    larq_zoo: bool = False,
) -> tf.Tensor:
    """Apply sign and binary convolution, or what the full-precision network has in their place."""
    if not quantized:
        layer = f"{name}_{activation}"
        if activation == "relu":
            x = tf.keras.layers.ReLU(name=layer)(x)
        else:
            x = LeakyClip(slope=0.1 if activation == "leaky_clip" else 0.0, name=layer)(x)
        return nn.binary_conv(x, filters, size, name=name, strides=strides, padding=padding)
    return nn.binary_conv(
        x,
        filters,
        size,
        name=name,
        strides=strides,
        padding=padding,
        input_quantizer=ApproxSign(),
        kernel_quantizer=MagnitudeAwareSign() if larq_zoo else ScaledSign(),
        kernel_initializer=nn.small_positive(),
    )


def _state_dict(spec: nn.ResNetSpec) -> dict[str, nn.TensorMap]:
    tensors = nn.map_stem_and_top("fc")
    for official, block in nn.official_blocks(spec):
        tensors |= nn.map_conv(f"{official}.binary_conv.weights", f"{block.name}_conv")
        tensors |= nn.map_norm(f"{official}.bn1", f"{block.name}_bn")
        if block.strides == 2:
            tensors |= nn.map_shortcut(f"{official}.downsample", block, 1)
    return tensors


def _state_dict_50() -> dict[str, nn.TensorMap]:
    tensors = nn.map_stem_and_top("fc")
    for index, block in enumerate(_BOTTLENECKS.blocks()):
        official, name = f"layers.{index}", block.name
        for i in (1, 2, 3):
            tensors |= nn.map_conv(f"{official}.conv{i}.weight", f"{name}_conv{i}")
            tensors |= nn.map_norm(f"{official}.bn{i}", f"{name}_bn{i}")
        if name.endswith("block1"):
            tensors |= nn.map_shortcut(f"{official}.downsample", block, 1)
            if index:
                tensors |= nn.map_conv(f"{official}.down_conv1x1.weight", f"{name}_narrow_conv")
    return tensors
