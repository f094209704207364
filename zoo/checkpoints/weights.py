"""The registered weights: rows of data, one for each file that the zoo knows, in a JSON file for each paper."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...util import hub
from ...util.download import fetch, sha256_of, verify
from ..data import DATA
from ..images.images import for_dataset
from ..images.samples import class_names
from .base import Checkpoint
from .formats import is_of_tensorflow, open_checkpoint
from .state_dicts import StateDictLayout

FOLDER = DATA / "weights"
"""One file for each module of architectures, ``birealnet.json`` and so on."""


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

    @property
    def notice(self) -> str | None:
        """The attribution and the licence that go with weights of others, in Markdown, where the package has it."""
        path = (DATA / self.file).with_suffix(".md")
        return path.read_text(encoding="utf-8") if path.exists() else None

    def path(self) -> Path:
        """Return the file, fetched and checked.

        Raises:
            ConnectionError: It is not here and cannot be fetched.
            FileNotFoundError: Only a person can download it; the message says from where, and what to call then.
            ValueError: Its content is not what was registered.
        """
        if self.page is not None:
            raise FileNotFoundError(
                f"{self.file} of {self.source} cannot be fetched by a program: download it from {self.page}\n"
                f'and call zoo.load("{self.model}", weights="path/to/{self.file}"). PyTorch is needed to read it.'
            )
        if self.sha256 is None:
            raise ValueError(f"The weights {self.tag!r} of {self.model} are registered without a digest.")
        if self.url is not None:
            return fetch(self.url, self.file, self.sha256, self.size)
        path = DATA / self.file
        verify(path, self.sha256, self.size, remedy="install onebit-zoo again")
        return path

    def open(self, function: str | None = None, state_dicts: Iterable[StateDictLayout] = ()) -> Checkpoint:
        """Return the file as a checkpoint; see `path` for the errors, and `open_checkpoint` for the arguments."""
        checkpoint = open_checkpoint(self.path(), function, state_dicts)
        checkpoint.preprocessing = for_dataset(self.preprocessing, self.dataset)
        checkpoint.class_names = class_names(self.dataset)
        checkpoint.row = self
        checkpoint.sizes = None  # whoever registered the digest answers for what the file claims
        return checkpoint


def is_tag(weights: object) -> bool:
    """Return whether an argument ``weights`` is the tag of registered weights, and not where something is.

    A folder of a tag's name, such as a dataset's, does not hide the weights. What is no file, as a pipe, is a path that
    reading refuses.
    """
    if not isinstance(weights, str) or hub.is_address(weights) or is_of_tensorflow(weights):
        return False
    return os.path.isdir(weights) or not os.path.exists(weights)


@functools.cache
def registered_weights() -> tuple[Weights, ...]:
    """Return all rows, paper by paper."""
    files = sorted(FOLDER.glob("*.json"))
    return tuple(Weights(**row) for file in files for row in json.loads(file.read_text(encoding="utf-8")))


def weights_of_file(path: Path) -> Weights | None:
    """Return the row whose digest a file has, or ``None``."""
    size = path.stat().st_size
    rows = {row.sha256: row for row in registered_weights() if row.size in (None, size)}
    return rows.get(sha256_of(path)) if rows else None
