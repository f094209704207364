"""What a recipe is: a paper's training as data, stage by stage."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from ..zoo.registry import suggest
from .augmentation import Augmentation, Crop, random_area

Build = Callable[[int, tuple[int, ...]], tf.keras.Model]
"""Returns a network for a number of classes and an input shape (height, width, channels)."""


@dataclass(frozen=True)
class Stage:
    """One training of one network, a part of a recipe.

    Attributes:
        name: Short, such as ``"step1"``.
        epochs: Its length.
        build: Returns the untrained network, see `Build`.
        optimizer: Called with the number of batches in an epoch; returns the optimizer, its schedule included.
        augment: What is done to batches of training images.
        crop: What is shown of training images that differ in size, as ImageNet's do.
        loss: A Keras loss of integer labels and probabilities.
        teacher: Returns the teacher of a distillation; ``None`` trains on the labels.
        repeats: Whether every epoch repeats the first one's batches, so that the teacher sees each only once.
        callbacks: Gets the network; returns what else happens while training.
        inherit: Gets the trained network of the stage before and this stage's, and hands the weights over. ``None``
            starts afresh.
        finish: Gets the trained network and the training batches of one epoch, after the last epoch.
        milestones: The epochs, counted from 1, after which the test set is evaluated. ``None`` means all.
    """

    name: str
    epochs: int
    build: Build
    optimizer: Callable[[int], tf.keras.optimizers.Optimizer]
    augment: Augmentation | None = None
    crop: Crop = random_area
    loss: tf.keras.losses.Loss | str = "sparse_categorical_crossentropy"
    teacher: Build | None = None
    repeats: bool = False
    callbacks: Callable[[tf.keras.Model], list[tf.keras.callbacks.Callback]] = lambda network: []
    inherit: Callable[[tf.keras.Model, tf.keras.Model], None] | None = None
    finish: Callable[[tf.keras.Model, tf.data.Dataset], None] | None = None
    milestones: Sequence[int] | None = None


@dataclass(frozen=True)
class Recipe:
    """A paper's training with all its settings chosen.

    Attributes:
        name: The recipe's registered name.
        dataset: The dataset it is for, see `onebit.recipes.DATASETS`.
        batch_size: Images in a batch, over all replicas.
        preprocessing: How images come to the network, see `onebit.zoo.preprocessing`.
        stages: In order. The last one's network is the result.
        settings: What the recipe was called with, defaults included; all that tells two runs of it apart.
    """

    name: str
    dataset: str
    batch_size: int
    preprocessing: str
    stages: Sequence[Stage]
    settings: Mapping[str, Any] = field(default_factory=dict)


_RECIPES: dict[str, Callable[..., Recipe]] = {}


def register(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Register a recipe: a function of keyword arguments, all with defaults, under its own name."""

    @functools.wraps(function)
    def configured(**settings: Any) -> Recipe:
        chosen = {**_defaults(function), **_checked(function, settings)}
        recipe = function(**chosen)
        return Recipe(**{**recipe.__dict__, "settings": chosen})

    _RECIPES[function.__name__] = configured
    return configured


def list_recipes() -> list[str]:
    """Return the names of the registered recipes."""
    return sorted(_RECIPES)


def get_recipe(name: str, **settings: Any) -> Recipe:
    """Return a recipe with some of its settings changed.

    Args:
        name: From `list_recipes`.
        **settings: Any of its keyword arguments; strings are read as the default's type.

    Raises:
        ValueError: There is no such recipe or setting (the message suggests the nearest name), or a value does not
            suit.
    """
    if name not in _RECIPES:
        raise ValueError(f"There is no recipe {name!r}.{suggest(name, _RECIPES)}")
    return _RECIPES[name](**settings)


def _defaults(function: Callable[..., Recipe]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def _checked(function: Callable[..., Recipe], settings: Mapping[str, Any]) -> dict[str, Any]:
    defaults = _defaults(function)
    checked = {}
    for name, value in settings.items():
        if name not in defaults:
            raise ValueError(f"The recipe {function.__name__!r} has no setting {name!r}.{suggest(name, defaults)}")
        checked[name] = _convert(name, value, defaults[name]) if isinstance(value, str) else value
    return checked


def _convert(name: str, text: str, default: Any) -> Any:
    """Read a setting given as text as a value of the default's type."""
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false", "none") else text)
    except ValueError:
        value = None if text.lower() == "none" else text
    wanted = type(default)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not wanted:
        raise ValueError(f"The setting {name} must be a {wanted.__name__}, such as {default!r}, not {text!r}.")
    return value
