"""Which models the zoo has, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import tensorflow as tf

from ..util.formatting import did_you_mean
from .images.images import PREPROCESSING, Preprocessing, for_dataset

_Build = TypeVar("_Build", bound=Callable[..., tf.keras.Model])


class Task(NamedTuple):
    """What an architecture was made for, where nothing else is asked of it.

    Attributes:
        input_shape: (height, width, channels).
        classes: How many it tells apart.
        min_size: Smallest height and width of an input.
        preprocessing: What its paper's code hands to it.
    """

    input_shape: tuple[int, int, int]
    classes: int
    min_size: int = 1
    preprocessing: Preprocessing = PREPROCESSING["imagenet"]


IMAGENET = Task((224, 224, 3), 1000, min_size=32, preprocessing=for_dataset("imagenet", "imagenet2012"))
CIFAR = Task((32, 32, 3), 10, min_size=8)


@dataclass(frozen=True)
class Paper:
    """Where a family of models comes from.

    Attributes:
        title, authors, venue, arxiv: The publication.
        top1: Accuracy in percent that the paper or its official repository reports for registered models, on ImageNet
            for those of its size and on CIFAR-10 for the others. Only figures whose source was read.
    """

    title: str
    authors: str
    venue: str
    arxiv: str
    top1: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A registered model: a function of the zoo with the arguments that make it this model.

    Attributes:
        name: Such as ``"wide_resnet_20_10"``.
        build: The public function, called with ``arguments`` and any `ModelOptions`.
        arguments: What tells this model from the others that the function can build.
        paper: Its source.
        task: What the paper made it for.
        note: How far it is from the paper's network, where it is not the computation of the authors' code.
    """

    name: str
    build: Callable[..., tf.keras.Model]
    paper: Paper
    task: Task
    arguments: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """The input shape that the paper uses, (height, width, channels)."""
        return self.task.input_shape

    @property
    def call(self) -> str:
        """The call that builds it, such as ``"zoo.WideResNet(depth=20, width=10)"``."""
        if "/" in self.name:  # another zoo's, for which this one has no function
            return f"zoo.load({self.name!r})"
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"zoo.{self.build.__name__}({arguments})"


_ENTRIES: dict[str, Entry] = {}


def register(name: str, paper: Paper, *, note: str = "", **arguments: Any) -> Callable[[_Build], _Build]:
    """Return a decorator that registers a function of the zoo, called with ``arguments``, as the model ``name``.

    The function has an attribute ``task``, as `architecture` gives it one.
    """

    def decorate(build: _Build) -> _Build:
        if name in _ENTRIES:
            raise ValueError(f"The model {name!r} is registered twice.")
        _ENTRIES[name] = Entry(name, build, paper, cast(Any, build).task, arguments, note)
        return build

    return decorate


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the registered models that match a shell pattern, sorted.

    Models of other zoos, which have a slash in their names, are listed only by a pattern that has one: ``"larq/*"``.
    """
    return sorted(name for name in fnmatch.filter(_ENTRIES, pattern) if "/" in pattern or "/" not in name)


def entry(name: str) -> Entry:
    """Return a registered model's entry.

    Raises:
        ValueError: There is no such model; the message suggests the nearest names.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise ValueError(f"There is no model {name!r}.{did_you_mean(name, _ENTRIES)}") from None


def entry_of(build: str, arguments: Mapping[str, Any]) -> Entry | None:
    """Return the entry whose function is named ``build`` and whose arguments are all among ``arguments``."""
    for candidate in _ENTRIES.values():
        if candidate.build.__name__ == build and candidate.arguments.items() <= arguments.items():
            return candidate
    return None


def function(name: str) -> Callable[..., tf.keras.Model]:
    """Return the public function of the zoo that is called ``name``, such as ``"WideResNet"``.

    Raises:
        ValueError: No registered model is built by such a function.
    """
    functions = {e.build.__name__: e.build for e in _ENTRIES.values()}
    if name not in functions:
        raise ValueError(f"The zoo has no function {name!r}.{did_you_mean(name, functions)}")
    return functions[name]


def load(name: str, **options: Any) -> tf.keras.Model:
    """Build a registered model, with or without weights.

    Args:
        name: A name from `list_models`.
        **options: Everything the model's function takes, above all ``weights``.

    Raises:
        ValueError: There is no such model, or the value of an option does not suit it.
        TypeError: Its function takes no such option.
        FileNotFoundError, ConnectionError, ImportError: The weights cannot be fetched, or cannot be read here.
    """
    found = entry(name)
    return found.build(**{**found.arguments, **options})
