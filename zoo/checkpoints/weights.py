"""The registered weights: rows of data in ``weights.json``, one for each file that the zoo knows."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...util.download import fetch, verify
from ...util.formatting import did_you_mean
from .. import registry
from ..data import DATA
from ..images.images import for_dataset
from ..images.samples import class_names
from .base import Checkpoint
from .formats import open_checkpoint


@dataclass(frozen=True)
class Weights:
    """One file of trained weights.

    Attributes:
        model: Name of the registered model it belongs to.
        tag: Its name among that model's weights, such as ``"cifar10"``.
        file: Its name, in the package's ``zoo/data`` or in the download cache.
        url: Where a program can fetch it; ``None`` for a file of the package, or one that only a person can download.
        page: Where a person downloads it, where there is no URL.
        sha256: Digest of the file, hexadecimal; ``None`` where there is only a page.
        size: Length of the file in bytes; ``None`` where its source does not tell.
        dataset: The TensorFlow dataset it was trained on.
        num_classes: Its classes.
        preprocessing: What the network expects at its input, a name of `zoo.PREPROCESSING`; the dataset says the rest.
        metrics: What was measured with this library: figures in percent under names such as ``"top1"``, ``"split"``
            and ``"command"``, how they were measured. Empty where nothing was.
        published: The same figures as their source states them, with ``"where"``.
        licence: An SPDX identifier, or ``"none stated"``.
        source: Whose weights these are, and where they come from.
        recipe: The command that trained them, where it was ours.
        note: What else a user should know.
    """

    model: str
    tag: str
    file: str
    url: str | None
    sha256: str | None
    size: int | None
    dataset: str
    num_classes: int
    preprocessing: str
    metrics: Mapping[str, Any]
    published: Mapping[str, Any]
    licence: str
    source: str
    recipe: str | None = None
    note: str | None = None
    page: str | None = None

    @property
    def shipped(self) -> bool:
        """Whether the file is in the package."""
        return self.url is None and self.page is None

    def path(self) -> Path:
        """Return the file, fetched and checked.

        Raises:
            ConnectionError: It is not here and cannot be fetched.
            FileNotFoundError: Only a person can download it; the message says from where, and what to call then.
            ValueError: Its content is not what was registered.
        """
        if self.page is not None:
            call = registry.entry(self.model).build.__name__
            raise FileNotFoundError(
                f"{self.file} of {self.source} cannot be fetched by a program: download it from {self.page}\n"
                f'and call zoo.{call}(weights="path/to/{self.file}"). PyTorch is needed to read it.'
            )
        if self.sha256 is None:
            raise ValueError(f"The weights {self.tag!r} of {self.model} are registered without a digest.")
        if self.url is not None:
            return fetch(self.url, self.file, self.sha256, self.size)
        path = DATA / self.file
        verify(path, self.sha256, self.size, remedy="install onebit-zoo again")
        return path

    def open(self) -> Checkpoint:
        """Return the file as a checkpoint; see `path` for the errors."""
        checkpoint = open_checkpoint(self.path(), registry.entry(self.model).build.__name__)
        checkpoint.preprocessing = for_dataset(self.preprocessing, self.dataset)
        checkpoint.class_names = class_names(self.dataset)
        return checkpoint


@functools.cache
def _rows() -> tuple[Weights, ...]:
    rows = json.loads((DATA / "weights.json").read_text(encoding="utf-8"))
    return tuple(Weights(**row) for row in rows)


def list_weights(model: str | None = None) -> list[Weights]:
    """Return the registered weights of a model, or all.

    Raises:
        ValueError: There is no such model.
    """
    if model is not None:
        registry.entry(model)
    return [row for row in _rows() if model in (None, row.model)]


def get_weights(model: str, tag: str) -> Weights:
    """Return a model's registered weights of a tag.

    Raises:
        ValueError: There is no such model, or it has no such weights; the message says which there are.
    """
    tags = {row.tag: row for row in list_weights(model)}
    if tag not in tags:
        raise ValueError(
            f"The model {model!r} has no weights {tag!r}, and there is no file of that name." + did_you_mean(tag, tags)
        )
    return tags[tag]


def find_weights(function: str, arguments: Mapping[str, Any], tag: str) -> Weights:
    """Return the weights of a tag for what ``function`` builds with ``arguments``.

    Raises:
        ValueError: There are none; the message says for which models there are.
    """
    entry = registry.entry_of(function, arguments)
    if entry is None:
        having = sorted({row.model for row in _rows() if registry.entry(row.model).build.__name__ == function})
        described = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise ValueError(
            f"There are no weights {tag!r} for {function}({described}), and no file of that name. "
            f"Registered weights of {function} are for: {', '.join(having) or 'none'}."
        )
    return get_weights(entry.name, tag)
