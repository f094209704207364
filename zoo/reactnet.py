"""ReActNet: 1-bit networks whose signs and non-linearities have learned, channel-wise shifts.

Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, *ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions*, ECCV 2020, arXiv 2003.03488; official code: `liuzechun/ReActNet`, `mobilenet` (ReActNet-A) and `resnet`.
Training has two steps: binary activations and real weights, then both binary. Stem and classifier are real-valued.

Published ImageNet top-1 accuracy in percent: ReActNet-A 69.4 (paper) and 69.5 (released), after step 1 70.1; C 71.4;
ReAct-ResNet-18 65.9.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import RPReLU, RSign, ScaledSign
from . import building as nn
from .registry import CIFAR, IMAGENET, Paper, PaperCounts, register

__all__ = ["ReActNet18CIFAR", "ReActNet20", "ReActNetA", "ReActNetB", "ReActNetC", "ReActResNet18", "ReActResNet34"]

PAPER = Paper(
    "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions",
    "Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng",
    "ECCV 2020",
    "2003.03488",
    top1={"reactnet_a": 69.4, "reactnet_c": 71.4, "react_resnet18": 65.9},
    counts={
        "reactnet_a": PaperCounts(29_343_592, 28_253_184, 63.1, 4817, 11.9),
        "reactnet_a_step1": PaperCounts(29_343_592, 0, 939.0, 0, 4828.8),
        "reactnet_b": PaperCounts(28_818_824, 27_554_816, 68.0, 4688, 44.0),
        "reactnet_c": PaperCounts(29_342_600, 27_554_816, 84.8, 4688, 140.3),
        "react_resnet18": PaperCounts(11_704_424, 10_985_472, 34.0, 1676, 137.8),
        "react_resnet18_step1": PaperCounts(11_704_424, 0, 374.5, 0, 1814.1),
        "react_resnet34": PaperCounts(21_827_432, 21_086_208, 44.8, 3526, 137.8),
        "reactnet18_cifar": PaperCounts(11_188_874, 10_985_472, 17.5, 547, 8.1),
        "reactnet20": PaperCounts(275_114, 267_264, 0.5, 40, 0.7),
        "reactnet20_step1": PaperCounts(275_114, 0, 8.8, 0, 40.8),
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
    nn.Block(f"stage{stage}_block{block}", channels, strides)
    for stage, blocks in enumerate(_STAGES, 1)
    for block, (channels, strides) in enumerate(blocks, 1)
]


# There is official code of ReActNet-A and the ImageNet ResNets. The CIFAR networks' names continue those of the latter.
_layout = functools.partial(nn.StateDictLayout, implies={"padding": "symmetric"}, untold=("step",))


@register("reactnet_a", PAPER, step=2)
@register("reactnet_a_step1", PAPER, step=1)
@nn.architecture(
    IMAGENET,
    state_dict=[
        nn.StateDictLayout(lambda: _state_dict_a(1), implies={"padding": "symmetric", "step": 1}),
        nn.StateDictLayout(lambda: _state_dict_a(2), implies={"padding": "symmetric", "step": 2}),
    ],
)
def ReActNetA(
    *, step: Step = 2, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """ReActNet-A, MobileNet's layout for ImageNet: 13 blocks of a 3x3 and a 1x1 convolution, 64 to 1024 channels.

    Where the channels double, the official code has two 1x1 convolutions of the same binary tensor, each with a batch
    normalisation, and adds its input to both: here they are one convolution with twice the filters.

    Args:
        step: 2 (default), or 1 for the network of the first training step, whose weights are real-valued. The names of
            the variables are the same.
        quantized: ``False`` builds the full-precision network: no signs and no thresholds.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _mobilenet("reactnet_a", step, quantized, padding, **options)


