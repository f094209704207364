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
from typing import Literal

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers import EDE, HardTanh, LibraPB
from . import building as nn
from .registry import CIFAR, IMAGENET, Paper, PaperCounts, register

__all__ = ["IRNetResNet18", "IRNetResNet18CIFAR", "IRNetResNet20", "IRNetResNet34", "IRNetVGGSmall"]

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
    counts={
        "irnet_resnet20": PaperCounts(269_850, 267_264, 0.4, 40, 0.4),
        "irnet_resnet20_normal": PaperCounts(269_850, 267_264, 0.4, 40, 0.4),
        "irnet_resnet20_1w32a": PaperCounts(269_850, 267_264, 0.4, 0, 40.6),
        "irnet_resnet20_real": PaperCounts(269_850, 0, 8.6, 0, 40.6),
        "irnet_resnet18": PaperCounts(11_690_536, 10_985_472, 33.5, 1676, 137.8),
        "irnet_resnet18_1w32a": PaperCounts(11_690_536, 10_985_472, 33.5, 0, 1814.1),
        "irnet_resnet34": PaperCounts(21_798_696, 21_086_208, 43.9, 3526, 137.8),
        "irnet_resnet34_1w32a": PaperCounts(21_798_696, 21_086_208, 43.9, 0, 3663.8),
        "irnet_resnet18_cifar": PaperCounts(11_174_986, 10_985_472, 17.1, 547, 8.1),
        "irnet_vgg_small": PaperCounts(4_660_106, 4_571_136, 7.4, 604, 3.6),
    },
)
_NORMAL = "The paper's text has this structure, too; its code for 1 bit has a shortcut around each convolution instead."
ActivationBits = Literal[1, 32]
Structure = Literal["bireal", "normal"]


# Name, output channels, and whether a pooling follows.
_VGG_SMALL = (
    ("stage1_block1", 128, True),
    ("stage2_block1", 256, False),
    ("stage2_block2", 256, True),
    ("stage3_block1", 512, False),
    ("stage3_block2", 512, True),
)


def _structure(activation_bits: ActivationBits) -> Structure:
    return "normal" if activation_bits == 32 else "bireal"


_layout = functools.partial(
    nn.StateDictLayout,
    implies={"padding": "symmetric"},
    # The ImageNet networks have a batch normalisation after the classifier, which they do not use.
    ignored=("*.num_batches_tracked", "bn3.*"),
    # Its code does not save EDE's state.
    unmatched=("*/k_bias", "*/t_bias"),
)
_UNTOLD = ("activation_bits", "structure", "quantized")


