"""ReActNet: 1-bit networks whose signs and non-linearities have learned, channel-wise shifts.

Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, *ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions*, ECCV 2020, arXiv 2003.03488; official code: `liuzechun/ReActNet`, `mobilenet` (ReActNet-A) and `resnet`.
Training has two steps: binary activations and real weights, then both binary. Stem and classifier are real-valued.

Published ImageNet top-1 accuracy in percent: ReActNet-A 69.4 (paper) and 69.5 (released), after step 1 70.1; C 71.4;
ReAct-ResNet-18 65.9.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import RPReLU, RSign, ScaledSign
from ..util.arguments import check_choice
from .build.architecture import architecture
from .build.builder import Scaffold
from .build.layers import DuplicateChannels, Padding, binary_conv
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
    torch_uniform,
)
from .checkpoints.state_dicts import OFFICIAL, OfficialCode, Place, conv, dense, norm, rprelu, rsign
from .registry import CIFAR, IMAGENET, Paper, register

PAPER = Paper(
    "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions",
    "Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng",
    "ECCV 2020",
    "2003.03488",
    top1={
        "reactnet_a": 69.4,
        "reactnet_c": 71.4,
        "react_resnet18": 65.9,
    },
)
_DESCRIBED = "No official code: groups are as summaries of the paper have them; what the real convolutions see is ours."
Step = Literal[1, 2]
DownsampleInput = Literal["real", "sign"]

# Output channels and stride of MobileNet's 13 blocks, stage by stage; the stem has 32 channels.
_STAGES = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2),) + ((512, 1),) * 5,
    ((1024, 2), (1024, 1)),
)
_BLOCKS = [
    Block(f"stage{stage}_block{block}", channels, strides)
    for stage, blocks in enumerate(_STAGES, 1)
    for block, (channels, strides) in enumerate(blocks, 1)
]


@register("reactnet_a", PAPER, step=2)
@register("reactnet_a_step1", PAPER, step=1)
@architecture(IMAGENET)
def ReActNetA(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """ReActNet-A, MobileNet's layout for ImageNet: 13 blocks of a 3x3 and a 1x1 convolution, 64 to 1024 channels.

    Where the channels double, the official code has two 1x1 convolutions of the same binary tensor, each with a batch
    normalisation, and adds its input to both: here they are one convolution with twice the filters.

    Args:
        step: 2 (default), or 1 for the network of the first training step, whose weights are real-valued. The names of
            the variables are the same.
        quantized: ``False`` builds the real-valued twin: no signs and no thresholds.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _mobilenet(scaffold, "reactnet_a")


