"""AdaBin: two values of its own for each filter and each layer's input, where other 1-bit networks have -1 and +1.

Z. Tu, X. Chen, P. Ren, Y. Wang, *AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets*, ECCV 2022,
arXiv 2208.08084; official code: `huawei-noah/Efficient-Computing`, `BinaryNetworks/AdaBin` (MIT). Kernels are
`AdaBinKernel`, which `EDESchedule` moves, and activations `AdaBinActivation`; its two-slope unit, "Maxout" in the code,
is `FPReLU`, after the stem and after each addition. Stem, downsampling shortcuts and classifier are real-valued.

Published accuracy in percent (official README), CIFAR-10: ResNet-20 88.1 (87.99 with the published weights and all test
images). ImageNet, top-1 / top-5: ResNet-18 63.1 / 84.3, ResNet-34 66.4 / 86.6. Its figure for ResNet-18 on CIFAR-10,
62.1, must be a misprint. VGG-Small, AlexNet and the training in two steps are not in the official code.
"""

from __future__ import annotations

import functools
from typing import Literal

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import FPReLU
from ..quantizers.adabin import AdaBinActivation, AdaBinKernel
from . import building as nn
from .registry import CIFAR, IMAGENET, Paper, PaperCounts, register

__all__ = ["AdaBinResNet18", "AdaBinResNet18CIFAR", "AdaBinResNet20", "AdaBinResNet34"]

PAPER = Paper(
    "AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets",
    "Z. Tu, X. Chen, P. Ren, Y. Wang",
    "ECCV 2022",
    "2208.08084",
    top1={"adabin_resnet20": 88.1, "adabin_resnet18": 63.1, "adabin_resnet34": 66.4},
    counts={
        "adabin_resnet20": PaperCounts(271_262, 267_264, 0.4, 40, 0.4),
        "adabin_resnet18_cifar": PaperCounts(11_182_826, 10_985_472, 17.3, 547, 8.1),
        "adabin_resnet18": PaperCounts(11_698_376, 10_985_472, 33.8, 1676, 137.8),
        "adabin_resnet34": PaperCounts(21_813_992, 21_086_208, 44.4, 3526, 137.8),
    },
)
Shortcut = Literal["stride", "average_pool"]


def _state_dict(spec: nn.ResNetSpec) -> dict[str, nn.TensorMap]:
    imagenet = spec.stem == "imagenet"
    tensors = nn.map_stem_and_top("fc" if imagenet else "linear") | nn.map_norm("bn2", "logits_bn")
    tensors |= _map_fprelu("nonlinear1", "stem_fprelu")
    for official, block in nn.official_blocks(spec, convs_per_block=2):
        for i in (1, 2):
            layer = f"{block.name}_conv{i}"
            tensors |= nn.map_conv(f"{official}.conv{i}.weight", layer) | nn.map_norm(
                f"{official}.bn{i}", f"{block.name}_bn{i}"
            )
            for name in ("alpha", "beta"):
                variable = f"{layer}/input_quantizer/{name}_bias"
                tensors[f"{official}.conv{i}.binary_a.{name}_a"] = nn.TensorMap(variable)
            tensors |= _map_fprelu(f"{official}.nonlinear{i}", f"{block.name}_{i}_fprelu")
        if block.strides == 2 and spec is not nn.CIFAR_20:
            # In the official module of the ImageNet networks the pooling comes first.
            downsample, index = ("downsample", 1) if imagenet else ("shortcut", 0)
            tensors |= nn.map_shortcut(f"{official}.{downsample}", block, index)
    return tensors


def _map_fprelu(official: str, layer: str) -> dict[str, nn.TensorMap]:
    return {
        f"{official}.pos_scale": nn.TensorMap(f"{layer}/positive_slope"),
        f"{official}.neg_scale": nn.TensorMap(f"{layer}/negative_slope"),
    }


def _layout(spec: nn.ResNetSpec) -> nn.StateDictLayout:
    shortcut: Shortcut = "average_pool" if spec.stem == "imagenet" else "stride"
    return nn.StateDictLayout(
        functools.partial(_state_dict, spec),
        implies={"quantized": True, "padding": "symmetric", "shortcut": shortcut},
        # The ImageNet networks have a two-slope unit before and a batch normalisation after the classifier, which they
        # do not use.
        ignored=("*.num_batches_tracked", "bn3.*", "nonlinear2.*"),
        # The code does not save EDE's state.
        unmatched=("*/k_bias", "*/t_bias"),
    )


