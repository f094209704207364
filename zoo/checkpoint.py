"""Checkpoints of every format behind one interface; the format is recognised by the content of the file."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


class Checkpoint(ABC):
    """A file of weights, opened far enough to know what it holds.

    Attributes:
        source: What to call it in a message.
        arguments: The architecture arguments that it implies.
        num_classes: Its classes, or ``None`` where it does not tell.
        input_shape: The input it was made for, or ``None``.
        has_top: Whether it holds a classifier.
        sizes: How many values each of its variables has, where the arguments are a claim of the file; else ``None``.
        top_options: The pooling and the activation of its network, as far as it tells.
        preprocessing: What its network expects at its input, a name of `zoo.PREPROCESSING`; ``None`` where it does not
            tell.
        class_names: What its classes are called, in their order; ``None`` where it does not tell.
    """

    source: str
    arguments: dict[str, Any]
    num_classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    has_top: bool = True
    sizes: Mapping[str, int] | None = None
    top_options: Mapping[str, str | None] = {}
    preprocessing: str | None = None
    class_names: tuple[str, ...] | None = None

    @abstractmethod
    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """Set the variables of ``model``, all of them, or all but those of the classifier where that is new.

        Raises:
            ValueError: File and model do not fit; the model is left as it was.
        """


def open_checkpoint(path: str | os.PathLike[str], function: str | None = None) -> Checkpoint:
    """Open a checkpoint, for a model that the zoo's ``function`` builds, or for any.

    Formats: packed files, the official PyTorch checkpoints, McDonnell's ``.mat``, Keras' ``.h5``, ``.weights.h5`` and
    ``.keras``.

    Raises:
        ValueError: The content is of no known format, damaged, or for another architecture.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; weights are a file.")
    with path.open("rb") as file:
        head = file.read(32)
    # First, because what precedes the brace is a length, whose bytes may look like anything: a pickle begins with 0x80.
    if head[8:9] == b"{":
        from .packed_file import PackedFile

        return PackedFile(path, function)
    if head.startswith(b"MATLAB 5.0"):
        from .mcdonnell_mat import McDonnellMat

        return McDonnellMat(path, function)
    if head.startswith(b"\x80") or (head.startswith(b"PK\x03\x04") and _is_pytorch(path)):
        from .pytorch import PyTorchCheckpoint

        return PyTorchCheckpoint(path, function)
    if function == "BiRealNet18" and head.startswith(b"\x89HDF") and _is_larq_zoo(path):
        from .larq_zoo import LarqZooFile

        return LarqZooFile(path)
    if head.startswith((b"\x89HDF\r\n\x1a\n", b"PK\x03\x04")):
        from .keras_file import KerasFile

        return KerasFile(path)
    raise ValueError(
        f"{path} is not a checkpoint of a known format (packed, PyTorch, McDonnell's .mat, Keras' .h5 or .keras): it "
        f"starts with {head[:8]!r}."
    )


def _is_pytorch(path: Path) -> bool:
    """Return whether a ZIP file is PyTorch's: it holds a pickle and no Keras configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _is_larq_zoo(path: Path) -> bool:
    """Return whether an HDF5 file is larq-zoo's of Bi-Real Net."""
    from .larq_zoo import LarqZooFile

    try:
        return LarqZooFile.recognises(path)
    except (OSError, RuntimeError, KeyError, ValueError):  # damaged; the reader of Keras files has more to say of it
        return False


def load_weights(model: tf.keras.Model, path: str | os.PathLike[str]) -> None:
    """Set all variables of a model from a checkpoint of any format that the zoo reads.

    Where the file says what its network expects at the input, that and its class names are the model's from now on.

    Args:
        model: Any Keras model of the architecture that the checkpoint was made for.
        path: The file.

    Raises:
        ValueError: The file is damaged or does not fit; the model is left as it was.
        FileNotFoundError: There is no such file.
    """
    from .scaffold import model_info, record_model

    info = model_info(model)
    checkpoint = open_checkpoint(path, info.function if info else None)
    if info:
        check_arguments(info.function, info.arguments, checkpoint.arguments)
    checkpoint.load_into(model)
    if info and checkpoint.preprocessing is not None:
        record_model(model, info.function, info.arguments, checkpoint.preprocessing, checkpoint.class_names)


def check_arguments(function: str, given: Mapping[str, Any], implied: Mapping[str, Any]) -> None:
    """Raise `ValueError` where an architecture's argument is given (not ``None``) and not as the weights have it."""
    for name, value in implied.items():
        if given.get(name) is not None and given[name] != value:
            raise ValueError(f"{name}={given[name]!r} of {function} does not suit the weights, which have {value!r}.")
