"""Keras' own files of weights: ``.weights.h5``, ``.h5`` and ``.keras``."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf

from .base import Checkpoint


class KerasFile(Checkpoint):
    """A file that Keras wrote for the same architecture; only its weights are read, never its configuration.

    Args:
        path: The file.

    Raises:
        ValueError: The file is damaged, or holds no weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = str(path)
        self.arguments: dict[str, Any] = {}
        try:
            self._ending = _ending(path)
        except Exception as error:  # whatever a damaged file leads the libraries to
            raise ValueError(f"{path} is not a file of Keras weights, or is damaged: {error}") from error

    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """See `Checkpoint`."""
        before = model.get_weights()
        try:
            # Of a ".h5" Keras itself takes care; in the others it looks only for what the model has.
            if self._ending != ".h5" and (count := self._count()) != len(model.weights):
                raise ValueError(f"it has {count} variables, and the model {len(model.weights)}.")
            with self._renamed() as path:
                model.load_weights(str(path))
        except Exception as error:
            model.set_weights(before)
            raise ValueError(
                f"{self.path} does not fit the model {model.name!r}: {error} (A Keras file is loaded whole or not at "
                "all, with the num_classes and the include_top that it was saved with. zoo.convert makes a packed "
                "file of it, whose body can be loaded alone.)"
            ) from error

    def _count(self) -> int:
        """Return how many variables of a model the file holds, leaving out an optimizer's and the metrics'."""
        names: list[str] = []
        with contextlib.ExitStack() as stack:
            source: Any = self.path
            if self._ending == ".keras":
                source = stack.enter_context(zipfile.ZipFile(self.path)).open("model.weights.h5")
            file = stack.enter_context(h5py.File(source, "r"))
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return sum(not name.startswith(("optimizer/", "metrics/")) for name in names)

    @contextlib.contextmanager
    def _renamed(self) -> Iterator[Path]:
        """Give the file, for a while, the ending by which Keras tells its formats apart."""
        is_weights = self.path.name.endswith(".weights.h5")
        if (self.path.suffix == self._ending and not is_weights) or (is_weights and self._ending == ".weights.h5"):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(shutil.copyfile(self.path, Path(folder, f"model{self._ending}")))


def _ending(path: Path) -> str:
    """Return the ending that Keras gives to files of this content."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.getinfo("model.weights.h5")
        return ".keras"
    with h5py.File(path, "r") as file:
        if "layer_names" in file.attrs or "model_weights" in file:
            return ".h5"
        if not len(file):
            raise ValueError("it is empty")
        return ".weights.h5"
