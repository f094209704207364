"""What a recipe is: a paper's training as data, stage by stage."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import tensorflow as tf

from ..util.arguments import to_python
from ..util.formatting import did_you_mean
from ..zoo.registry import entry
from .data.augmentation import Augmentation, Crop, random_resized_crop
from .training.losses import Feature, PairLoss, distribution_loss, mean_squared_difference

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
        teachers: Each called with the same; return the teachers of a distillation. Without any the network is trained
            on the labels.
        teacher_weights, distillation_loss, temperature, label_weight, features, feature_loss, feature_weight: See
            `Distiller`.
        repeats: Whether every epoch repeats the first one's batches, so that the teachers see each only once.
        callbacks: Gets the network; returns what else happens while training.
        init_from: Gets the trained network of the stage before and this stage's, and hands the weights over. ``None``
            starts afresh.
        finish: Gets the trained network and the training batches of one epoch, after the last epoch.
        milestones: The epochs, counted from 1, after which the test set is evaluated. ``None`` means all.
    """

    name: str
    epochs: int
    build: Build
    optimizer: Callable[[int], tf.keras.optimizers.Optimizer]
    augment: Augmentation | None = None
    crop: Crop = random_resized_crop
    loss: tf.keras.losses.Loss | str = "sparse_categorical_crossentropy"
    teachers: Sequence[Build] = ()
    teacher_weights: Sequence[float] | None = None
    distillation_loss: PairLoss = distribution_loss
    temperature: float = 1.0
    label_weight: float = 0.0
    features: Sequence[Feature] = ()
    feature_loss: PairLoss = mean_squared_difference
    feature_weight: float = 1.0
    repeats: bool = False
    callbacks: Callable[[tf.keras.Model], list[tf.keras.callbacks.Callback]] = lambda network: []
    init_from: Callable[[tf.keras.Model, tf.keras.Model], None] | None = None
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
        settings: All settings; together they tell two runs of a recipe apart.
        given: The names of those that the caller chose. The others are the recipe's own for this network and dataset.
        registered: The stages as the registered recipe has them, where it is one: others may stand in their place.
    """

    name: str
    dataset: str
    batch_size: int
    preprocessing: str
    stages: Sequence[Stage]
    settings: Mapping[str, Any] = field(default_factory=dict)
    given: Set[str] = frozenset()
    registered: Sequence[Stage] | None = None

    @property
    def is_changed(self) -> bool:
        """Whether it is a registered recipe with other stages."""
        return self.registered is not None and list(self.stages) != list(self.registered)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a registered recipe by its name and settings: its stages hold functions, which cannot be."""
        if self.registered is None or self.is_changed:
            return super().__reduce_ex__(protocol)
        names = ("dataset", "batch_size", "preprocessing", "settings")
        given = {name: self.settings[name] for name in self.given}
        return _again, (self.name, given, {name: getattr(self, name) for name in names})


class Same(NamedTuple):
    """In a table of settings: the value of another setting, whoever chose that."""

    setting: str


Settings = Mapping[str, Mapping[str, Any]]
"""A paper's settings: those of ``"default"``, and, in order, what other conditions change in them.

A condition is ``"SETTING=PATTERN"``, or several with spaces between them, all of which must hold:
``"dataset=imagenet32 depth=26"``. A setting that ``"default"`` lacks must be given where no condition has it.
"""


@dataclass(frozen=True)
class Registered:
    """What makes a recipe, see `register`."""

    name: str
    function: Callable[..., Recipe]
    table: Settings
    quick: Mapping[str, Any]
    summary: str


_RECIPES: dict[str, Registered] = {}

_Function = TypeVar("_Function", bound=Callable[..., Recipe])


def register(
    table: Settings, quick: Mapping[str, Any] | None = None, *, name: str | None = None, summary: str | None = None
) -> Callable[[_Function], _Function]:
    """Register a recipe. A function may have several, each with a table and a name of its own.

    Args:
        table: The paper's settings. The function gets all of its keyword arguments: what the caller gave, else what the
            table says.
        quick: Settings under which the recipe learns something from a hundred small images in a few epochs, for tests.
        name: What it is called; by default as its function.
        summary: What it does, in a paragraph; by default its function's docstring says so.

    Raises:
        ValueError: The table names a setting that the function does not have.
    """

    def decorate(function: _Function) -> _Function:
        own = name or function.__name__
        parameters = inspect.signature(function).parameters
        named = {setting for row in (*table.values(), quick or {}) for setting in row}
        named |= {setting for condition in table for setting in _conditions(condition)}
        if unknown := sorted(named - parameters.keys()):
            raise ValueError(f"The table of the recipe {own!r} has settings that it lacks: {unknown}.")
        _RECIPES[own] = Registered(own, function, table, quick or {}, summary or inspect.getdoc(function) or "")
        return function

    return decorate


