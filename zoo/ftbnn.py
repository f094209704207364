"""FTBNN: 1-bit residual networks with a tuned non-linearity, cheaper shortcuts, and groups of widened channels.

Z. Su, L. Fang, D. Guo, D. Hu, M. Pietikäinen, L. Liu, *FTBNN: Rethinking Non-linearity for 1-bit CNNs and Going
Beyond*, arXiv 2010.09294. The authors published no code, and their configurations are not known here: this is the
family that the abstract describes, on Bi-Real Net's layouts, and **not a reproduction** of the paper's networks.

*Our choices*, each of them an argument: where the non-linearity stands (`order`) and which it is (`nonlinearity`), what
replaces the downsampling shortcuts' convolution (`shortcut`), `width`, `groups`, and whether channels are shuffled
between groups (`shuffle`). Also ours: the quantizers and start values of Bi-Real Net, FPReLU's start at slopes 1 and
0.25, a stem without non-linearity, and that widening leaves the stem's 64 (or 16) channels and duplicates them,
because a wider 7x7 stem would cost more than all the rest.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import ApproxSign, FPReLU, ScaledSign
from . import building as nn
from .registry import CIFAR, IMAGENET, Paper, PaperCounts, register

__all__ = ["FTBNN18", "FTBNN20"]

PAPER = Paper(
    "FTBNN: Rethinking Non-linearity for 1-bit CNNs and Going Beyond",
    "Z. Su, L. Fang, D. Guo, D. Hu, M. Pietikäinen, L. Liu",
    "arXiv 2020",
    "2010.09294",
    counts={
        "ftbnn18": PaperCounts(11_523_368, 10_985_472, 28.2, 1676, 118.5),
        "ftbnn18_grouped": PaperCounts(12_050_728, 10_985_472, 45.1, 1676, 119.0),
        "ftbnn20": PaperCounts(271_066, 267_264, 0.4, 40, 0.4),
        "ftbnn20_grouped": PaperCounts(541_658, 534_528, 0.8, 80, 0.4),
    },
)
_NOTE = (
    "The authors published no code, and their configurations are not known here: this is one of the family that their "
    "abstract describes, and not a reproduction of their networks."
)
Nonlinearity = Literal["fprelu", "prelu", "relu", "none"]
Order = Literal["bn_act_add", "bn_add_act", "act_bn_add"]
Shortcut = Literal["average_duplicate", "average_pad", "binary_conv", "grouped_conv", "real_conv"]

_SHORTCUT_GROUPS = 4


@register("ftbnn18", PAPER, note=_NOTE, width=1, groups=1)
@register("ftbnn18_grouped", PAPER, note=_NOTE, width=2, groups=4)
@nn.architecture(IMAGENET)
def FTBNN18(
    *,
    nonlinearity: Nonlinearity = "fprelu",
    order: Order = "bn_act_add",
    shortcut: Shortcut = "average_duplicate",
    width: float = 1,
    groups: int = 1,
    shuffle: bool = True,
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """An FTBNN with 18 layers for ImageNet, on Bi-Real Net's layout: four stages of four blocks, 64 to 512 channels.

    A block is sign, binary 3x3 convolution, and then batch normalisation, non-linearity and the addition of the
    shortcut in one of three orders. Every argument but ``quantized`` and ``padding`` is *our choice* of what the paper
    may mean.

    Args:
        nonlinearity: ``"fprelu"`` (default), both slopes learned; ``"prelu"``, the negative one learned; ``"relu"`` or
            ``"none"``, for the ablation. Without one the network is Bi-Real Net but for its shortcuts.
        order: ``"bn_act_add"`` (default) makes the branch non-linear and leaves the shortcut linear; ``"bn_add_act"``,
            as in ReActNet, acts on their sum; with ``"act_bn_add"`` only the ratio of the slopes matters.
        shortcut: What the three downsampling shortcuts do after averaging 2x2 pixels: ``"average_duplicate"`` (default)
            repeats the channels and ``"average_pad"`` appends zeros, without weights; ``"binary_conv"``,
            ``"grouped_conv"`` (real-valued, of 4 groups) and ``"real_conv"``, as in Bi-Real Net, are 1x1 convolutions
            with a batch normalisation.
        width: Factor of all channels but the stem's.
        groups: Groups of the binary 3x3 convolutions. ``groups=width**2`` keeps their weights and operations.
        shuffle: Whether what a block adds to its shortcut is dealt out to all groups of the next.
        quantized: ``False`` builds the full-precision network, without quantizers.
        padding: Padding of the binary convolutions: ``"symmetric"`` (default), ``"same"`` or ``"same_one"``.
    """
    return _ftbnn(
        nn.IMAGENET_18, "ftbnn18", nonlinearity, order, shortcut, width, groups, shuffle, quantized, padding, **options
    )


@register("ftbnn20", PAPER, note=_NOTE, width=1, groups=1)
@register("ftbnn20_grouped", PAPER, note=_NOTE, width=2, groups=2)
@nn.architecture(CIFAR)
def FTBNN20(
    *,
    nonlinearity: Nonlinearity = "fprelu",
    order: Order = "bn_act_add",
    shortcut: Shortcut = "average_duplicate",
    width: float = 1,
    groups: int = 1,
    shuffle: bool = True,
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """An FTBNN with 20 layers for CIFAR-10: three stages of six blocks, 16 to 64 channels, after a 3x3 stem.

    Args:
        nonlinearity, order, shortcut, width, groups, shuffle, quantized, padding: See `FTBNN18`; two shortcuts
            downsample. The registered ``ftbnn20_grouped`` has 2 groups, twice the weights and operations of
            ``ftbnn20``: with 4, they would have 8 channels in the first stage, where devices multiply 32 at a time.
    """
    return _ftbnn(
        nn.CIFAR_20, "ftbnn20", nonlinearity, order, shortcut, width, groups, shuffle, quantized, padding, **options
    )


def _ftbnn(
    spec: nn.ResNetSpec,
    name: str,
    nonlinearity: Nonlinearity,
    order: Order,
    shortcut: Shortcut,
    width: float,
    groups: int,
    shuffle: bool,
    quantized: bool,
    padding: nn.Padding,
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    _check(width, groups, shortcut, base=spec.channels[0])
    builder = nn.ModelBuilder(**options)
    x = nn.stem(builder.inputs, spec)
    if width != 1:
        x = nn.DuplicateChannels(int(spec.channels[0] * width), name="stem_duplicate")(x)
    for block in spec.blocks():
        block = block._replace(channels=int(block.channels * width))
        skip = _shortcut(x, block, shortcut, quantized, padding) if block.channels != x.shape[-1] else x
        y = _convolve(x, block.channels, 3, f"{block.name}_conv", quantized, padding, block.strides, groups)
        for step in order.split("_"):
            if step == "bn":
                y = nn.normalise(y, f"{block.name}_bn")
            elif step == "act":
                y = _activate(y, f"{block.name}_{nonlinearity}", nonlinearity)
            else:
                if groups > 1 and shuffle:
                    y = nn.ShuffleChannels(groups, name=f"{block.name}_shuffle")(y)
                y = tf.keras.layers.Add(name=f"{block.name}_add")([y, skip])
        x = y
    return nn.classify(x, builder, name)


def _activate(x: tf.Tensor, name: str, nonlinearity: Nonlinearity) -> tf.Tensor:
    if nonlinearity == "fprelu":
        return FPReLU(name=name)(x)
    if nonlinearity == "prelu":
        slope = tf.keras.initializers.Constant(0.25)
        return tf.keras.layers.PReLU(slope, shared_axes=[1, 2], name=name)(x)
    return tf.keras.layers.ReLU(name=name)(x) if nonlinearity == "relu" else x


def _shortcut(x: tf.Tensor, block: nn.Block, kind: Shortcut, quantized: bool, padding: nn.Padding) -> tf.Tensor:
    name = f"{block.name}_shortcut"
    if kind == "real_conv":
        return nn.real_shortcut(x, block)
    x = nn.average_pool(x, f"{name}_pool")
    if kind == "average_duplicate":
        return nn.DuplicateChannels(block.channels, name=f"{name}_duplicate")(x)
    if kind == "average_pad":
        return nn.PadChannels(after=block.channels - x.shape[-1], name=f"{name}_pad")(x)
    if kind == "binary_conv":
        x = _convolve(x, block.channels, 1, f"{name}_conv", quantized, padding)
    else:
        x = nn.binary_conv(
            x,
            block.channels,
            1,
            name=f"{name}_conv",
            padding="symmetric",
            groups=_SHORTCUT_GROUPS,
            kernel_initializer=nn.torch_uniform(),
        )
    return nn.normalise(x, f"{name}_bn")


def _convolve(
    x: tf.Tensor,
    filters: int,
    size: int,
    name: str,
    quantized: bool,
    padding: nn.Padding,
    strides: int = 1,
    groups: int = 1,
) -> tf.Tensor:
    return nn.binary_conv(
        x,
        filters,
        size,
        name=name,
        strides=strides,
        groups=groups,
        padding=padding,
        input_quantizer=ApproxSign() if quantized else None,
        kernel_quantizer=ScaledSign() if quantized else None,
        kernel_initializer=nn.small_positive() if quantized else nn.torch_uniform(),
    )


def _check(width: float, groups: int, shortcut: Shortcut, base: int) -> None:
    if not (isinstance(width, int | float) and width >= 1 and base * width % 1 == 0):
        raise ValueError(
            f"width must be a number of at least 1 with a whole number of channels, {base} * width, not {width!r}."
        )
    if not (isinstance(groups, int) and groups >= 1 and base * width % groups == 0):
        raise ValueError(
            f"groups must be a divisor of the {base * width:g} channels of the first stage, not {groups!r}."
        )
    if shortcut == "grouped_conv" and base * width % _SHORTCUT_GROUPS:
        raise ValueError(
            f"shortcut='grouped_conv' has {_SHORTCUT_GROUPS} groups, which do not divide {base * width:g} channels."
        )
