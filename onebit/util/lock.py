"""A lock that ends with its process. A job's folder has a copy of this module, which knows nothing of the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def lock(path: Path, taken: str) -> Iterator[None]:
    """Keep other processes out, where the system has locks that end with the process.

    Args:
        path: A file of its own, which is made.
        taken: What the error says.

    Raises:
        ValueError: Another process is in.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(taken) from error
        yield
