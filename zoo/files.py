"""Writing files so that nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, of the same ending, that takes its place when the block ends without
    error.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    path = Path(path)
    check_folder(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def umask() -> int:
    """Return the permissions that this process' new files are not to have."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise `FileNotFoundError` where the folder of a file to be written does not exist."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
