"""What the networks of Bi-Real Net, ReActNet, IR-Net and FTBNN share: layouts, stems, shortcuts and the classifier.

Their argument ``padding`` is that of the binary convolutions. Everything real-valued is padded as in the official code,
with as much on each side, whatever ``padding`` is: only a binary tensor has no zero to pad with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from ..checkpoints.state_dicts import Place, conv, dense, norm
from .builder import Scaffold
from .torch_layers import SymmetricMaxPool2D, UnbiasedBatchNormalization


class Block(NamedTuple):
    """One residual block: how its layers' names begin, its output channels, and its stride."""

    name: str
    channels: int
    strides: int


ADAPTED = "Our adaptation to small images, for which the paper has no such network."


@dataclass(frozen=True)
class Layout:
    """Which residual network.

    Attributes:
        stem: ``"imagenet"``, a 7x7 convolution and a max pooling, both of stride 2, or ``"cifar"``, a 3x3 convolution.
        channels: Output channels of each stage. Every stage but the first halves the image.
        blocks: How many blocks each stage has, of one convolution each.
    """

    stem: Literal["imagenet", "cifar"]
    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    def walk(self, convolutions: int = 1) -> Iterator[Block]:
        """Yield the blocks in order, where a block has so many convolutions."""
        for stage, (channels, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            for block in range(blocks // convolutions):
                yield Block(f"stage{stage + 1}_block{block + 1}", channels, 2 if stage and not block else 1)


WIDE = (64, 128, 256, 512)
IMAGENET_18 = Layout("imagenet", WIDE, (4, 4, 4, 4))
IMAGENET_34 = Layout("imagenet", WIDE, (6, 8, 12, 6))
CIFAR_18 = Layout("cifar", WIDE, (4, 4, 4, 4))
CIFAR_20 = Layout("cifar", (16, 32, 64), (6, 6, 6))


def official_blocks(layout: Layout, convolutions: int = 1) -> Iterator[tuple[str, Block]]:
    """Yield the blocks with the names that torchvision's style gives them, such as ``"layer1.0"``."""
    for block in layout.walk(convolutions):
        stage, index = (int(part[5:]) for part in block.name.split("_"))
        yield f"layer{stage}.{index - 1}", block


def official_stem_and_top(top: str) -> dict[str, Place]:
    """Return the places of ``conv1``, ``bn1`` and the classifier called ``top``."""
    return conv("conv1.weight", "stem_conv") | norm("bn1", "stem_bn") | dense(top, "logits")


def official_blocks_of_two(layout: Layout, shortcut: str | None) -> dict[str, Place]:
    """Return the places of blocks of two convolutions, and of their convolutional ``shortcut``s if they have any."""
    names: dict[str, Place] = {}
    for official, block in official_blocks(layout, convolutions=2):
        for i in (1, 2):
            names |= conv(f"{official}.conv{i}.weight", f"{block.name}_conv{i}")
            names |= norm(f"{official}.bn{i}", f"{block.name}_bn{i}")
        if block.strides == 2 and shortcut is not None:
            names |= official_shortcut(f"{official}.{shortcut}", block, 0)
    return names


def official_shortcut(official: str, block: Block, index: int) -> dict[str, Place]:
    """Return the places of a downsampling shortcut's tensors; ``index`` is its convolution's in the official module."""
    name = f"{block.name}_shortcut"
    return conv(f"{official}.{index}.weight", f"{name}_conv") | norm(f"{official}.{index + 1}", f"{name}_bn")


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


def small_positive() -> tf.keras.initializers.Initializer:
    """Return how the official Bi-Real Net and ReActNet code starts binary kernels: every weight is +1."""
    return tf.keras.initializers.RandomUniform(0.0, 0.001)


LayerFunction = Callable[[tf.Tensor, str], tf.Tensor]


def stem(
    x: tf.Tensor,
    layout: Layout,
    *,
    activate: LayerFunction | None = None,
    normalise: LayerFunction = normalise,
    initializer: Any = None,
    padding: Literal["same"] | None = None,
) -> tf.Tensor:
    """Apply convolution, batch normalisation, an activation if given, and the pooling if the layout has one."""
    size, strides = (7, 2) if layout.stem == "imagenet" else (3, 1)
    x = normalise(convolve(x, layout.channels[0], size, "stem_conv", strides, initializer, padding), "stem_bn")
    if activate is not None:
        x = activate(x, "stem")
    if layout.stem == "imagenet":
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
    x: tf.Tensor, scaffold: Scaffold, name: str, head: LayerFunction | None = None, initializer: Any = None
) -> tf.keras.Model:
    """End a network in a global average, what ``head`` adds, and a fully connected layer, if it has a top at all.

    The layer's bias starts at 0, Keras' convention and *our choice*; PyTorch draws it.
    """
    if scaffold.include_top:
        x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
        if head is not None:
            x = head(x, "logits")
        x = tf.keras.layers.Dense(
            scaffold.num_classes, kernel_initializer=initializer or torch_uniform(), name="logits"
        )(x)
    return scaffold.finish(x, name)
