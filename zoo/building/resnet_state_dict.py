"""What the state dicts of residual networks in torchvision's style share."""

from __future__ import annotations

from collections.abc import Iterator

from ..checkpoints.state_dicts import TensorMap, map_conv, map_dense, map_norm
from .resnet import Block, ResNetSpec


def official_blocks(spec: ResNetSpec, convs_per_block: int = 1) -> Iterator[tuple[str, Block]]:
    """Yield the blocks with the names that torchvision's style gives them, such as ``"layer1.0"``."""
    for block in spec.blocks(convs_per_block):
        stage, index = (int(part[5:]) for part in block.name.split("_"))
        yield f"layer{stage}.{index - 1}", block


def map_stem_and_top(top: str) -> dict[str, TensorMap]:
    """Return the places of ``conv1``, ``bn1`` and the classifier called ``top``."""
    return map_conv("conv1.weight", "stem_conv") | map_norm("bn1", "stem_bn") | map_dense(top, "logits")


def map_blocks_of_two(spec: ResNetSpec, shortcut: str | None) -> dict[str, TensorMap]:
    """Return the places of blocks of two convolutions, and of their convolutional ``shortcut``s if they have any."""
    tensors: dict[str, TensorMap] = {}
    for official, block in official_blocks(spec, convs_per_block=2):
        for i in (1, 2):
            tensors |= map_conv(f"{official}.conv{i}.weight", f"{block.name}_conv{i}")
            tensors |= map_norm(f"{official}.bn{i}", f"{block.name}_bn{i}")
        if block.strides == 2 and shortcut is not None:
            tensors |= map_shortcut(f"{official}.{shortcut}", block, 0)
    return tensors


def map_shortcut(official: str, block: Block, index: int) -> dict[str, TensorMap]:
    """Return the places of a downsampling shortcut's tensors; ``index`` is its convolution's in the official module."""
    name = f"{block.name}_shortcut"
    return map_conv(f"{official}.{index}.weight", f"{name}_conv") | map_norm(f"{official}.{index + 1}", f"{name}_bn")
