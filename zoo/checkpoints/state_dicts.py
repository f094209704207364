"""How the official PyTorch code's tensors correspond to our variables.

Every family of networks that has official code lists the tensors of its state dicts (without the ``module.`` that
``DataParallel`` puts before the names), each with its place here, in `OFFICIAL`. The layouts are converted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

IGNORED = ("*.num_batches_tracked",)
"""Patterns (of `fnmatch`) of official tensors that no variable here corresponds to, in any network."""

UNMATCHED = ("*/k_bias", "*/t_bias")
"""Patterns of our variables that no official tensor corresponds to: EDE's state is not in its checkpoints."""


@dataclass(frozen=True)
class Place:
    """Where an official tensor goes.

    Attributes:
        variable: The variable's name in `named_variables`.
        kind: How the layouts differ: ``"conv"`` is OIHW, or flat (N, 1) in that order, for our HWIO; ``"dense"`` is
            (out, in) for (in, out); ``"vector"`` has one value per channel, of any shape; ``"negated"`` such values
            with the opposite sign.
        part, parts: The variable joins the output channels of several official tensors: which one this is, of how many.
        flattened: For ``"dense"``: (channels, height, width) of the feature map that is flattened before it, which
            PyTorch does in this order, and Keras in the order (height, width, channels).
    """

    variable: str
    kind: Literal["conv", "dense", "vector", "negated"] = "vector"
    part: int = 0
    parts: int = 1
    flattened: tuple[int, int, int] | None = None

    def to_keras(self, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return an official tensor, or its gradient, in our layout.

        Args:
            value: The official tensor.
            shape: Our variable's shape.

        Raises:
            ValueError: The tensor has another number of values.
        """
        *inside, channels = shape
        channels //= self.parts
        if self.kind == "conv":
            height, width, depth = inside
            return value.reshape(channels, depth, height, width).transpose(2, 3, 1, 0)
        if self.kind == "dense":
            value = value.reshape(channels, *(self.flattened or inside))
            return value.transpose(2, 3, 1, 0).reshape(-1, channels) if self.flattened else value.T
        value = value.reshape(channels)
        return -value if self.kind == "negated" else value


class OfficialCode(NamedTuple):
    """The state dicts of an architecture's official code.

    Attributes:
        names: Returns the places of their tensors, given one of `steps` where there are any.
        ignored: Patterns (of `fnmatch`) of tensors that no variable here corresponds to.
        steps: The steps of a training whose state dicts have other names.
    """

    names: Callable[..., Mapping[str, Place]]
    ignored: tuple[str, ...] = IGNORED
    steps: tuple[int, ...] = ()


OFFICIAL: dict[str, OfficialCode] = {}
"""By the name of the zoo's function."""


def conv(official: str, layer: str, part: int = 0, parts: int = 1) -> dict[str, Place]:
    """Return the place of a convolution's kernel; ``official`` is the tensor's full name."""
    return {official: Place(f"{layer}/kernel", "conv", part, parts)}


def norm(official: str, layer: str, part: int = 0, parts: int = 1) -> dict[str, Place]:
    """Return the places of a batch normalisation's four vectors."""
    pairs = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {f"{official}.{theirs}": Place(f"{layer}/{ours}", "vector", part, parts) for theirs, ours in pairs.items()}


def dense(official: str, layer: str, flattened: tuple[int, int, int] | None = None) -> dict[str, Place]:
    """Return the places of a fully connected layer's kernel and bias."""
    return {
        f"{official}.weight": Place(f"{layer}/kernel", "dense", flattened=flattened),
        f"{official}.bias": Place(f"{layer}/bias"),
    }


def rsign(official: str, layer: str) -> dict[str, Place]:
    """Return the place of the bias that the official code adds before the sign: our threshold is its negative."""
    return {f"{official}.bias": Place(f"{layer}/input_quantizer/alpha_bias", "negated")}


def rprelu(shift_in: str, slope: str, shift_out: str, layer: str) -> dict[str, Place]:
    """Return the places of the three modules that make one `RPReLU`."""
    return {
        f"{shift_in}.bias": Place(f"{layer}/shift_in"),
        f"{slope}.weight": Place(f"{layer}/slope"),
        f"{shift_out}.bias": Place(f"{layer}/shift_out"),
    }