@register("reactnet_b", PAPER, note=_DESCRIBED)
@architecture(IMAGENET)
def ReActNetB(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    downsample_input: DownsampleInput = "real",
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`ReActNetA` with real-valued 1x1 convolutions, of 4 groups, where the channels double.

    There is no official code of B and C. The groups are those of published summaries of the paper, and give its counts
    of real and of 1-bit operations as they are remembered (0.44e8 and 4.69e9, hence 1.17e8 OPs; the OPs remembered,
    1.63e8, do not follow from them). *Our choices*: these convolutions see real-valued activations, and each is one
    convolution of twice the filters, as in `ReActNetA`.

    Args:
        downsample_input: What the real-valued 1x1 convolutions see: ``"real"`` (default) activations, or their
            ``"sign"``.
        step, quantized, padding: See `ReActNetA`.
    """
    return _mobilenet(scaffold, "reactnet_b", real_groups=4)


@register("reactnet_c", PAPER, note=_DESCRIBED)
@architecture(IMAGENET)
def ReActNetC(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    downsample_input: DownsampleInput = "real",
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`ReActNetB` without groups.

    Args:
        step, downsample_input, quantized, padding: See `ReActNetB`.
    """
    return _mobilenet(scaffold, "reactnet_c", real_groups=1)


@register("react_resnet18", PAPER, step=2)
@register("react_resnet18_step1", PAPER, step=1)
@architecture(IMAGENET)
def ReActResNet18(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """ReActNet on Bi-Real Net's 18 layers for ImageNet: RSign for the sign, and an RPReLU after each addition.

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(scaffold, IMAGENET_18, "react_resnet18")


@register("react_resnet34", PAPER)
@architecture(IMAGENET)
def ReActResNet34(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`ReActResNet18` with 34 layers: in the official code, but never trained by the authors.

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(scaffold, IMAGENET_34, "react_resnet34")


@register("reactnet18_cifar", PAPER, note=ADAPTED)
@architecture(CIFAR)
def ReActNet18CIFAR(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`ReActResNet18` for small images: a 3x3 stem of stride 1 without pooling. *Our adaptation.*

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(scaffold, CIFAR_18, "reactnet18_cifar")


@register("reactnet20", PAPER, note=ADAPTED, step=2)
@register("reactnet20_step1", PAPER, note=ADAPTED, step=1)
@architecture(CIFAR)
def ReActNet20(
    scaffold: Scaffold,
    *,
    step: Step = 2,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """`BiRealNet20`, for CIFAR-10, with RSign and RPReLU. *Our adaptation.*

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(scaffold, CIFAR_20, "reactnet20")


def _mobilenet(scaffold: Scaffold, name: str, real_groups: int | None = None) -> tf.keras.Model:
    convolve_binary = _binary_convolution(scaffold.arguments)
    x = normalise(convolve(scaffold.inputs, 32, 3, "stem_conv", strides=2), "stem_bn")
    for block in _BLOCKS:
        shortcut = average_pool(x, f"{block.name}_pool") if block.strides == 2 else x
        x = convolve_binary(x, x.shape[-1], 3, f"{block.name}_conv1", block.strides)
        x = _finish_block(normalise(x, f"{block.name}_bn1"), shortcut, f"{block.name}_", "1")
        shortcut = x
        if block.channels == x.shape[-1]:
            x = convolve_binary(x, block.channels, 1, f"{block.name}_conv2")
        else:
            shortcut = DuplicateChannels(block.channels, name=f"{block.name}_duplicate")(x)
            if real_groups:
                signed = scaffold.arguments["quantized"] and scaffold.arguments["downsample_input"] == "sign"
                x = binary_conv(
                    x,
                    block.channels,
                    1,
                    name=f"{block.name}_conv2",
                    padding="symmetric",
                    groups=real_groups,
                    input_quantizer=RSign() if signed else None,
                    kernel_initializer=torch_uniform(),
                )
            else:
                x = convolve_binary(x, block.channels, 1, f"{block.name}_conv2")
        x = _finish_block(normalise(x, f"{block.name}_bn2"), shortcut, f"{block.name}_", "2")
    return classify(x, scaffold, name)


def _resnet(scaffold: Scaffold, layout: Layout, name: str) -> tf.keras.Model:
    convolve_binary = _binary_convolution(scaffold.arguments)
    x = stem(scaffold.inputs, layout)
    for block in layout.walk():
        shortcut = real_shortcut(x, block) if block.channels != x.shape[-1] else x
        x = convolve_binary(x, block.channels, 3, f"{block.name}_conv", block.strides)
        x = _finish_block(normalise(x, f"{block.name}_bn"), shortcut, f"{block.name}_")
    return classify(x, scaffold, name)


def _finish_block(x: tf.Tensor, shortcut: tf.Tensor, name: str, index: str = "") -> tf.Tensor:
    x = tf.keras.layers.Add(name=f"{name}add{index}")([x, shortcut])
    return RPReLU(name=f"{name}rprelu{index}")(x)


def _binary_convolution(arguments: Mapping[str, Any]) -> Callable[..., tf.Tensor]:
    """Return what applies RSign and a binary convolution, as far as the arguments make them binary."""
    check_choice("step", arguments["step"], get_args(Step))
    check_choice("quantized", arguments["quantized"], (True, False))
    check_choice("downsample_input", arguments.get("downsample_input", "real"), get_args(DownsampleInput))
    signs = arguments["quantized"]
    binary = signs and arguments["step"] == 2

    def apply(x: tf.Tensor, filters: int, size: int, name: str, strides: int = 1) -> tf.Tensor:
        return binary_conv(
            x,
            filters,
            size,
            name=name,
            strides=strides,
            padding=arguments["padding"],
            input_quantizer=RSign() if signs else None,
            kernel_quantizer=ScaledSign() if binary else None,
            kernel_initializer=small_positive() if binary else torch_uniform(),
        )

    return apply


def _official_names(layout: Layout) -> dict[str, Place]:
    names = official_stem_and_top("fc")
    for official, block in official_blocks(layout):
        names |= rsign(f"{official}.move0", f"{block.name}_conv")
        names |= conv(f"{official}.binary_conv.weight", f"{block.name}_conv") | norm(
            f"{official}.bn1", f"{block.name}_bn"
        )
        names |= rprelu(f"{official}.move1", f"{official}.prelu", f"{official}.move2", f"{block.name}_rprelu")
        if block.strides == 2:
            names |= official_shortcut(f"{official}.downsample", block, 1)
    return names


def _official_names_mobilenet(step: Step) -> dict[str, Place]:
    names = conv("feature.0.conv1.weight", "stem_conv") | norm("feature.0.bn1", "stem_bn") | dense("fc", "logits")
    weight = "weights" if step == 2 else "weight"
    channels = 32
    for index, block in enumerate(_BLOCKS, 1):
        official, name = f"feature.{index}", block.name
        names |= rsign(f"{official}.move11", f"{name}_conv1") | conv(f"{official}.binary_3x3.{weight}", f"{name}_conv1")
        names |= norm(f"{official}.bn1", f"{name}_bn1")
        names |= rprelu(f"{official}.move12", f"{official}.prelu1", f"{official}.move13", f"{name}_rprelu1")
        names |= rsign(f"{official}.move21", f"{name}_conv2")
        if block.channels == channels:
            names |= conv(f"{official}.binary_pw.{weight}", f"{name}_conv2") | norm(f"{official}.bn2", f"{name}_bn2")
        else:
            for part in (0, 1):
                names |= conv(f"{official}.binary_pw_down{part + 1}.{weight}", f"{name}_conv2", part, 2)
                names |= norm(f"{official}.bn2_{part + 1}", f"{name}_bn2", part, 2)
        names |= rprelu(f"{official}.move22", f"{official}.prelu2", f"{official}.move23", f"{name}_rprelu2")
        channels = block.channels
    return names


# There is official code of ReActNet-A and the ImageNet ResNets. The CIFAR networks' names continue those of the latter.
_OFFICIAL_LAYOUTS = {
    "ReActResNet18": IMAGENET_18,
    "ReActResNet34": IMAGENET_34,
    "ReActNet18CIFAR": CIFAR_18,
    "ReActNet20": CIFAR_20,
}
OFFICIAL.update(
    {name: OfficialCode(functools.partial(_official_names, layout)) for name, layout in _OFFICIAL_LAYOUTS.items()}
)
OFFICIAL["ReActNetA"] = OfficialCode(_official_names_mobilenet, steps=get_args(Step))