@register("adabin_resnet20", PAPER)
@nn.architecture(CIFAR, state_dict=_layout(nn.CIFAR_20))
def AdaBinResNet20(
    *,
    shortcut: Shortcut = "stride",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """ResNet-20 for CIFAR-10: three stages of six binary convolutions, 16 to 64 channels.

    There is a shortcut around each convolution. The downsampling ones put half of the new channels, zeros, before the
    old and half after them. The classifier follows a batch normalisation of the pooled features.

    Args:
        shortcut: How downsampling shortcuts halve the image: ``"stride"`` takes every second pixel, ``"average_pool"``
            the mean of 2x2, as later papers do. The default is the official code's of this network.
        quantized: ``False`` builds the full-precision network, without quantizers.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``. The 1
            of this last is none of the values that AdaBin's activations have.
    """
    return _resnet(nn.CIFAR_20, "adabin_resnet20", shortcut, quantized, padding, **options)


@register("adabin_resnet18_cifar", PAPER)
@nn.architecture(CIFAR, state_dict=_layout(nn.CIFAR_18))
def AdaBinResNet18CIFAR(
    *,
    shortcut: Shortcut = "stride",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """ResNet-18 for CIFAR-10: four stages of four binary convolutions, 64 to 512 channels, after a 3x3 stem.

    The downsampling shortcuts are a real-valued 1x1 convolution and a batch normalisation.

    Args:
        shortcut: ``"stride"`` (default): that convolution has a stride of 2. ``"average_pool"``: it follows the mean of
            2x2 pixels.
        quantized, padding: See `AdaBinResNet20`.
    """
    return _resnet(nn.CIFAR_18, "adabin_resnet18_cifar", shortcut, quantized, padding, **options)


@register("adabin_resnet18", PAPER)
@nn.architecture(IMAGENET, state_dict=_layout(nn.IMAGENET_18))
def AdaBinResNet18(
    *,
    shortcut: Shortcut = "average_pool",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """ResNet-18 for ImageNet: `AdaBinResNet18CIFAR` with a 7x7 stem, and shortcuts that average.

    Args:
        shortcut: See `AdaBinResNet18CIFAR`; the default is ``"average_pool"`` here.
        quantized, padding: See `AdaBinResNet20`.
    """
    return _resnet(nn.IMAGENET_18, "adabin_resnet18", shortcut, quantized, padding, **options)


@register("adabin_resnet34", PAPER)
@nn.architecture(IMAGENET, state_dict=_layout(nn.IMAGENET_34))
def AdaBinResNet34(
    *,
    shortcut: Shortcut = "average_pool",
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """`AdaBinResNet18` with 34 layers: stages of 6, 8, 12 and 6 binary convolutions.

    Args:
        shortcut, quantized, padding: See `AdaBinResNet18`.
    """
    return _resnet(nn.IMAGENET_34, "adabin_resnet34", shortcut, quantized, padding, **options)


def _resnet(
    spec: nn.ResNetSpec,
    name: str,
    shortcut: Shortcut,
    quantized: bool,
    padding: nn.Padding,
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    builder = nn.ModelBuilder(**options)
    x = nn.stem(builder.inputs, spec, activate=_fprelu, initializer=nn.official_start(spec))
    for block in spec.blocks(convs_per_block=2):
        residual = x
        if block.channels != x.shape[-1]:
            residual = _shortcut(x, block, spec, averages=shortcut == "average_pool")
        for i, strides in ((1, block.strides), (2, 1)):
            x = nn.binary_conv(
                x,
                block.channels,
                3,
                name=f"{block.name}_conv{i}",
                strides=strides,
                padding=padding,
                input_quantizer=AdaBinActivation() if quantized else None,
                kernel_quantizer=AdaBinKernel() if quantized else None,
                kernel_initializer=nn.official_start(spec),
            )
            x = nn.normalise(x, f"{block.name}_bn{i}")
            x = tf.keras.layers.Add(name=f"{block.name}_add{i}")([x, residual])
            residual = x = _fprelu(x, f"{block.name}_{i}")
    head = nn.he_normal("fan_in") if spec is nn.CIFAR_20 else None
    return nn.classify(x, builder, name, lambda x, layer: nn.normalise(x, f"{layer}_bn"), head)


def _fprelu(x: tf.Tensor, name: str) -> tf.Tensor:
    return FPReLU(name=f"{name}_fprelu")(x)


def _shortcut(x: tf.Tensor, block: nn.Block, spec: nn.ResNetSpec, averages: bool) -> tf.Tensor:
    if spec is not nn.CIFAR_20:
        return nn.real_shortcut(x, block, pool=averages, initializer=nn.official_start(spec))
    name, added = f"{block.name}_shortcut", block.channels - x.shape[-1]
    # Without the average, of single pixels: twenty times as fast as a slice with a stride.
    x = tf.keras.layers.AveragePooling2D(2 if averages else 1, 2, "same", name=f"{name}_pool")(x)
    return nn.PadChannels(added // 2, added - added // 2, name=f"{name}_pad")(x)
