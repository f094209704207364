"""Files from the internet: fetched once, checked, kept."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .files import open_source
from .formatting import printable

_CHUNK = 2**16
_LARGEST = 2**32  # of a file whose size is not known
_PATIENCE, _SLOWEST = 60.0, 1000  # seconds after which a server must have sent so many bytes for each of them
_PART = ".part"  # a hidden file of this ending is one that is still being fetched, or was never fetched whole


def cache_dir() -> Path:
    """Return the folder for downloads: ``$ONEBIT_CACHE_DIR``, else ``onebit`` in the user's cache folder.

    Raises:
        ValueError: No folder can have that path.
    """
    chosen = os.environ.get("ONEBIT_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "onebit"
    if "\0" in str(folder):
        raise ValueError(f"The folder for downloads, {printable(folder)}, has a null byte: set ONEBIT_CACHE_DIR.")
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
        size: Its length in bytes, if it is known: no more is fetched.

    Raises:
        ConnectionError: It could not be fetched; the message says where to put it by hand.
        OSError: It cannot be written there, as on a full disk.
        ValueError: What came has another content.
    """
    path = cache_dir() / filename
    if path.exists():
        verify(path, sha256, size, remedy="delete it, and it will be fetched again")
        return path
    with _new_part(path) as part:
        _download(url, part, size, path)
        part.flush()
        verify(Path(part.name), sha256, size, remedy="it was not fetched whole, or has changed", of=url)
        if os.name == "nt":
            part.close()  # Windows renames no open file
        os.replace(part.name, path)
    return path


@contextlib.contextmanager
def _new_part(path: Path) -> Iterator[IO[bytes]]:
    """Yield a hidden file beside ``path``, locked, which is gone afterwards; so are those of killed processes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f".{path.name}.*{_PART}"):
            with contextlib.suppress(OSError), old.open("rb") as file:
                if _lock(file):  # no process is fetching it
                    old.unlink()
        for _ in range(10):
            # Not by tempfile, which lets nobody else read what it makes.
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}").open("xb")
            if _lock(part) and os.path.exists(part.name):
                break
            part.close()  # another process took it, not locked yet, for a killed one's
            Path(part.name).unlink(missing_ok=True)
        else:  # no locks on this file system, so that nobody deletes it either
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}").open("xb")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with part:
            yield part
    finally:
        Path(part.name).unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed, and return whether no other process has; where there are no locks, none has."""
    try:
        import fcntl
    except ImportError:  # Windows, where what is open cannot be deleted
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _download(url: str, part: IO[bytes], size: int | None, path: Path) -> None:
    import requests
    import urllib3

    most = _LARGEST if size is None else size

    def receive() -> None:
        # As it is: what a server compresses unasked could unfold to anything.
        with requests.get(url, stream=True, timeout=_PATIENCE, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            with _progress(path.name, most if size else None) as advance:
                while chunk := response.raw.read(_CHUNK, decode_content=False):
                    if part.tell() + len(chunk) > most:
                        raise ValueError(f"{url} sends more than the {most:,} bytes that {path.name} has.")
                    try:
                        part.write(chunk)
                    except OSError as error:
                        raise _Unwritable(error) from error
                    advance(len(chunk))

    try:
        _while_it_grows(receive, part)
    except _Unwritable as failure:
        raise _unwritable(path, failure.error) from failure.error
    # requests has names for what goes wrong only where it reads itself.
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise ConnectionError(
            f"{url} could not be fetched ({printable(error, 300)}). Without an internet connection, put the file at "
            f"{path}, or give its path as weights."
        ) from error


def _while_it_grows(receive: Callable[[], None], part: IO[bytes]) -> None:
    """Call a function that writes to a file, in a thread that is left to itself when too little comes.

    A timeout of a connection is for each of its bytes, of the headers, too: a server that drips never exceeds it.

    Raises:
        TimeoutError: It has been too slow; the thread ends when its server or the process does.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            receive()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    before = 0
    thread.join(_PATIENCE)
    while thread.is_alive():
        now = part.tell()
        if now - before < _SLOWEST * _PATIENCE:
            raise TimeoutError(f"it has sent {now - before:,} bytes in the last {_PATIENCE:g} seconds")
        before = now
        thread.join(_PATIENCE)
    if failure:
        raise failure[0]


class _Unwritable(Exception):  # noqa: N818  (never leaves this module)
    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _unwritable(path: Path, error: OSError) -> OSError:
    return type(error)(
        error.errno,
        f"{error.strerror}: {path} cannot be written. Make room for it, or set ONEBIT_CACHE_DIR to another folder",
    )


@contextlib.contextmanager
def _progress(name: str, total: int | None) -> Iterator[Any]:
    """Show a bar on standard error, if that is a terminal; yields a function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)


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


def verify(path: Path, sha256: str, size: int | None, remedy: str, of: object = None) -> None:
    """Check a file's length and digest.

    Args:
        path: The file.
        sha256, size: What they should be; ``None`` for a size that is not known.
        remedy: What the message says to do.
        of: What the message calls it; its path by default.

    Raises:
        ValueError: They differ from what they should be; the message gives both, and the remedy.
        OSError: It is no file that can be read.
    """
    name = of or path
    with open_source(path) as file:
        actual = os.fstat(file.fileno()).st_size
        if size is not None and actual != size:
            raise ValueError(f"{name} has {actual} bytes instead of {size}: {remedy}.")
    if (digest := sha256_of(path)) != sha256:
        raise ValueError(f"{name} has the SHA-256 {digest} instead of {sha256}: {remedy}.")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open_source(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
