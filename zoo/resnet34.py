"""ResNet-34, real-valued: the teacher that ReActNet learns from on ImageNet.

K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, arXiv 1512.03385, in the
form of `torchvision.models.resnet34`, whose weights the authors of ReActNet distil. Nothing in it is 1-bit.
"""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from . import building as nn
from .registry import IMAGENET, Paper, PaperCounts, register

__all__ = ["ResNet34"]

PAPER = Paper(
    "Deep Residual Learning for Image Recognition",
    "K. He, X. Zhang, S. Ren, J. Sun",
    "CVPR 2016",
    "1512.03385",
    counts={"resnet34": PaperCounts(21_797_672, 0, 697.5, 0, 3663.8)},
)


@register("resnet34", PAPER, note="Full precision: ReActNet's teacher.")
@nn.architecture(IMAGENET, state_dict=nn.StateDictLayout(lambda: _state_dict()))
def ResNet34(**options: Unpack[nn.ModelOptions]) -> tf.keras.Model:
    """ResNet-34 for ImageNet: four stages of 3, 4, 6 and 3 blocks of two 3x3 convolutions, 64 to 512 channels.

    Downsampling is a 1x1 convolution of stride 2 and a batch normalisation.
    """
    builder = nn.ModelBuilder(**options)
    x = nn.stem(builder.inputs, nn.IMAGENET_34, activate=_relu, initializer=nn.he_normal("fan_out"))
    for block in nn.IMAGENET_34.blocks(convs_per_block=2):
        shortcut = x
        if block.channels != x.shape[-1]:
            shortcut = nn.real_shortcut(x, block, pool=False, initializer=nn.he_normal("fan_out"))
        x = nn.convolve(x, block.channels, 3, f"{block.name}_conv1", block.strides, nn.he_normal("fan_out"))
        x = _relu(nn.normalise(x, f"{block.name}_bn1"), f"{block.name}_1")
        x = nn.convolve(x, block.channels, 3, f"{block.name}_conv2", initializer=nn.he_normal("fan_out"))
        x = nn.normalise(x, f"{block.name}_bn2")
        x = _relu(tf.keras.layers.Add(name=f"{block.name}_add")([x, shortcut]), f"{block.name}_2")
    return nn.classify(x, builder, "resnet34")


def _relu(x: tf.Tensor, layer: str) -> tf.Tensor:
    return tf.keras.layers.ReLU(name=f"{layer}_relu")(x)


def _state_dict() -> dict[str, nn.TensorMap]:
    return nn.map_stem_and_top("fc") | nn.map_blocks_of_two(nn.IMAGENET_34, "downsample")
