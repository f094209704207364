"""Tide Networks: a paper that was invented to show what a new one takes. Nobody wrote it.

Its kernels are `TideKernel`, its activations `TideSign`, and between them is `Tide`.
"""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from ..quantizers.tidenet import Tide, TideKernel, TideSign
from .building import (
    ModelBuilder,
    ModelOptions,
    Padding,
    ResNetSpec,
    StateDictLayout,
    TensorMap,
    architecture,
    average_pool,
    binary_conv,
    classify,
    map_conv,
    map_dense,
    map_norm,
    normalise,
    real_shortcut,
    stem,
)
from .registry import CIFAR, Paper, register

__all__ = ["TideNet8"]

PAPER = Paper("Tide Networks", "N. Obody", "arXiv 2099", "9912.99999", top1={"tidenet8": 77.7})
_SPEC = ResNetSpec("cifar", (8, 16, 32), (2, 2, 2))


def _state_dict() -> dict[str, TensorMap]:
    tensors = map_conv("first.0.weight", "stem_conv") | map_norm("first.1", "stem_bn") | map_dense("last", "logits")
    for index, block in enumerate(_SPEC.blocks()):
        official, name = f"body.{index}", block.name
        tensors |= map_conv(f"{official}.conv.weight", f"{name}_conv") | map_norm(f"{official}.bn", f"{name}_bn")
        tensors[f"{official}.conv.threshold"] = TensorMap(f"{name}_conv/input_quantizer/threshold_bias")
        tensors |= {f"{official}.tide.{part}": TensorMap(f"{name}_tide/{part}") for part in ("bend", "shift")}
        if block.strides == 2:
            tensors |= map_conv(f"{official}.down.weight", f"{name}_shortcut_conv")
            tensors |= map_norm(f"{official}.down_bn", f"{name}_shortcut_bn")
    return tensors


@register("tidenet8", PAPER)
@architecture(
    CIFAR, state_dict=StateDictLayout(_state_dict, implies={"padding": "symmetric", "quantized": True, "pools": False})
)
def TideNet8(
    *,
    pools: bool = False,
    quantized: bool = True,
    padding: Padding = "symmetric",
    **options: Unpack[ModelOptions],
) -> tf.keras.Model:
    """Three stages of two binary convolutions, 8 to 32 channels.

    Args:
        pools: Whether the last feature map is pooled once more.
        quantized: ``False`` builds the full-precision network, without quantizers.
        padding: Padding of the binary convolutions.
    """
    builder = ModelBuilder(**options)
    x = stem(builder.inputs, _SPEC)
    for block in _SPEC.blocks():
        shortcut = x if block.channels == x.shape[-1] else real_shortcut(x, block)
        x = binary_conv(
            x,
            block.channels,
            3,
            name=f"{block.name}_conv",
            strides=block.strides,
            padding=padding,
            input_quantizer=TideSign() if quantized else None,
            kernel_quantizer=TideKernel() if quantized else None,
        )
        x = tf.keras.layers.Add(name=f"{block.name}_add")([normalise(x, f"{block.name}_bn"), shortcut])
        x = Tide(name=f"{block.name}_tide")(x)
    if pools:
        x = average_pool(x, "stage3_pool")
    return classify(x, builder, "tidenet8")