@register("irnet_resnet20", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet20_normal", PAPER, note=_NORMAL, activation_bits=1, structure="normal")
@register("irnet_resnet20_1w32a", PAPER, activation_bits=32, structure="normal")
@register("irnet_resnet20_real", PAPER, activation_bits=32, structure="normal", quantized=False)
@nn.architecture(
    CIFAR,
    state_dict=_layout(lambda: _state_dict(nn.CIFAR_20), untold=_UNTOLD),
    defaults={"structure": _structure},
)
def IRNetResNet20(
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
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
        quantized: ``False`` builds the full-precision network, without quantizers.
        padding: Padding of the binary convolutions: ``"symmetric"``, as officially, ``"same"`` or ``"same_one"``.
    """
    return _resnet(nn.CIFAR_20, "irnet_resnet20", activation_bits, structure, quantized, padding, **options)


@register("irnet_resnet18", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet18_1w32a", PAPER, activation_bits=32, structure="normal")
@nn.architecture(
    IMAGENET,
    state_dict=_layout(lambda: _state_dict(nn.IMAGENET_18), untold=_UNTOLD),
    defaults={"structure": _structure},
)
def IRNetResNet18(
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """ResNet-18 for ImageNet: four stages of four binary convolutions, 64 to 512 channels.

    Downsampling is a real-valued 1x1 convolution of stride 2 and a batch normalisation.

    Args:
        activation_bits: 1 (default): hardtanh after the stem and after each addition, and signs before the binary
            convolutions. 32: ReLU instead, and no signs.
        structure, quantized, padding: See `IRNetResNet20`.
    """
    return _resnet(nn.IMAGENET_18, "irnet_resnet18", activation_bits, structure, quantized, padding, **options)


@register("irnet_resnet34", PAPER, activation_bits=1, structure="bireal")
@register("irnet_resnet34_1w32a", PAPER, activation_bits=32, structure="normal")
@nn.architecture(
    IMAGENET,
    state_dict=_layout(lambda: _state_dict(nn.IMAGENET_34), untold=_UNTOLD),
    defaults={"structure": _structure},
)
def IRNetResNet34(
    *,
    activation_bits: ActivationBits = 1,
    structure: Structure | None = None,
    quantized: bool = True,
    padding: nn.Padding = "symmetric",
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    """`IRNetResNet18` with 34 layers: stages of 6, 8, 12 and 6 binary convolutions.

    Args:
        activation_bits, structure, quantized, padding: See `IRNetResNet18`.
    """
    return _resnet(nn.IMAGENET_34, "irnet_resnet34", activation_bits, structure, quantized, padding, **options)


@register("irnet_resnet18_cifar", PAPER)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict(nn.CIFAR_18), untold=("quantized",)))
def IRNetResNet18CIFAR(
    *, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """ResNet-18 for CIFAR-10, of the normal structure: `IRNetResNet18` with a 3x3 stem, which no hardtanh follows.

    Args:
        quantized, padding: See `IRNetResNet20`.
    """
    return _resnet(nn.CIFAR_18, "irnet_resnet18_cifar", 1, "normal", quantized, padding, **options)


@register("irnet_vgg_small", PAPER)
@nn.architecture(CIFAR, state_dict=_layout(lambda: _state_dict_vgg_small(), untold=("quantized",)))
def IRNetVGGSmall(
    *, quantized: bool = True, padding: nn.Padding = "symmetric", **options: Unpack[nn.ModelOptions]
) -> tf.keras.Model:
    """VGG-Small for CIFAR-10: a real-valued and five binary 3x3 convolutions, of 128, 256 and 512 channels.

    Each stage ends in a max pooling, which comes before batch normalisation and hardtanh. The classifier sees every
    pixel of the last feature map, in the order height, width, channels (officially channels, height, width), so that a
    model with a top needs an input of known size.

    Args:
        quantized, padding: See `IRNetResNet20`.
    """
    builder = nn.ModelBuilder(**options)
    if builder.include_top and None in builder.inputs.shape[1:]:
        shape = tuple(builder.inputs.shape[1:])
        raise ValueError(f"input_shape of IRNetVGGSmall with its top must have a known height and width, not {shape}.")
    x = nn.convolve(builder.inputs, 128, 3, "stem_conv", initializer=nn.he_normal("fan_out"))
    x = HardTanh(name="stem_hardtanh")(nn.normalise(x, "stem_bn"))
    for name, channels, pools in _VGG_SMALL:
        x = _convolve(x, channels, f"{name}_conv", 1, quantized, padding, nn.he_normal("fan_out"))
        if pools:
            # An odd last row or column falls away, as officially.
            x = tf.keras.layers.MaxPooling2D(2, 2, name=f"{name}_pool")(x)
        x = HardTanh(name=f"{name}_hardtanh")(nn.normalise(x, f"{name}_bn"))
    if builder.include_top:
        x = tf.keras.layers.Flatten(name="flatten")(x)
        start = tf.keras.initializers.RandomNormal(stddev=0.01)
        x = tf.keras.layers.Dense(builder.num_classes, kernel_initializer=start, name="logits")(x)
    return builder.finish(x, "irnet_vgg_small")


def _resnet(
    spec: nn.ResNetSpec,
    name: str,
    activation_bits: ActivationBits,
    structure: Structure | None,
    quantized: bool,
    padding: nn.Padding,
    **options: Unpack[nn.ModelOptions],
) -> tf.keras.Model:
    builder = nn.ModelBuilder(**options)
    binary = activation_bits == 1

    def activate(x: tf.Tensor, layer: str) -> tf.Tensor:
        if binary:
            return HardTanh(name=f"{layer}_hardtanh")(x)
        return tf.keras.layers.ReLU(name=f"{layer}_relu")(x)

    def head(x: tf.Tensor, layer: str) -> tf.Tensor:
        x = nn.normalise(x, f"{layer}_bn")
        return activate(x, layer) if spec is nn.CIFAR_20 and not binary else x

    active_stem = spec.stem == "imagenet" or (spec is nn.CIFAR_20 and binary)
    x = nn.stem(builder.inputs, spec, activate=activate if active_stem else None, initializer=nn.official_start(spec))
    conv = functools.partial(_convolve, activation_bits=activation_bits, quantized=quantized, padding=padding)
    for block in spec.blocks(convs_per_block=2):
        shortcut = _shortcut(x, block, spec)
        x = conv(x, block.channels, f"{block.name}_conv1", initializer=nn.official_start(spec), strides=block.strides)
        x = nn.normalise(x, f"{block.name}_bn1")
        if structure == "bireal":
            x = tf.keras.layers.Add(name=f"{block.name}_add1")([x, shortcut])
        x = activate(x, f"{block.name}_1")
        if structure == "bireal":
            shortcut = x
        x = conv(x, block.channels, f"{block.name}_conv2", initializer=nn.official_start(spec))
        x = nn.normalise(x, f"{block.name}_bn2")
        x = tf.keras.layers.Add(name=f"{block.name}_add2")([x, shortcut])
        x = activate(x, f"{block.name}_2")
    return nn.classify(x, builder, name, head, nn.he_normal("fan_in") if spec is nn.CIFAR_20 else None)


def _shortcut(x: tf.Tensor, block: nn.Block, spec: nn.ResNetSpec) -> tf.Tensor:
    channels = x.shape[-1]
    if block.channels == channels:
        return x
    if spec is not nn.CIFAR_20:
        return nn.real_shortcut(x, block, pool=False, initializer=nn.official_start(spec))
    # The average of single pixels, in TensorFlow's pooling: twenty times as fast as a slice with a stride.
    x = tf.keras.layers.AveragePooling2D(1, block.strides, name=f"{block.name}_shortcut_subsample")(x)
    added = block.channels - channels
    return nn.PadChannels(added // 2, added - added // 2, name=f"{block.name}_shortcut_pad")(x)


def _convolve(
    x: tf.Tensor,
    filters: int,
    name: str,
    activation_bits: ActivationBits,
    quantized: bool,
    padding: nn.Padding,
    initializer: tf.keras.initializers.Initializer,
    strides: int = 1,
) -> tf.Tensor:
    return nn.binary_conv(
        x,
        filters,
        3,
        name=name,
        strides=strides,
        padding=padding,
        input_quantizer=EDE() if quantized and activation_bits == 1 else None,
        kernel_quantizer=LibraPB() if quantized else None,
        kernel_initializer=initializer,
    )


def _state_dict(spec: nn.ResNetSpec) -> dict[str, nn.TensorMap]:
    top, shortcut = ("fc", "downsample") if spec.stem == "imagenet" else ("linear", "shortcut")
    blocks = nn.map_blocks_of_two(spec, None if spec is nn.CIFAR_20 else shortcut)
    return nn.map_stem_and_top(top) | blocks | nn.map_norm("bn2", "logits_bn")


def _state_dict_vgg_small() -> dict[str, nn.TensorMap]:
    tensors = nn.map_conv("conv0.weight", "stem_conv") | nn.map_norm("bn0", "stem_bn")
    tensors |= nn.map_dense("fc", "logits", nn.dense_kernel_of_map(512, 4, 4))
    for index, (name, *_) in enumerate(_VGG_SMALL, 1):
        tensors |= nn.map_conv(f"conv{index}.weight", f"{name}_conv") | nn.map_norm(f"bn{index}", f"{name}_bn")
    return tensors
