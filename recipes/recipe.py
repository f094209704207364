"""What a recipe is: a paper's training as data, stage by stage."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_type_hints

import tensorflow as tf

from ..zoo.registry import entry, suggest
from .data.augmentation import Augmentation, Crop, random_area

T = TypeVar("T")
Build = Callable[[int, tuple[int, ...]], tf.keras.Model]


@dataclass(frozen=True)
class Stage:
    """One training of one network, a part of a recipe.

    Attributes:
        name: Short, such as ``"step1"``.
        epochs: Its length.
        build: Called with the number of classes and the input shape (height, width, channels); returns the untrained
            network.
        optimizer: Called with the number of batches in an epoch; returns the optimizer, its schedule included.
        augment: What is done to batches of training images.
        crop: What is shown of training images that differ in size, as ImageNet's do.
        loss: A Keras loss of integer labels and probabilities.
        teacher: Called with the same; returns the teacher of a distillation. ``None`` trains on the labels.
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
        preprocessing: How images come to the network, a name of `onebit.zoo.PREPROCESSING`.
        stages: In order. The last one's network is the result.
        settings: What the recipe was called with, defaults included; all that tells two runs of it apart. A recipe's
            function returns those that it decided itself, having been given ``None``.
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
        if "model" in chosen:
            entry(chosen["model"])  # which says so if there is no such network, before anything is read
        recipe = function(**chosen)
        return dataclasses.replace(recipe, settings={**chosen, **recipe.settings})

    _RECIPES[function.__name__] = configured
    return configured


def resolved(given: T | None, default: T) -> T:
    """Return a setting, or, where it was left open, what it is for the chosen network and dataset."""
    return default if given is None else given


def list_recipes() -> list[str]:
    """Return the names of the registered recipes."""
    return sorted(_RECIPES)


def get_recipe(name: str, **settings: Any) -> Recipe:
    """Return a recipe with some of its settings changed.

    Args:
        name: From `list_recipes`.
        **settings: Any of its keyword arguments; strings are read as the annotated type.

    Raises:
        ValueError: There is no such recipe, setting, network or dataset (the message suggests the nearest name), or a
            value does not suit.
    """
    if name not in _RECIPES:
        raise ValueError(f"There is no recipe {name!r}.{suggest(name, _RECIPES)}")
    return _RECIPES[name](**settings)


def _defaults(function: Callable[..., Recipe]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def _checked(function: Callable[..., Recipe], settings: Mapping[str, Any]) -> dict[str, Any]:
    defaults, hints = _defaults(function), get_type_hints(function)
    checked = {}
    for name, value in settings.items():
        if name not in defaults:
            raise ValueError(f"The recipe {function.__name__!r} has no setting {name!r}.{suggest(name, defaults)}")
        kinds = get_args(hints[name]) or (hints[name],)
        checked[name] = _read(value, kinds)
        unbounded = isinstance(checked[name], float) and not math.isfinite(checked[name])
        if type(checked[name]) not in kinds or unbounded:
            wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            example = "" if defaults[name] is None else f" such as {defaults[name]!r},"
            raise ValueError(f"The setting {name} must be {wanted},{example} not {value!r}.")
    return checked


def _read(value: Any, kinds: Sequence[type]) -> Any:
    """Return a setting's value, text read as one of these types if it can be."""
    if isinstance(value, str) and str not in kinds:
        with contextlib.suppress(ValueError):
            value = _WORDS[value.lower()] if value.lower() in _WORDS else json.loads(value)
    return float(value) if float in kinds and type(value) is int else value


_WORDS = {"true": True, "false": False, "none": None}