def list_recipes() -> list[str]:
    """Return the names of the registered recipes."""
    return sorted(_RECIPES)


def get_recipe(name: str, **settings: Any) -> Recipe:
    """Return a recipe with some of its settings changed.

    Args:
        name: From `list_recipes`.
        **settings: Any of its keyword arguments; strings are read as the annotated type. The others have the paper's
            values for the chosen network and dataset.

    Raises:
        ValueError: There is no such recipe, setting, network or dataset (the message suggests the nearest name), a
            value does not suit, or a setting must be given.
    """
    found = registered(name)
    given = _checked(found, settings)
    chosen = _merged(found, given)
    if "model" in chosen:
        entry(chosen["model"])  # which says so if there is no such network, before anything is read
    recipe = found.function(**chosen)
    return dataclasses.replace(recipe, name=name, settings=chosen, given=frozenset(given), registered=recipe.stages)


def _again(name: str, given: Mapping[str, Any], fields: Mapping[str, Any]) -> Recipe:
    return dataclasses.replace(get_recipe(name, **given), **fields)


def quick_settings(name: str) -> dict[str, Any]:
    """Return the settings under which a recipe learns something from a hundred small images, see `register`."""
    return dict(registered(name).quick)


def registered(name: str) -> Registered:
    """Return what a recipe was registered with; see `get_recipe` for the error."""
    if name not in _RECIPES:
        raise ValueError(f"There is no recipe {name!r}.{did_you_mean(name, _RECIPES)}")
    return _RECIPES[name]


def _conditions(condition: str) -> dict[str, str]:
    """Return the patterns of settings under which a row of a table holds."""
    words = [] if condition == "default" else condition.split()
    return {name: pattern for name, _, pattern in (word.partition("=") for word in words)}


def _merged(recipe: Registered, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a recipe, in the order of its function's arguments."""
    chosen = dict(given)
    for condition, row in recipe.table.items():
        conditions = _conditions(condition)
        if all(fnmatch.fnmatchcase(str(chosen.get(name)), pattern) for name, pattern in conditions.items()):
            chosen = {**chosen, **row, **given}
    names = inspect.signature(recipe.function).parameters
    if missing := [name for name in names if name not in chosen]:
        offered = [f"{row[missing[0]]!r} for {where}" for where, row in recipe.table.items() if missing[0] in row]
        raise ValueError(
            f"The setting {missing[0]} of the recipe {recipe.name!r} must be given here. It has {', '.join(offered)}."
        )
    return {name: chosen[value.setting] if isinstance(value := chosen[name], Same) else value for name in names}


def _checked(recipe: Registered, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as their annotated types, or raise `ValueError`."""
    hints = get_type_hints(recipe.function)
    del hints["return"]
    checked = {}
    for name, value in settings.items():
        if name not in hints:
            raise ValueError(f"The recipe {recipe.name!r} has no setting {name!r}.{did_you_mean(name, hints)}")
        kinds = get_args(hints[name]) or (hints[name],)
        checked[name] = _read(value, kinds)
        unbounded = isinstance(checked[name], float) and not math.isfinite(checked[name])
        if type(checked[name]) not in kinds or unbounded:
            wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"The setting {name} must be {wanted}, not {value!r}, a {type(value).__name__}.")
    return checked


def _read(value: Any, kinds: Sequence[type]) -> Any:
    """Return a setting's value, text read as one of these types if it can be."""
    value = to_python(value)
    if isinstance(value, str) and value.lower() == "none" and type(None) in kinds:
        return None
    if isinstance(value, str) and str not in kinds:
        with contextlib.suppress(ValueError):
            value = _WORDS[value.lower()] if value.lower() in _WORDS else json.loads(value)
    return float(value) if float in kinds and type(value) is int else value


_WORDS = {"true": True, "false": False, "none": None}
