"""Zip archives from outside: what they claim, checked before anything of them is unfolded."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from .files import open_source

_FREE, _RATIO = 2**26, 50  # of what members unfold to: so many bytes, and so many times the archive's
_LARGEST_DIRECTORY = 2**22


def check_archive(path: Path) -> None:
    """Check that an archive is whole, and that what it unfolds to is no more than it can honestly hold.

    Trained weights do not compress; images do by much less than the 1000 times that are possible.

    Raises:
        ValueError: It is damaged (each member's CRC is compared), or it unfolds to far more than its size.
        OSError: See `check_source`.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members, size = archive.infolist(), path.stat().st_size
            if sum(member.compress_size for member in members) > size:
                raise ValueError("its members overlap")
            if (unfolded := sum(member.file_size for member in members)) > _FREE + _RATIO * size:
                raise ValueError(f"its {size:,} bytes unfold to {unfolded:,}")
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"its member {damaged!r} is not what its CRC says")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no zip archive, or damaged: {error}") from error


def _check_directory(path: Path) -> None:
    """Raise `ValueError` where an archive's directory is so long that reading it alone would take much memory."""
    with open_source(path) as file:
        end = file.seek(0, 2)
        start = file.seek(max(0, end - 2**16 - 22))
        tail = file.read()
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) < place + 22:
            raise ValueError("it is no zip archive, or cut short.")
        (size,) = struct.unpack_from("<I", tail, place + 12)
        if size == 0xFFFFFFFF and tail[place - 20 : place - 16] == b"PK\x06\x07":  # of more than 4 GB
            (where,) = struct.unpack_from("<Q", tail, place - 12)
            file.seek(min(where, start + place))
            size = int.from_bytes(file.read(56)[40:48], "little")
    if size > _LARGEST_DIRECTORY:
        raise ValueError(f"its list of members has {size:,} bytes, more than the {_LARGEST_DIRECTORY:,} that are read.")
