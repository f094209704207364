"""What residual networks share: which blocks they have, stems, shortcuts and the classifier.

Their argument ``padding`` is that of the binary convolutions. Everything real-valued is padded as in the official code,
with as much on each side, whatever ``padding`` is: only a binary tensor has no zero to pad with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from .builder import ModelBuilder
from .torch_layers import SymmetricMaxPool2D, UnbiasedBatchNormalization


class Block(NamedTuple):
    """One residual block: how its layers' names begin, its output channels, and its stride."""

    name: str
    channels: int
    strides: int


ADAPTED = "Our adaptation to small images, for which the paper has no such network."


@dataclass(frozen=True)
class ResNetSpec:
    """Which residual network.

    Attributes:
        stem: ``"imagenet"``, a 7x7 convolution and a max pooling, both of stride 2, or ``"cifar"``, a 3x3 convolution.
        channels: Output channels of each stage. Every stage but the first halves the image.
        convs: How many 3x3 convolutions each stage has.
    """

    stem: Literal["imagenet", "cifar"]
    channels: tuple[int, ...]
    convs: tuple[int, ...]

    def blocks(self, convs_per_block: int = 1) -> Iterator[Block]:
        """Yield the blocks in order, each of so many convolutions."""
        for stage, (channels, convs) in enumerate(zip(self.channels, self.convs, strict=True)):
            for block in range(convs // convs_per_block):
                yield Block(f"stage{stage + 1}_block{block + 1}", channels, 2 if stage and not block else 1)


WIDE = (64, 128, 256, 512)
IMAGENET_18 = ResNetSpec("imagenet", WIDE, (4, 4, 4, 4))
IMAGENET_34 = ResNetSpec("imagenet", WIDE, (6, 8, 12, 6))
CIFAR_18 = ResNetSpec("cifar", WIDE, (4, 4, 4, 4))
CIFAR_20 = ResNetSpec("cifar", (16, 32, 64), (6, 6, 6))


def normalise(x: tf.Tensor, name: str, *, epsilon: float = 1e-5, momentum: float = 0.9) -> tf.Tensor:
    """Apply the batch normalisation of the official code, PyTorch's with its default settings."""
    return UnbiasedBatchNormalization(epsilon=epsilon, momentum=momentum, name=name)(x)


def convolve(
    x: tf.Tensor,
    filters: int,
    size: int,
    name: str,
    strides: int = 1,
    initializer: Any = None,
    padding: str | None = None,
) -> tf.Tensor:
    """Apply a real-valued convolution without bias; it pads equally on each side unless ``padding`` is given.

    It starts as PyTorch's do by default, uniform up to the inverse root of the fan-in.
    """
    if padding is None and strides > 1 and size > 1:
        x = tf.keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return tf.keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding or "same",
        use_bias=False,
        kernel_initializer=initializer or torch_uniform(),
        name=name,
    )(x)


def torch_uniform() -> tf.keras.initializers.Initializer:
    """Return how PyTorch starts the kernels of its layers."""
    return tf.keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def he_normal(mode: Literal["fan_in", "fan_out"]) -> tf.keras.initializers.Initializer:
    """Return PyTorch's ``kaiming_normal_``, which does not truncate."""
    return tf.keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")


def official_start(spec: ResNetSpec) -> tf.keras.initializers.Initializer:
    """Return how official code of ResNets starts the convolutions of a network, real-valued and binary."""
    if spec is CIFAR_18:
        return torch_uniform()
    return he_normal("fan_in" if spec is CIFAR_20 else "fan_out")


def small_positive() -> tf.keras.initializers.Initializer:
    """Return how the official Bi-Real Net and ReActNet code starts binary kernels: every weight is +1."""
    return tf.keras.initializers.RandomUniform(0.0, 0.001)


LayerFunction = Callable[[tf.Tensor, str], tf.Tensor]


def stem(
    x: tf.Tensor,
    spec: ResNetSpec,
    *,
    activate: LayerFunction | None = None,
    normalise: LayerFunction = normalise,
    initializer: Any = None,
    padding: Literal["same"] | None = None,
) -> tf.Tensor:
    """Apply convolution, batch normalisation, an activation if given, and the pooling if the network has one."""
    size, strides = (7, 2) if spec.stem == "imagenet" else (3, 1)
    x = normalise(convolve(x, spec.channels[0], size, "stem_conv", strides, initializer, padding), "stem_bn")
    if activate is not None:
        x = activate(x, "stem")
    if spec.stem == "imagenet":
        pool = SymmetricMaxPool2D if padding is None else tf.keras.layers.MaxPooling2D
        x = pool(3, 2, "same", name="stem_pool")(x)
    return x


def average_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """Average 2x2 pixels; an odd last row or column, which the official code cannot add up, by itself."""
    return tf.keras.layers.AveragePooling2D(2, 2, "same", name=name)(x)


def real_shortcut(
    x: tf.Tensor, block: Block, *, pool: bool = True, normalise: LayerFunction = normalise, initializer: Any = None
) -> tf.Tensor:
    """Match a block's output by a real 1x1 convolution and batch normalisation, after an average or of stride 2."""
    name = f"{block.name}_shortcut"
    if pool and block.strides == 2:
        x = average_pool(x, f"{name}_pool")
    strides = 1 if pool else block.strides
    return normalise(convolve(x, block.channels, 1, f"{name}_conv", strides, initializer), f"{name}_bn")


def classify(
    x: tf.Tensor, builder: ModelBuilder, name: str, head: LayerFunction | None = None, initializer: Any = None
) -> tf.keras.Model:
    """End a network in a global average, what ``head`` adds, and a fully connected layer, if it has a top at all.

    The layer's bias starts at 0, Keras' convention and *our choice*; PyTorch draws it.
    """
    if builder.include_top:
        x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
        if head is not None:
            x = head(x, "logits")
        x = tf.keras.layers.Dense(
            builder.num_classes, kernel_initializer=initializer or torch_uniform(), name="logits"
        )(x)
    return builder.finish(x, name)
