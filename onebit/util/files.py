"""The package's own files; reading what comes from outside; writing so that nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .formatting import first_line, printable


def check_source(path: str | os.PathLike[str], largest: int | None = None) -> Path:
    """Return ``path``, having checked that there is a file to read.

    Args:
        path: Where it is to be; links are followed.
        largest: How many bytes it may have.

    Raises:
        FileNotFoundError: There is nothing.
        IsADirectoryError: It is a folder.
        OSError: It is a FIFO, a socket or a device, which may never answer or never end.
        ValueError: It is too large, or nothing can have such a path.
    """
    path = Path(path)
    if "\0" in str(path):
        raise ValueError(f"{printable(path)} is no path of a file: it has a null byte.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {printable(path)}.")
    if path.is_dir():
        raise IsADirectoryError(f"{printable(path)} is a folder, not a file to read.")
    if not path.is_file():
        raise OSError(f"{printable(path)} is a device, a socket or a pipe; only files can be read.")
    if largest is not None and (size := path.stat().st_size) > largest:
        raise ValueError(f"{printable(path)} has {size:,} bytes; {largest:,} are the most that is read of its kind.")
    return path


def open_source(path: str | os.PathLike[str], largest: int | None = None) -> BinaryIO:
    """Open a file for reading its bytes; see `check_source` for arguments and errors."""
    return check_source(path, largest).open("rb")


@contextlib.contextmanager
def reading(path: object, kind: str = "") -> Iterator[None]:
    """Let whatever goes wrong with a file from outside be a `ValueError` or an `OSError` of one printable line.

    What the file says may be in the message, where control characters could write to the reader's terminal.

    Args:
        path: The file, which the message names.
        kind: What it should be, such as ``"a PyTorch checkpoint"``. An error that does not name the file then says
            that it is none or damaged, else that it is damaged.

    Raises:
        ValueError: In place of any exception but `OSError` and `ImportError`.
    """
    name = printable(path)
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        is_ours = isinstance(error, ValueError | OSError)
        text = printable(error if is_ours else first_line(error))
        if not is_ours or not (name in text or getattr(error, "errno", None)):
            verdict = f"is not {kind}, or is damaged" if kind else "is damaged"
            raise ValueError(f"{name} {verdict}: {text}") from _clean(error)
        if text == str(error):
            raise
        raise (OSError if isinstance(error, OSError) else ValueError)(text) from None


def _clean(error: Exception) -> Exception | None:
    """Return an error to be shown as a cause; ``None`` where its text is not fit for a terminal."""
    return error if all(c.isprintable() or c == "\n" for c in str(error)) else None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, of the same ending, that takes its place when the block ends without
    error. Where ``path`` is a link, the file that it leads to is replaced.

    Raises:
        OSError: See `check_target`.
    """
    path = check_target(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onebit-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the file that writing to ``path`` writes, links followed.

    Raises:
        FileNotFoundError: Its folder does not exist.
        IsADirectoryError: It is a folder.
        PermissionError: It is a file that may not be written, although a new one could take its place.
        OSError: It is neither a file nor new, but a device or a pipe, whose place a file would take.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {Path(path).parent} does not exist.")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write.")
    if target.exists():
        if not target.is_file():
            raise OSError(f"{path} is a device or a pipe; only files can be written.")
        if not target.stat().st_mode & 0o222:
            raise PermissionError(f"{path} is read-only.")
    return target
