"""IR-Net: balanced, standardised binary weights, and a gradient of the sign that narrows in the course of training.

H. Qin, R. Gong, X. Liu, M. Shen, Z. Wei, F. Yu, J. Song, *Forward and Backward Information Retention for Accurate
Binary Neural Networks*, CVPR 2020, arXiv 1909.10788; official code: `htqin/IR-Net`. Kernels are `LibraPB`, activations
`EDE`, and `EDESchedule` moves both. Stem, downsampling shortcuts and classifier are real-valued.

Published accuracy in percent (official README), CIFAR-10: ResNet-20 86.5, and 90.8 with real activations; VGG-Small
90.4; ResNet-18 91.5. ImageNet, top-1 / top-5: ResNet-18 58.1 / 80.0, and 66.5 / 86.8 with real activations; ResNet-34
62.9 / 84.1, and 70.4 / 89.5.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import EDE, LibraPB
from ..util.arguments import check_choice
from .build.architecture import architecture
from .build.builder import Scaffold
from .build.layers import PadChannels, Padding, binary_conv
from .build.options import ModelOptions
from .build.resnet import (
    CIFAR_18,
    CIFAR_20,
    IMAGENET_18,
    IMAGENET_34,
    Block,
    Layout,
    classify,
    convolve,
    he_normal,
    normalise,
    official_blocks_of_two,
    official_stem_and_top,
    real_shortcut,
    stem,
    torch_uniform,
)
from .build.torch_layers import HardTanh
from .checkpoints.state_dicts import IGNORED, OFFICIAL, OfficialCode, Place, conv, dense, norm
from .registry import CIFAR, IMAGENET, Paper, register

PAPER = Paper(
    "Forward and Backward Information Retention for Accurate Binary Neural Networks",
    "H. Qin, R. Gong, X. Liu, M. Shen, Z. Wei, F. Yu, J. Song",
    "CVPR 2020",
    "1909.10788",
    top1={
        "irnet_resnet20": 86.5,
        "irnet_resnet20_1w32a": 90.8,
        "irnet_resnet18_cifar": 91.5,
        "irnet_vgg_small": 90.4,
        "irnet_resnet18": 58.1,
        "irnet_resnet18_1w32a": 66.5,
        "irnet_resnet34": 62.9,
        "irnet_resnet34_1w32a": 70.4,
    },
)
_NORMAL = "The paper's text has this structure, too; its code for 1 bit has a shortcut around each convolution instead."
ActivationBits = Literal[1, 32]
Structure = Literal["bireal", "normal"]


def _default_structure(arguments: Mapping[str, Any]) -> dict[str, Structure]:
    return {"structure": "normal" if arguments["activation_bits"] == 32 else "bireal"}


@register("irnet_resnet20", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet20_normal", PAPER, note=_NORMAL, activation_bits=1, structure="normal")
@register("irnet_resnet20_1w32a", PAPER, activation_bits=32, structure="normal")
@register("irnet_resnet20_real", PAPER, activation_bits=32, structure="normal", quantized=False)
@architecture(CIFAR, dependent=_default_structure)
def IRNetResNet20(
    scaffold: Scaffold,
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """ResNet-20 for CIFAR-10: three stages of six binary convolutions, 16 to 64 channels.

    Downsampling takes every second pixel and puts half of the new channels, zeros, before the old and half after them.
    The classifier follows a batch normalisation of the pooled features.

    Args:
        activation_bits: 1 (default): hardtanh after the stem and after each addition, and signs before the binary
            convolutions. 32: ReLU instead, but none after the stem, no signs, and a ReLU before the classifier.
        structure: ``"bireal"``, a shortcut around each convolution: the default and the official code of 1 bit; or
            ``"normal"``, one around two convolutions, with the activation between them: the default and the official
            code of 32 bits. There is no official code of the other two combinations.
        quantized: ``False`` builds the real-valued twin, without quantizers.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _resnet(scaffold, CIFAR_20, "irnet_resnet20")


