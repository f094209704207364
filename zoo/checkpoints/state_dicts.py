"""How the tensors of an official PyTorch code correspond to our variables.

A paper's module says it for its networks, as the argument ``state_dict`` of `zoo.building.architecture`: each tensor of
an official state dict (without the ``module.`` that ``DataParallel`` puts before the names), the variable it fills, and
the function that brings it into Keras' layout. The functions that most networks need are here.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from .variables import TOP, assign, check_fit, named_variables

Transform = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
"""Returns an official tensor in Keras' layout, given the shape that it has there.

Raises:
    ValueError: The tensor has another number of values.
"""


def vector(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return values in the order they have, such as one for each channel, or a single one."""
    return value.reshape(shape)


def conv_kernel(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a kernel from OIHW, or from (N, 1) in that order, in HWIO."""
    height, width, inputs, filters = shape
    if value.ndim == 4 and value.shape != (filters, inputs, height, width):
        raise ValueError(f"a kernel of shape {value.shape}")
    return value.reshape(filters, inputs, height, width).transpose(2, 3, 1, 0)


def dense_kernel(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a matrix from (out, in) in (in, out)."""
    return value.reshape(shape[::-1]).T


def dense_kernel_of_map(channels: int, height: int, width: int) -> Transform:
    """Return the transform of the matrix behind a flattened feature map of this size.

    PyTorch flattens it in the order of the arguments, Keras in the order height, width, channels.
    """

    def transform(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return value.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(shape)

    return transform


@dataclass(frozen=True)
class TensorMap:
    """Where an official tensor goes.

    Attributes:
        variable: The variable's name in `named_variables`.
        transform: How the layouts differ.
        part, parts: The variable joins the output channels of several official tensors: which one this is, of how many.
    """

    variable: str
    transform: Transform = vector
    part: int = 0
    parts: int = 1

    def to_keras(self, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return an official tensor, or its gradient, in our layout.

        Args:
            value: The official tensor.
            shape: Our variable's shape.

        Raises:
            ValueError: The tensor has another number of values.
        """
        if self.parts > 1:
            shape = (*shape[:-1], shape[-1] // self.parts)
        return self.transform(value, shape)


@dataclass(frozen=True)
class StateDictLayout:
    """The state dicts of an architecture's official code.

    Attributes:
        tensors: Returns their tensors' names, each with its place here.
        implies: Arguments of the architecture that such a state dict implies, such as ``{"padding": "symmetric"}``.
        untold: Arguments of the architecture that no name or shape in it tells. Loading one says what was assumed.
        ignored: Patterns (of `fnmatch`) of official tensors that no variable here corresponds to.
        unmatched: Patterns of our variables that no official tensor corresponds to; they stay as they are.
        preprocessing: What its network expects at its input, a name of `zoo.PREPROCESSING`.
    """

    tensors: Callable[[], Mapping[str, TensorMap]]
    implies: Mapping[str, Any] = field(default_factory=dict)
    untold: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ("*.num_batches_tracked",)
    unmatched: tuple[str, ...] = ()
    preprocessing: str = "imagenet"


def map_conv(official: str, layer: str, part: int = 0, parts: int = 1) -> dict[str, TensorMap]:
    """Return the place of a convolution's kernel; ``official`` is the tensor's full name."""
    return {official: TensorMap(f"{layer}/kernel", conv_kernel, part, parts)}


def map_norm(official: str, layer: str, part: int = 0, parts: int = 1) -> dict[str, TensorMap]:
    """Return the places of a batch normalisation's four vectors."""
    pairs = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {
        f"{official}.{theirs}": TensorMap(f"{layer}/{ours}", part=part, parts=parts) for theirs, ours in pairs.items()
    }


def map_dense(official: str, layer: str, kernel: Transform = dense_kernel) -> dict[str, TensorMap]:
    """Return the places of a fully connected layer's kernel and bias."""
    return {
        f"{official}.weight": TensorMap(f"{layer}/kernel", kernel),
        f"{official}.bias": TensorMap(f"{layer}/bias"),
    }


def load_state_dict(
    model: tf.keras.Model,
    tensors: Mapping[str, np.ndarray],
    layout: StateDictLayout,
    source: str,
    new_top: bool = False,
) -> None:
    """Set the variables of a model from the tensors of an official state dict.

    Args:
        model: The model to fill.
        tensors: The state dict.
        layout: Where its tensors go.
        source: What to call it in an error message.
        new_top: Leave the classifier of the model as it is.

    Raises:
        ValueError: A tensor has no place or another shape, or a variable gets no tensor; the model is left as it was.
    """
    maps, variables = layout.tensors(), named_variables(model)
    has_top = not new_top and any(name.startswith(TOP) for name in variables)
    parts: dict[str, dict[int, np.ndarray]] = {}
    problems: dict[str, list[str]] = {"unexpected": [], "misshaped": []}
    for name, tensor in tensors.items():
        place = maps.get(name)
        if place is None:
            if not _matches(name, layout.ignored):
                problems["unexpected"].append(name)
        elif place.variable in variables:
            if place.variable.startswith(TOP) and not has_top:
                continue
            shape = tuple(variables[place.variable].shape)
            try:
                parts.setdefault(place.variable, {})[place.part] = place.to_keras(tensor, shape)
            except ValueError:
                problems["misshaped"].append(f"{name} {tensor.shape} for {place.variable} {shape}")
        elif not place.variable.startswith(TOP):
            problems["unexpected"].append(f"{name} (for {place.variable}, which the model does not have)")
    problems["missing"] = [
        name
        for name, place in maps.items()
        if name not in tensors and place.variable in variables and (has_top or not place.variable.startswith(TOP))
    ]
    check_fit(model, source, problems)
    values = {
        name: np.concatenate([of[i] for i in sorted(of)], axis=-1) if len(of) > 1 else of[0]
        for name, of in parts.items()
    }
    values |= {
        name: v.numpy() for name, v in variables.items() if name not in values and _matches(name, layout.unmatched)
    }
    assign(model, values, source, new_top=new_top)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
