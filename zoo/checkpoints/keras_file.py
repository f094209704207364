"""Keras' own files of weights: ``.weights.h5``, ``.h5`` and ``.keras``."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from ...util.archive import check_archive
from ...util.files import reading
from .base import Checkpoint
from .hdf5 import Stored, check_hdf5
from .variables import latent_scope

_ADVICE = (
    "A Keras file is loaded whole or not at all, with the num_classes and the include_top that it was saved with. "
    "zoo.convert makes a packed file of it, whose body can be loaded alone."
)


class KerasFile(Checkpoint):
    """A file that Keras wrote for the same architecture; only its weights are read, never its configuration.

    Args:
        path: The file.

    Attributes:
        stored: The arrays that it holds for a model's variables.

    Raises:
        ValueError: The file is damaged, or holds no weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = str(path)
        self.arguments: dict[str, Any] = {}
        with reading(path, "a file of Keras weights"):
            self._ending, self.stored = _read_stored(path)

    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        # Keras reads each array whole before it compares shapes, and converts whatever kind of number it is.
        if problem := _difference(self.stored, model):
            raise ValueError(f"{self.path} does not fit the model {model.name!r}: {problem}. {_ADVICE}")
        with latent_scope():
            before = model.get_weights()
        try:
            with self._renamed() as path:
                model.load_weights(str(path))
        except Exception as error:
            model.set_weights(before)
            raise ValueError(f"{self.path} does not fit the model {model.name!r}: {error} {_ADVICE}") from error

    @contextlib.contextmanager
    def _renamed(self) -> Iterator[Path]:
        """Give the file, for a while, the ending by which Keras tells its formats apart."""
        is_weights = self.path.name.endswith(".weights.h5")
        if (self.path.suffix == self._ending and not is_weights) or (is_weights and self._ending == ".weights.h5"):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(shutil.copyfile(self.path, Path(folder, f"model{self._ending}")))


def _read_stored(path: Path) -> tuple[str, list[Stored]]:
    """Return the ending that Keras gives to files of this content, and what arrays it holds for a model's variables.

    Raises:
        ValueError: The file claims more than it holds, or holds no weights. Whatever a damaged file leads h5py to is
            raised as it is.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as inner, h5py.File(inner, "r") as file:
            return ".keras", _weights(check_hdf5(file, archive.getinfo("model.weights.h5").file_size))
    with h5py.File(path, "r") as file:
        found = check_hdf5(file, path.stat().st_size)
        if "layer_names" in file.attrs or "model_weights" in file:
            return ".h5", _weights(found)
        if not len(file):
            raise ValueError("it is empty")
        return ".weights.h5", _weights(found)


def _weights(found: dict[str, Stored]) -> list[Stored]:
    """Return the arrays of a model's own variables, leaving out an optimizer's and the metrics'."""
    others = ("optimizer/", "optimizer_weights/", "metrics/")
    return [stored for name, stored in found.items() if not name.startswith(others)]


def _difference(stored: list[Stored], model: tf.keras.Model) -> str:
    """Return in what a file's arrays, in whatever order, are not those of a model's variables; or nothing."""
    has = Counter((each.shape, _kind(each.dtype)) for each in stored)
    wanted = Counter((tuple(v.shape), _kind(v.dtype.as_numpy_dtype)) for v in model.weights)
    if has == wanted:
        return ""
    if has.total() != wanted.total():
        return f"it has {has.total()} variables, and the model {wanted.total()}"
    theirs, ours = (
        "; ".join(f"{kind} of shape {shape}" for shape, kind in list(part)[:6]) for part in (has - wanted, wanted - has)
    )
    return f"it has {theirs} in the place of {ours}"


def _kind(dtype: Any) -> str:
    return {"i": "integers", "u": "integers", "b": "integers"}.get(np.dtype(dtype).kind, "real numbers")
