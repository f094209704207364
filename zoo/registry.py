"""Which models the zoo has, by name, and the weights that are registered for them."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

import tensorflow as tf

from ..util import hub
from ..util.formatting import did_you_mean
from .checkpoints.base import Checkpoint
from .checkpoints.formats import open_checkpoint
from .checkpoints.state_dicts import StateDictLayout
from .checkpoints.weights import Weights, is_tag, registered_weights, weights_of_file
from .images.images import PREPROCESSING, Preprocessing, for_dataset

_P = ParamSpec("_P")


class InputSpec(NamedTuple):
    """What an architecture was made for, where nothing else is asked of it.

    Attributes:
        input_shape: (height, width, channels).
        num_classes: How many it tells apart.
        min_size: Smallest height and width of an input.
        preprocessing: What its paper's code hands to it.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    min_size: int = 1
    preprocessing: Preprocessing = PREPROCESSING["imagenet"]


IMAGENET = InputSpec((224, 224, 3), 1000, min_size=32, preprocessing=for_dataset("imagenet", "imagenet2012"))
CIFAR = InputSpec((32, 32, 3), 10, min_size=8)


class PaperCounts(NamedTuple):
    """What a network counts by its paper: published figures, or what follows from the layout, to as many digits.

    As `larq.models.summary` counts: thresholds and other state of a quantizer are 32-bit parameters, a batch
    normalisation has two for each channel, and multiplications of which only one factor is binary are 32-bit ones. What
    has no kernel multiplies nothing.

    Attributes:
        trainable, binary: Parameters that are trained, and those among them of 1 bit.
        memory: In Mbit (10^6), at 1 bit or 32 for each parameter.
        binary_macs, other_macs: Millions of multiply-accumulates for one image of the paper's size.
    """

    trainable: int
    binary: int
    memory: float
    binary_macs: float
    other_macs: float


@dataclass(frozen=True)
class Paper:
    """Where a family of models comes from.

    Attributes:
        title, authors, venue, arxiv: The publication.
        top1: Accuracy in percent that the paper or its official repository reports for registered models, on ImageNet
            for those of its size and on CIFAR-10 for the others. Only figures whose source was read.
        counts: What registered models have to count.
    """

    title: str
    authors: str
    venue: str
    arxiv: str
    top1: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, PaperCounts] = field(default_factory=dict)


class Architecture(Protocol[_P]):
    """A public function of the zoo, as the decorator `zoo.building.architecture` makes one.

    Attributes:
        spec: What it was made for.
        state_dicts: The layouts of its official code's state dicts, if it has any.
        complete: Returns arguments of the function (without `ModelOptions`) with the defaults of those left out.
    """

    __name__: str
    __module__: str
    spec: InputSpec
    state_dicts: tuple[StateDictLayout, ...]
    complete: Callable[[Mapping[str, Any]], dict[str, Any]]

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> tf.keras.Model: ...


_A = TypeVar("_A", bound=Architecture[...])


@dataclass(frozen=True)
class Entry:
    """A registered model: a function of the zoo with the arguments that make it this model.

    Attributes:
        name: Such as ``"wide_resnet_20_10"``.
        build: The public function, called with ``arguments`` and any `ModelOptions`.
        arguments: What tells this model from the others that the function can build.
        paper: Its source.
        note: How far it is from the paper's network, where it is not the computation of the authors' code.
    """

    name: str
    build: Architecture[...]
    paper: Paper
    arguments: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """The input shape that the paper uses, (height, width, channels)."""
        return self.build.spec.input_shape

    @property
    def is_delegated(self) -> bool:
        """Whether another zoo builds it: its name has a slash, and this zoo has neither function nor weights of it."""
        return "/" in self.name

    @property
    def call(self) -> str:
        """The call that builds it, such as ``"zoo.WideResNet(depth=20, width=10)"``."""
        if self.is_delegated:
            return f"zoo.load({self.name!r})"
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"zoo.{self.build.__name__}({arguments})"

    def paper_top1(self, num_classes: int) -> float | None:
        """Return the accuracy in percent that its paper reports, if that is for as many classes."""
        return self.paper.top1.get(self.name) if num_classes == self.build.spec.num_classes else None

    def load(self, **options: Any) -> tf.keras.Model:
        """Build the model; see `load`."""
        weights: Any = options.get("weights")
        if is_tag(weights) and not self.is_delegated:
            options["weights"] = get_weights(self.name, weights)
        return self.build(**{**self.arguments, **options})

    def _key(self, names: Iterable[str]) -> list[Any]:
        return _key(self.build, self.arguments, names)