@register("irnet_resnet18", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet18_1w32a", PAPER, activation_bits=32, structure="normal")
@architecture(IMAGENET, dependent=_default_structure)
def IRNetResNet18(
    scaffold: Scaffold,
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """ResNet-18 for ImageNet: four stages of four binary convolutions, 64 to 512 channels.

    Downsampling is a real-valued 1x1 convolution of stride 2 and a batch normalisation.

    Args:
        activation_bits: 1 (default): hardtanh after the stem and after each addition, and signs before the binary
            convolutions. 32: ReLU instead, and no signs.
        structure, quantized, padding: See `IRNetResNet20`.
    """
    return _resnet(scaffold, IMAGENET_18, "irnet_resnet18")


@register("irnet_resnet34", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet34_1w32a", PAPER, activation_bits=32, structure="normal")
@architecture(IMAGENET, dependent=_default_structure)
def IRNetResNet34(
    scaffold: Scaffold,
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`IRNetResNet18` with 34 layers: stages of 6, 8, 12 and 6 binary convolutions.

    Args:
        activation_bits, structure, quantized, padding: See `IRNetResNet18`.
    """
    return _resnet(scaffold, IMAGENET_34, "irnet_resnet34")


@register("irnet_resnet18_cifar", PAPER)
@architecture(CIFAR)
def IRNetResNet18CIFAR(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """ResNet-18 for CIFAR-10, of the normal structure: `IRNetResNet18` with a 3x3 stem, which no hardtanh follows.

    Args:
        quantized, padding: See `IRNetResNet20`.
    """
    return _resnet(scaffold, CIFAR_18, "irnet_resnet18_cifar")


@register("irnet_vgg_small", PAPER)
@architecture(CIFAR)
def IRNetVGGSmall(
    scaffold: Scaffold,
    *,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """VGG-Small for CIFAR-10: a real-valued and five binary 3x3 convolutions, of 128, 256 and 512 channels.

    Each stage ends in a max pooling, which comes before batch normalisation and hardtanh. The classifier sees every
    pixel of the last feature map, in the order height, width, channels (officially channels, height, width), so that a
    model with a top needs an input of known size.

    Args:
        quantized, padding: See `IRNetResNet20`.
    """
    check_choice("quantized", scaffold.arguments["quantized"], (True, False))
    if scaffold.include_top and None in scaffold.inputs.shape[1:]:
        shape = tuple(scaffold.inputs.shape[1:])
        raise ValueError(f"input_shape of IRNetVGGSmall with its top must have a known height and width, not {shape}.")
    x = convolve(scaffold.inputs, 128, 3, "stem_conv", initializer=he_normal("fan_out"))
    x = HardTanh(name="stem_hardtanh")(normalise(x, "stem_bn"))
    for name, channels, pools in _VGG_SMALL:
        x = _convolve(x, channels, f"{name}_conv", scaffold.arguments, initializer=he_normal("fan_out"))
        if pools:
            # An odd last row or column falls away, as officially.
            x = tf.keras.layers.MaxPooling2D(2, 2, name=f"{name}_pool")(x)
        x = HardTanh(name=f"{name}_hardtanh")(normalise(x, f"{name}_bn"))
    if scaffold.include_top:
        x = tf.keras.layers.Flatten(name="flatten")(x)
        start = tf.keras.initializers.RandomNormal(stddev=0.01)
        x = tf.keras.layers.Dense(scaffold.num_classes, kernel_initializer=start, name="logits")(x)
    return scaffold.finish(x, "irnet_vgg_small")


# Name, output channels, and whether a pooling follows.
_VGG_SMALL = (
    ("stage1_block1", 128, True),
    ("stage2_block1", 256, False),
    ("stage2_block2", 256, True),
    ("stage3_block1", 512, False),
    ("stage3_block2", 512, True),
)


def _resnet(scaffold: Scaffold, layout: Layout, name: str) -> tf.keras.Model:
    arguments = {"activation_bits": 1, "structure": "normal"} | scaffold.arguments
    check_choice("activation_bits", arguments["activation_bits"], get_args(ActivationBits))
    check_choice("structure", arguments["structure"], get_args(Structure))
    check_choice("quantized", arguments["quantized"], (True, False))
    binary = arguments["activation_bits"] == 1

    def activate(x: tf.Tensor, layer: str) -> tf.Tensor:
        if binary:
            return HardTanh(name=f"{layer}_hardtanh")(x)
        return tf.keras.layers.ReLU(name=f"{layer}_relu")(x)

    def head(x: tf.Tensor, layer: str) -> tf.Tensor:
        x = normalise(x, f"{layer}_bn")
        return activate(x, layer) if layout is CIFAR_20 and not binary else x

    active_stem = layout.stem == "imagenet" or (layout is CIFAR_20 and binary)
    x = stem(scaffold.inputs, layout, activate=activate if active_stem else None, initializer=_start(layout))
    for block in layout.walk(convolutions=2):
        shortcut = _shortcut(x, block, layout)
        x = _convolve(x, block.channels, f"{block.name}_conv1", arguments, block.strides, _start(layout))
        x = normalise(x, f"{block.name}_bn1")
        if arguments["structure"] == "bireal":
            x = tf.keras.layers.Add(name=f"{block.name}_add1")([x, shortcut])
        x = activate(x, f"{block.name}_1")
        if arguments["structure"] == "bireal":
            shortcut = x
        x = _convolve(x, block.channels, f"{block.name}_conv2", arguments, initializer=_start(layout))
        x = normalise(x, f"{block.name}_bn2")
        x = tf.keras.layers.Add(name=f"{block.name}_add2")([x, shortcut])
        x = activate(x, f"{block.name}_2")
    return classify(x, scaffold, name, head, he_normal("fan_in") if layout is CIFAR_20 else None)


def _shortcut(x: tf.Tensor, block: Block, layout: Layout) -> tf.Tensor:
    channels = x.shape[-1]
    if block.channels == channels:
        return x
    if layout is not CIFAR_20:
        return real_shortcut(x, block, pool=False, initializer=_start(layout))
    # The average of single pixels, in TensorFlow's pooling: twenty times as fast as a slice with a stride.
    x = tf.keras.layers.AveragePooling2D(1, block.strides, name=f"{block.name}_shortcut_subsample")(x)
    added = block.channels - channels
    return PadChannels(added // 2, added - added // 2, name=f"{block.name}_shortcut_pad")(x)


def _convolve(
    x: tf.Tensor, filters: int, name: str, arguments: Mapping[str, Any], strides: int = 1, initializer: Any = None
) -> tf.Tensor:
    quantized = arguments["quantized"]
    return binary_conv(
        x,
        filters,
        3,
        name=name,
        strides=strides,
        padding=arguments["padding"],
        input_quantizer=EDE() if quantized and arguments.get("activation_bits", 1) == 1 else None,
        kernel_quantizer=LibraPB() if quantized else None,
        kernel_initializer=initializer,
    )


def _start(layout: Layout) -> tf.keras.initializers.Initializer:
    """Return how the official code of a residual network starts its convolutions."""
    if layout is CIFAR_18:
        return torch_uniform()
    return he_normal("fan_in" if layout is CIFAR_20 else "fan_out")


def _official_names(layout: Layout) -> dict[str, Place]:
    top, shortcut = ("fc", "downsample") if layout.stem == "imagenet" else ("linear", "shortcut")
    blocks = official_blocks_of_two(layout, None if layout is CIFAR_20 else shortcut)
    return official_stem_and_top(top) | blocks | norm("bn2", "logits_bn")


def _official_names_vgg_small() -> dict[str, Place]:
    names = conv("conv0.weight", "stem_conv") | norm("bn0", "stem_bn") | dense("fc", "logits", flattened=(512, 4, 4))
    for index, (name, *_) in enumerate(_VGG_SMALL, 1):
        names |= conv(f"conv{index}.weight", f"{name}_conv") | norm(f"bn{index}", f"{name}_bn")
    return names


_OFFICIAL_LAYOUTS = {
    "IRNetResNet20": CIFAR_20,
    "IRNetResNet18": IMAGENET_18,
    "IRNetResNet34": IMAGENET_34,
    "IRNetResNet18CIFAR": CIFAR_18,
}
# The ImageNet networks have a batch normalisation after the classifier in their checkpoints, which they do not use.
OFFICIAL.update(
    {
        name: OfficialCode(functools.partial(_official_names, layout), (*IGNORED, "bn3.*"))
        for name, layout in _OFFICIAL_LAYOUTS.items()
    }
)
OFFICIAL["IRNetVGGSmall"] = OfficialCode(_official_names_vgg_small)
