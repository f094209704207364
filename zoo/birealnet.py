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
from collections.abc import Mapping
from typing import Any, Literal, get_args

import tensorflow as tf
from larq.quantizers import MagnitudeAwareSign
from typing_extensions import Unpack

from ..quantizers import ApproxSign, LeakyClip, ScaledSign
from ..util.arguments import check_choice
from .build.architecture import architecture
from .build.builder import Scaffold
from .build.layers import Padding, binary_conv
from .build.options import ModelOptions
from .build.resnet import (
    ADAPTED,
    CIFAR_18,
    CIFAR_20,
    IMAGENET_18,
    IMAGENET_34,
    Block,
    Layout,
    average_pool,
    classify,
    convolve,
    normalise,
    official_blocks,
    official_shortcut,
    official_stem_and_top,
    real_shortcut,
    small_positive,
    stem,
)
from .checkpoints.state_dicts import IGNORED, OFFICIAL, OfficialCode, Place, conv, norm
from .registry import CIFAR, IMAGENET, Paper, register

PAPER = Paper(
    "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational Capability and Advanced "
    "Training Algorithm",
    "Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng",
    "ECCV 2018",
    "1808.00278",
    top1={
        "birealnet18": 56.4,
        "birealnet34": 62.2,
    },
)
JOURNAL_PAPER = Paper(
    "Bi-Real Net: Binarizing Deep Network Towards Real-Network Performance",
    "Z. Liu, W. Luo, B. Wu, X. Yang, W. Liu, K.-T. Cheng",
    "IJCV 2020",
    "1811.01335",
    top1={"birealnet50": 62.6},
)
Activation = Literal["relu", "leaky_clip", "clip"]
Variant = Literal["official", "larq_zoo"]

_ACTIVATIONS = {
    "relu": tf.keras.layers.ReLU,
    "leaky_clip": LeakyClip,
    "clip": lambda name: LeakyClip(slope=0.0, name=name),
}


