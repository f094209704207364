"""Files from the internet: fetched once, checked, kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .files import replacing


def cache_dir() -> Path:
    """Return the folder for downloads: ``$ONEBIT_CACHE_DIR``, else ``onebit`` in the user's cache folder."""
    chosen = os.environ.get("ONEBIT_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "onebit"
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise ValueError(f"The folder for downloads, {folder}, is in nobody's home: set ONEBIT_CACHE_DIR.") from error


def fetch(url: str, filename: str, sha256: str, size: int | None) -> Path:
    """Return the path of a file, downloading it into `cache_dir` unless it is there already.

    Args:
        url: Where it is to be had.
        filename: Its name in the cache.
        sha256: Its digest, hexadecimal. A file of another content is never used.
        size: Its length in bytes, if it is known.

    Raises:
        ConnectionError: It could not be fetched; the message says where to put it by hand.
        ValueError: What came has another content.
    """
    import pooch
    import requests

    path = cache_dir() / filename
    if path.exists():
        verify(path, sha256, size, remedy="delete it, and it will be fetched again")
        return path
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=filename, path=path.parent, progressbar=True)
    except (requests.RequestException, OSError) as error:
        raise ConnectionError(
            f"{url} could not be fetched ({error}). Without an internet connection, put the file at {path}, or give "
            "its path as weights."
        ) from error
    verify(path, sha256, size, remedy="it was not fetched whole, or has changed")
    with replacing(path) as temporary:  # pooch lets nobody else read the file
        shutil.copyfile(path, temporary)
    return path


@contextlib.contextmanager
def keras_fetching(what: str) -> Iterator[None]:
    """Let Keras fetch what it keeps in a cache of its own, and say so on stderr: stdout is for results.

    Raises:
        ConnectionError: It cannot be fetched.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        if str(error).startswith("URL fetch failure"):  # Keras has no class for it
            raise ConnectionError(f"{what} cannot be fetched: {error}") from error
        raise


def verify(path: Path, sha256: str, size: int | None, remedy: str) -> None:
    """Check a file's length and digest.

    Raises:
        ValueError: They differ from what they should be; the message gives both, and the remedy.
    """
    actual = path.stat().st_size
    if size is not None and actual != size:
        raise ValueError(f"{path} has {actual} bytes instead of {size}: {remedy}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    if digest.hexdigest() != sha256:
        raise ValueError(f"{path} has the SHA-256 {digest.hexdigest()} instead of {sha256}: {remedy}.")
