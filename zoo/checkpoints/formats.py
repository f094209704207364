"""The formats of checkpoints, recognised by the content of the file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ...util.files import check_source, reading
from .base import Checkpoint
from .keras_file import KerasFile
from .larq_zoo_file import LarqZooFile
from .mcdonnell_mat import McDonnellMat
from .packed_file import PackedFile
from .packed_header import is_packed
from .pytorch import StateDictFile
from .state_dicts import StateDictLayout


def open_checkpoint(
    path: str | os.PathLike[str], function: str | None = None, state_dicts: Iterable[StateDictLayout] = ()
) -> Checkpoint:
    """Open a checkpoint, for a model that the zoo's ``function`` builds, or for any.

    Formats: packed files, the official PyTorch checkpoints, McDonnell's ``.mat``, Keras' ``.h5``, ``.weights.h5`` and
    ``.keras``.

    Args:
        path: The file.
        function: Name of the function, or ``None``.
        state_dicts: The layouts of its official code's state dicts.

    Raises:
        ValueError: The content is of no known format, damaged, or for another architecture.
        FileNotFoundError: There is no such file.
        OSError: It is a folder, a device or a pipe.
    """
    if kind := is_of_tensorflow(path):
        raise ValueError(
            f"{path} is {kind}, which the zoo does not read: load it with TensorFlow and save the model's weights as "
            'a file, model.save_weights("name.weights.h5").'
        )
    path = check_source(path)
    with reading(path):
        return _open(path, function, tuple(state_dicts))


def is_of_tensorflow(path: str | os.PathLike[str]) -> str | None:
    """Return what a path is if it is a checkpoint of TensorFlow's or a SavedModel, neither of which is one file."""
    name = os.fspath(path)
    if os.path.isfile(os.path.join(name, "saved_model.pb")):
        return "a SavedModel"
    if os.path.isfile(f"{name}.index") or (name.endswith(".index") and os.path.isfile(name)):
        return "a checkpoint of TensorFlow's"
    return None


def _open(path: Path, function: str | None, state_dicts: tuple[StateDictLayout, ...]) -> Checkpoint:
    with path.open("rb") as file:
        head = file.read(32)
    # First, because what precedes the brace is a length, whose bytes may look like anything: a pickle begins with 0x80.
    if head[8:9] == b"{":
        return (
            StateDictFile(path, function, state_dicts)
            if state_dicts and not is_packed(path)
            else PackedFile(path, function)
        )
    if head.startswith(b"MATLAB 5.0"):
        return McDonnellMat(path, function)
    if head.startswith(b"\x80") or (head.startswith(b"PK\x03\x04") and _is_pytorch(path)):
        return StateDictFile(path, function, state_dicts)
    if function == LarqZooFile.function and head.startswith(b"\x89HDF") and _is_larq_zoo(path):
        return LarqZooFile(path)
    if head.startswith((b"\x89HDF\r\n\x1a\n", b"PK\x03\x04")):
        return KerasFile(path)
    raise ValueError(
        f"{path} is not a checkpoint of a known format (packed, PyTorch, McDonnell's .mat, Keras' .h5 or .keras): it "
        f"starts with {head[:8]!r}."
    )


def _is_pytorch(path: Path) -> bool:
    """Return whether a ZIP file is PyTorch's, which holds a pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except Exception:  # damaged, or of a kind that Python cannot read: the reader of Keras files has more to say of it
        return False


def _is_larq_zoo(path: Path) -> bool:
    """Return whether an HDF5 file is larq-zoo's of Bi-Real Net."""
    try:
        return LarqZooFile.recognises(path)
    except Exception:  # whatever a damaged file leads h5py to; the reader of Keras files has more to say of it
        return False
