"""The package's own files, and writing files so that nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, of the same ending, that takes its place when the block ends without
    error. Where ``path`` is a link, the file that it leads to is replaced.

    Raises:
        OSError: See `check_target`.
    """
    path = check_target(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the file that writing to ``path`` writes, links followed.

    Raises:
        FileNotFoundError: Its folder does not exist.
        IsADirectoryError: It is a folder.
        OSError: It is neither a file nor new, but a device or a pipe, whose place a file would take.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {Path(path).parent} does not exist.")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write.")
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is a device or a pipe; only files can be written.")
    return target
