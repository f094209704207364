"""How large a model is: parameters, memory and multiply-accumulates, as Larq counts them."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass

import tensorflow as tf

from ..quantizers import BinarySet
from .checkpoints.latents import as_filters
from .checkpoints.variables import BinaryKernel, binary_kernels, check_keras_2
from .data import DATA

FOLDER = DATA / "counts"
"""One file for each module of architectures."""


@dataclass(frozen=True)
class Counts:
    """The totals of ``larq.models.summary``, and what binary kernels with offsets cost beyond.

    A kernel whose two values are not +a and -a is convolved as signs, times one number for each filter, plus another
    one times the sum of the input's signs in the window: a further filter of +1, which the summary does not know of.
    The first number goes into what follows, the second is counted as a parameter. What offsets of the input's values
    add is constant, and taken for free.

    Attributes:
        parameters: Values to be stored, those of a batch normalisation after fusion (two for each channel).
        binary_parameters: Those among them that take 1 bit.
        memory: Bytes at 1 bit for each binary parameter and 32 for each other one.
        float32_memory: Bytes at 32 bits for each, but for the offsets, of which a real kernel has no need.
        binary_macs: Multiply-accumulates whose two factors are both 1 bit, for one image.
        float_macs: All the others. Where only the weights are binary, so are their products.
    """

    parameters: int
    binary_parameters: int
    memory: int
    float32_memory: int
    binary_macs: int
    float_macs: int

    @property
    def ops(self) -> float:
        """The cost by which the papers compare networks: real multiply-accumulates, and 1/64 of the 1-bit ones."""
        return self.float_macs + self.binary_macs / 64


def count(model: tf.keras.Model) -> Counts:
    """Count a model's parameters, memory and multiply-accumulates at the input shape it was built for.

    Raises:
        ValueError: Height or width of the input are open, and with them the number of multiply-accumulates; or a part
            of the model is of Keras 3.
    """
    from larq.models import ModelProfile

    check_keras_2(model)

    if None in model.input_shape[1:]:
        raise ValueError(
            f"The input of {model.name} is {model.input_shape[1:]}: its multiply-accumulates depend on height and "
            "width, so build it with a fixed input_shape to count them."
        )
    profile = ModelProfile(model)
    binary_macs = profile.op_count("mac", 1)
    offsets = [_count_offsets(kernel) for kernel in binary_kernels(model).values()]
    parameters, binary_sums, other = (int(sum(each)) for each in zip(*offsets, strict=True)) if offsets else (0, 0, 0)
    return Counts(
        parameters=int(profile.weight_count()) + parameters,
        binary_parameters=int(profile.weight_count(1)),
        memory=-(-int(profile.memory) // 8) + 4 * parameters,
        float32_memory=-(-int(profile.fp_equivalent_memory) // 8),
        binary_macs=int(binary_macs) + binary_sums,
        float_macs=int(profile.op_count("mac") - binary_macs) + other,
    )


def _count_offsets(kernel: BinaryKernel) -> tuple[int, int, int]:
    """Return how many parameters, 1-bit and other multiply-accumulates a kernel's offsets cost."""
    latent, axes = kernel.variable.numpy(), kernel.filter_axes()
    parts = BinarySet.of_filters(as_filters(kernel.quantized(latent), axes))
    if parts is None or parts[1].is_symmetric:
        return 0, 0, 0
    layer, (filters, taps) = kernel.layer, parts[0].shape
    pixels = math.prod(layer.output_shape[1:-1])
    # Each group of input channels has a sum of its own, in a depthwise convolution each channel.
    sums = pixels * taps * (latent.shape[-2] if len(axes) == latent.ndim - 2 else getattr(layer, "groups", 1))
    is_binary = getattr(layer.input_quantizer, "precision", None) == 1
    return filters, sums if is_binary else 0, pixels * filters + (0 if is_binary else sums)


@functools.cache
def recorded_counts() -> dict[str, Counts]:
    """Return the counts of the registered models at their native shape, by name, without building them.

    The files are written by ``tools/report.py --count``; a model too new for them is absent.
    """
    files = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    return {name: Counts(**row) for rows in files for name, row in rows.items()}