_ENTRIES: dict[str, Entry] = {}


def register(name: str, paper: Paper, *, note: str = "", **arguments: Any) -> Callable[[_A], _A]:
    """Return a decorator that registers a function of the zoo, called with ``arguments``, as the model ``name``.

    See `Entry` for the arguments.

    Raises:
        ValueError: When it decorates: the name is taken, or the function has a model of the same arguments.
    """

    def decorate(build: _A) -> _A:
        if name in _ENTRIES:
            raise ValueError(f"The model {name!r} is registered twice.")
        build.complete(arguments)  # an error of its own where the function has no such argument
        new = Entry(name, build, paper, arguments, note)
        rows = [*_entries_of(build), new]
        names = _distinguishing(rows)
        if same := [row.name for row in rows[:-1] if row._key(names) == new._key(names)]:
            raise ValueError(f"The models {same[0]!r} and {name!r} are the same: {build.__name__} with {arguments}.")
        _ENTRIES[name] = new
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


def entry_of(build: Architecture[...], arguments: Mapping[str, Any]) -> Entry | None:
    """Return the entry of the model that ``build`` makes with ``arguments``, or ``None`` if none is registered.

    It is the one with the same values of all arguments by which any two models of the function differ, where what is
    left out has its default. There is at most one, whatever the order of registration.
    """
    rows = _entries_of(build)
    names = _distinguishing(rows)
    return next((row for row in rows if row._key(names) == _key(build, arguments, names)), None)


def _entries_of(build: Architecture[...]) -> list[Entry]:
    return [row for row in _ENTRIES.values() if row.build is build]


def _distinguishing(rows: Iterable[Entry]) -> list[str]:
    return sorted({name for row in rows for name in row.arguments})


def _key(build: Architecture[...], arguments: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    complete = build.complete(arguments)
    return [complete[name] for name in names]


def function(name: str) -> Architecture[...]:
    """Return the public function of the zoo that is called ``name``, such as ``"WideResNet"``.

    Raises:
        ValueError: No registered model is built by such a function.
    """
    functions = {row.build.__name__: row.build for row in _ENTRIES.values()}
    if name not in functions:
        raise ValueError(f"The zoo has no function {name!r}.{did_you_mean(name, functions)}")
    return functions[name]


def list_weights(model: str | None = None) -> list[Weights]:
    """Return the registered weights of a model, or all.

    Raises:
        ValueError: There is no such model.
    """
    if model is not None:
        entry(model)
    return [row for row in registered_weights() if model in (None, row.model)]


def get_weights(model: str, tag: str) -> Weights:
    """Return a model's registered weights of a tag.

    Raises:
        ValueError: There is no such model, or it has no such weights; the message says which there are.
    """
    tags = {row.tag: row for row in list_weights(model)}
    if tag not in tags:
        raise ValueError(
            f"The model {model!r} has no weights {tag!r}, and there is no file of that name.{did_you_mean(tag, tags)}"
        )
    return tags[tag]


def weights_of(build: Architecture[...], arguments: Mapping[str, Any], tag: str) -> Weights:
    """Return the weights of a tag for what ``build`` makes with ``arguments``.

    Raises:
        ValueError: There are none; the message says for which models there are.
    """
    if found := entry_of(build, arguments):
        return get_weights(found.name, tag)
    having = sorted({row.model for row in registered_weights() if entry(row.model).build is build})
    described = ", ".join(f"{name}={value!r}" for name, value in build.complete(arguments).items())
    raise ValueError(
        f"There are no weights {tag!r} for {build.__name__}({described}), and no file of that name. "
        f"Registered weights of {build.__name__} are for: {', '.join(having) or 'none'}."
    )


def open_for(build: Architecture[...], path: str | os.PathLike[str]) -> Checkpoint:
    """Open a file, here or on the Hub, as a checkpoint of a model that ``build`` makes; see `open_checkpoint`.

    Where the file cannot tell its network, but is one of the registered weights, these tell.
    """
    path = hub.local(path)
    checkpoint = open_checkpoint(path, build.__name__, build.state_dicts)
    row = weights_of_file(Path(path)) if checkpoint.untold else None
    if row and (found := entry(row.model)).build is build:
        checkpoint.arguments, checkpoint.untold = {**found.arguments, **checkpoint.arguments}, ()
    return checkpoint
