"""Arguments of the zoo's functions: checked in one wording, and brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def check_choice(argument: str, value: object, allowed: Iterable[object]) -> None:
    """Raise a ValueError that names the argument and what it may be, unless ``value`` is among ``allowed``."""
    allowed = tuple(allowed)
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def check_num_classes(value: object) -> None:
    """Raise a ValueError unless ``value`` is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"num_classes must be a positive integer, not {value!r}.")


def check_data_format() -> None:
    """Raise a ValueError unless Keras is set to have the channels last, as all networks here take their images."""
    if (given := tf.keras.backend.image_data_format()) != "channels_last":
        raise ValueError(
            f"Keras' image_data_format is {given!r}, but the zoo's networks have the channels last: call "
            "tf.keras.backend.set_image_data_format('channels_last')."
        )


def check_implied(function: str, given: Mapping[str, Any], implied: Mapping[str, Any]) -> None:
    """Raise a ValueError where an architecture's argument is given (not ``None``) and not as the weights have it."""
    for name, value in implied.items():
        if given.get(name) is not None and given[name] != value:
            raise ValueError(f"{name}={given[name]!r} of {function} does not suit the weights, which have {value!r}.")


def to_python(value: Any) -> Any:
    """Return NumPy's scalars, and those in tuples and lists, as Python's numbers."""
    if isinstance(value, tuple | list):
        return type(value)(map(to_python, value))
    return value.item() if isinstance(value, np.generic) else value


def is_keras_tensor(value: Any) -> bool:
    """Return whether ``value`` is a symbolic tensor of Keras."""
    try:
        return tf.keras.backend.is_keras_tensor(value)
    except ValueError:  # not even a tensor
        return False


def is_input(tensor: tf.Tensor | None) -> bool:
    """Return whether an ``input_tensor`` is no more than an input, or not given."""
    return tensor is None or isinstance(tensor._keras_history.layer, tf.keras.layers.InputLayer)