@register("reactnet_b", PAPER, note=_DESCRIBED)
@nn.architecture(IMAGENET)
def ReActNetB(
    *,
    step: Step = 2,
    downsample_input: DownsampleInput = "real",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
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
    return _mobilenet("reactnet_b", step, quantized, padding, 4, downsample_input, **options)


@register("reactnet_c", PAPER, note=_DESCRIBED)
@nn.architecture(IMAGENET)
def ReActNetC(
    *,
    step: Step = 2,
    downsample_input: DownsampleInput = "real",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """`ReActNetB` without groups.

    Args:
        step, downsample_input, quantized, padding: See `ReActNetB`.
    """
    return _mobilenet("reactnet_c", step, quantized, padding, 1, downsample_input, **options)


@register("react_resnet18", PAPER, step=2)
@register("react_resnet18_step1", PAPER, step=1)
@nn.architecture(IMAGENET, state_dict=_layout(lambda: _state_dict(nn.IMAGENET_18)))
def ReActResNet18(
    *, step: Step = 2, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """ReActNet on Bi-Real Net's 18 layers for ImageNet: RSign for the sign, and an RPReLU after each addition.

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(nn.IMAGENET_18, "react_resnet18", step, quantized, padding, **options)


@register("react_resnet34", PAPER)
@nn.architecture(IMAGENET, state_dict=_layout(lambda: _state_dict(nn.IMAGENET_34)))
def ReActResNet34(
    *, step: Step = 2, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """`ReActResNet18` with 34 layers: in the official code, but never trained by the authors.

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(nn.IMAGENET_34, "react_resnet34", step, quantized, padding, **options)


@register("reactnet18_cifar", PAPER, note=nn.ADAPTED)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict(nn.CIFAR_18)))
def ReActNet18CIFAR(
    *, step: Step = 2, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """`ReActResNet18` for small images: a 3x3 stem of stride 1 without pooling. *Our adaptation.*

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(nn.CIFAR_18, "reactnet18_cifar", step, quantized, padding, **options)


@register("reactnet20", PAPER, note=nn.ADAPTED, step=2)
@register("reactnet20_step1", PAPER, note=nn.ADAPTED, step=1)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict(nn.CIFAR_20)))
def ReActNet20(
    *, step: Step = 2, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """`BiRealNet20`, for CIFAR-10, with RSign and RPReLU. *Our adaptation.*

    Args:
        step, quantized, padding: See `ReActNetA`.
    """
    return _resnet(nn.CIFAR_20, "reactnet20", step, quantized, padding, **options)


def _mobilenet(
    name: str,
    step: Step,
    quantized: bool,
    padding: nn.Padding,
    real_groups: int | None = None,
    downsample_input: DownsampleInput = "real",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    builder = nn.ModelBuilder(**options)
    binary = functools.partial(_convolve, step=step, quantized=quantized, padding=padding)
    x = nn.normalise(nn.convolve(builder.inputs, 32, 3, "stem_conv", strides=2), "stem_bn")
    for block in _BLOCKS:
        shortcut = nn.average_pool(x, f"{block.name}_pool") if block.strides == 2 else x
        x = binary(x, x.shape[-1], 3, f"{block.name}_conv1", strides=block.strides)
        x = _finish_block(nn.normalise(x, f"{block.name}_bn1"), shortcut, f"{block.name}_", "1")
        shortcut = x
        doubles = block.channels != x.shape[-1]
        if doubles:
            shortcut = tf.keras.layers.Concatenate(name=f"{block.name}_duplicate")([x, x])
        if doubles and real_groups:
            x = nn.binary_conv(
                x,
                block.channels,
                1,
                name=f"{block.name}_conv2",
                padding="symmetric",
                groups=real_groups,
                input_quantizer=RSign() if quantized and downsample_input == "sign" else None,
                kernel_initializer=nn.torch_uniform(),
            )
        else:
            x = binary(x, block.channels, 1, f"{block.name}_conv2")
        x = _finish_block(nn.normalise(x, f"{block.name}_bn2"), shortcut, f"{block.name}_", "2")
    return nn.classify(x, builder, name)


def _resnet(
    spec: nn.ResNetSpec, name: str, step: Step, quantized: bool, padding: nn.Padding, **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    builder = nn.ModelBuilder(**options)
    x = nn.stem(builder.inputs, spec)
    for block in spec.blocks():
        shortcut = nn.real_shortcut(x, block) if block.channels != x.shape[-1] else x
        x = _convolve(x, block.channels, 3, f"{block.name}_conv", step, quantized, padding, block.strides)
        x = _finish_block(nn.normalise(x, f"{block.name}_bn"), shortcut, f"{block.name}_")
    return nn.classify(x, builder, name)


def _finish_block(x: tf.Tensor, shortcut: tf.Tensor, name: str, index: str = "") -> tf.Tensor:
    x = tf.keras.layers.Add(name=f"{name}add{index}")([x, shortcut])
    return RPReLU(name=f"{name}rprelu{index}")(x)


def _convolve(
    x: tf.Tensor, filters: int, size: int, name: str, step: Step, quantized: bool, padding: nn.Padding, strides: int = 1
) -> tf.Tensor:
    """Apply RSign and a binary convolution, as far as the arguments make them binary."""
    binary = quantized and step == 2
    return nn.binary_conv(
        x,
        filters,
        size,
        name=name,
        strides=strides,
        padding=padding,
        input_quantizer=RSign() if quantized else None,
        kernel_quantizer=ScaledSign() if binary else None,
        kernel_initializer=nn.small_positive() if binary else nn.torch_uniform(),
    )


def negated(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return values with the opposite sign: what the official code adds before the sign is minus our threshold."""
    return -nn.vector(value, shape)


def _map_rsign(official: str, layer: str) -> dict[str, nn.TensorMap]:
    return {f"{official}.bias": nn.TensorMap(f"{layer}/input_quantizer/alpha_bias", negated)}


def _map_rprelu(shift_in: str, slope: str, shift_out: str, layer: str) -> dict[str, nn.TensorMap]:
    return {
        f"{shift_in}.bias": nn.TensorMap(f"{layer}/shift_in"),
        f"{slope}.weight": nn.TensorMap(f"{layer}/slope"),
        f"{shift_out}.bias": nn.TensorMap(f"{layer}/shift_out"),
    }


def _state_dict(spec: nn.ResNetSpec) -> dict[str, nn.TensorMap]:
    tensors = nn.map_stem_and_top("fc")
    for official, block in nn.official_blocks(spec):
        tensors |= _map_rsign(f"{official}.move0", f"{block.name}_conv")
        tensors |= nn.map_conv(f"{official}.binary_conv.weight", f"{block.name}_conv")
        tensors |= nn.map_norm(f"{official}.bn1", f"{block.name}_bn")
        tensors |= _map_rprelu(f"{official}.move1", f"{official}.prelu", f"{official}.move2", f"{block.name}_rprelu")
        if block.strides == 2:
            tensors |= nn.map_shortcut(f"{official}.downsample", block, 1)
    return tensors


def _state_dict_a(step: Step) -> dict[str, nn.TensorMap]:
    tensors = nn.map_conv("feature.0.conv1.weight", "stem_conv") | nn.map_norm("feature.0.bn1", "stem_bn")
    tensors |= nn.map_dense("fc", "logits")
    weight = "weights" if step == 2 else "weight"
    channels = 32
    for index, block in enumerate(_BLOCKS, 1):
        official, name = f"feature.{index}", block.name
        for half, kernel in (("1", "3x3"), ("2", "pw")):
            conv, bn = f"{name}_conv{half}", f"{name}_bn{half}"
            tensors |= _map_rsign(f"{official}.move{half}1", conv)
            if half == "2" and block.channels != channels:
                for part in (0, 1):
                    tensors |= nn.map_conv(f"{official}.binary_pw_down{part + 1}.{weight}", conv, part, 2)
                    tensors |= nn.map_norm(f"{official}.bn2_{part + 1}", bn, part, 2)
            else:
                tensors |= nn.map_conv(f"{official}.binary_{kernel}.{weight}", conv)
                tensors |= nn.map_norm(f"{official}.bn{half}", bn)
            shift_in, slope, shift_out = (
                f"{official}.{each}" for each in (f"move{half}2", f"prelu{half}", f"move{half}3")
            )
            tensors |= _map_rprelu(shift_in, slope, shift_out, f"{name}_rprelu{half}")
        channels = block.channels
    return tensors