@register("birealnet18", PAPER)
@architecture(IMAGENET)
def BiRealNet18(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    variant: Variant = "official",
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 18 layers for ImageNet: four stages of four one-convolution blocks, 64 to 512 channels.

    Args:
        quantized: ``False`` builds the real-valued twin that the paper's pre-training starts from. The names of its
            variables are the same.
        activation: What the twin has in place of the sign: ``"relu"`` (default), ``"leaky_clip"`` and ``"clip"`` are
            the stages of the paper's pre-training.
        variant: ``"official"`` (default), or ``"larq_zoo"``: larq-zoo's network, which pads its real-valued layers with
            TensorFlow's ``same``, has batch normalisations of epsilon 1e-3 and momentum 0.8, and multiplies the
            gradient of binary weights by their scale (but does not clip them). Its weights need ``padding="same"`` as
            well. Without weights it starts as the official code does.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _birealnet(scaffold, IMAGENET_18, "birealnet18")


@register("birealnet34", PAPER)
@architecture(IMAGENET)
def BiRealNet34(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 34 layers for ImageNet: stages of 6, 8, 12 and 6 one-convolution blocks.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(scaffold, IMAGENET_34, "birealnet34")


@register("birealnet18_cifar", PAPER, note=ADAPTED)
@architecture(CIFAR)
def BiRealNet18CIFAR(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`BiRealNet18` for small images: the stem is a 3x3 convolution of stride 1 and has no pooling. *Our adaptation.*

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(scaffold, CIFAR_18, "birealnet18_cifar")


@register("birealnet20", PAPER, note=ADAPTED)
@architecture(CIFAR)
def BiRealNet20(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """He et al.'s ResNet-20 for CIFAR-10 of Bi-Real blocks: three stages of six, 16 to 64 channels. *Our adaptation.*

    The stem is a 3x3 convolution and batch normalisation; the downsampling shortcuts are Bi-Real Net's.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    return _birealnet(scaffold, CIFAR_20, "birealnet20")


def _birealnet(scaffold: Scaffold, layout: Layout, name: str) -> tf.keras.Model:
    arguments = scaffold.arguments
    _check(arguments)
    larq_zoo = arguments.get("variant") == "larq_zoo"

    def norm_layer(x: tf.Tensor, layer: str) -> tf.Tensor:
        if larq_zoo:
            return normalise(x, layer, epsilon=1e-3, momentum=0.8)
        return normalise(x, layer)

    x = stem(scaffold.inputs, layout, normalise=norm_layer, padding="same" if larq_zoo else None)
    for block in layout.walk():
        shortcut = x
        if block.channels != x.shape[-1]:
            shortcut = real_shortcut(x, block, normalise=norm_layer)
        x = _convolve(x, block.channels, 3, f"{block.name}_conv", arguments, block.strides)
        x = norm_layer(x, f"{block.name}_bn")
        x = tf.keras.layers.Add(name=f"{block.name}_add")([x, shortcut])
    return classify(x, scaffold, name)


@register("birealnet50", JOURNAL_PAPER)
@architecture(IMAGENET)
def BiRealNet50(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    activation: Activation = "relu",
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """Bi-Real Net with 50 layers for ImageNet: bottlenecks, 3, 4, 6 and 3 of them, 256 to 2048 channels.

    Each of a bottleneck's three convolutions has a shortcut. The first takes the output of the previous bottleneck's
    3x3 convolution as its shortcut, and the third the previous bottleneck's output. The very first 1x1 convolution is
    real-valued, has no shortcut, and follows a leaky clip.

    Args:
        quantized, activation, padding: See `BiRealNet18`.
    """
    arguments = scaffold.arguments
    _check(arguments)
    narrow = wide = stem(scaffold.inputs, IMAGENET_18)
    for block in _BOTTLENECKS.walk():
        narrow, wide = _bottleneck(narrow, wide, block, arguments)
    return classify(wide, scaffold, "birealnet50")


_BOTTLENECKS = Layout("imagenet", (256, 512, 1024, 2048), (3, 4, 6, 3))


def _bottleneck(
    narrow: tf.Tensor, wide: tf.Tensor, block: Block, arguments: Mapping[str, Any]
) -> tuple[tf.Tensor, tf.Tensor]:
    name, channels = block.name, block.channels // 4
    changes = block.channels != wide.shape[-1]
    add = tf.keras.layers.Add
    if block.name == "stage1_block1":
        x = convolve(LeakyClip(name=f"{name}_leaky_clip")(wide), channels, 1, f"{name}_conv1")
        x = normalise(x, f"{name}_bn1")
    else:
        x = normalise(_convolve(wide, channels, 1, f"{name}_conv1", arguments), f"{name}_bn1")
        shortcut = convolve(narrow, channels, 1, f"{name}_narrow_conv") if changes else narrow
        x = add(name=f"{name}_add1")([x, shortcut])
    narrow = normalise(_convolve(x, channels, 3, f"{name}_conv2", arguments, block.strides), f"{name}_bn2")
    shortcut = average_pool(x, f"{name}_narrow_pool") if block.strides == 2 else x
    narrow = add(name=f"{name}_add2")([narrow, shortcut])
    x = normalise(_convolve(narrow, block.channels, 1, f"{name}_conv3", arguments), f"{name}_bn3")
    shortcut = real_shortcut(wide, block) if changes else wide
    return narrow, add(name=f"{name}_add3")([x, shortcut])


def _convolve(
    x: tf.Tensor, filters: int, size: int, name: str, arguments: Mapping[str, Any], strides: int = 1
) -> tf.Tensor:
    """Apply sign and binary convolution, or what the real-valued twin has in their place."""
    quantizers = {}
    if arguments["quantized"]:
        scale = MagnitudeAwareSign() if arguments.get("variant") == "larq_zoo" else ScaledSign()
        quantizers = {
            "input_quantizer": ApproxSign(),
            "kernel_quantizer": scale,
            "kernel_initializer": small_positive(),
        }
    else:
        x = _ACTIVATIONS[arguments["activation"]](name=f"{name}_{arguments['activation']}")(x)
    return binary_conv(x, filters, size, name=name, strides=strides, padding=arguments["padding"], **quantizers)


def _check(arguments: Mapping[str, Any]) -> None:
    check_choice("quantized", arguments["quantized"], (True, False))
    check_choice("activation", arguments["activation"], get_args(Activation))
    check_choice("variant", arguments.get("variant", "official"), get_args(Variant))


def _official_names(layout: Layout) -> dict[str, Place]:
    names = official_stem_and_top("fc")
    for official, block in official_blocks(layout):
        names |= conv(f"{official}.binary_conv.weights", f"{block.name}_conv") | norm(
            f"{official}.bn1", f"{block.name}_bn"
        )
        if block.strides == 2:
            names |= official_shortcut(f"{official}.downsample", block, 1)
    return names


def _official_names_50() -> dict[str, Place]:
    names = official_stem_and_top("fc")
    for index, block in enumerate(_BOTTLENECKS.walk()):
        official, name = f"layers.{index}", block.name
        for i in (1, 2, 3):
            names |= conv(f"{official}.conv{i}.weight", f"{name}_conv{i}") | norm(f"{official}.bn{i}", f"{name}_bn{i}")
        if name.endswith("block1"):
            names |= official_shortcut(f"{official}.downsample", block, 1)
            if index:
                names |= conv(f"{official}.down_conv1x1.weight", f"{name}_narrow_conv")
    return names


# The official code has 18, 34 and 50 layers. The CIFAR networks' names continue those of 18.
_OFFICIAL_LAYOUTS = {
    "BiRealNet18": IMAGENET_18,
    "BiRealNet34": IMAGENET_34,
    "BiRealNet18CIFAR": CIFAR_18,
    "BiRealNet20": CIFAR_20,
}
OFFICIAL.update(
    {name: OfficialCode(functools.partial(_official_names, layout)) for name, layout in _OFFICIAL_LAYOUTS.items()}
)
OFFICIAL["BiRealNet50"] = OfficialCode(_official_names_50, (*IGNORED, "layers.0.down_conv1x1.weight"))
