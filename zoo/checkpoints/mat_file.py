"""MATLAB's files of level 5, read as far as networks' weights need it: numbers, text, and cells of these.

After "MAT-File Format" (MathWorks, 2024), chapter 1. Nothing that a file claims is believed before it is checked: no
array is made that its bytes do not fill, and of compressed ones no more is unfolded than numbers can have been
compressed by. Other kinds of variables (structures, sparse arrays, objects) are left aside.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from ...util.files import open_source
from ...util.formatting import brief

_LARGEST = 2**32
_INTEGERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 12: "i8", 13: "u8"}
_TYPES = {**_INTEGERS, 7: "f4", 9: "f8", 16: "u1", 17: "u2"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR, _NUMBERS = 1, 4, range(6, 16)  # classes of arrays
_COMPLEX = 0x0800
_DIMENSIONS, _CELLS = 8, 10_000
# Signs hold a bit each, of which compression can save little, however many bytes each was given.
_BYTES_PER_BYTE, _VALUES_PER_BYTE, _FREE = 128, 16, 2**12


def read_mat(path: Path) -> dict[str, np.ndarray | list[np.ndarray]]:
    """Return a file's arrays by name, and its cells as lists of arrays; text is an array of its characters' codes.

    Raises:
        ValueError: It is no such file, or is damaged.
        OSError: See `check_source`.
    """
    with open_source(path, _LARGEST) as file:
        head = file.read(128)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:])
        if order is None or int.from_bytes(head[124:126], "little" if order == "<" else "big") != 0x0100:
            raise ValueError("it is no MAT-file of level 5")
        found: dict[str, np.ndarray | list[np.ndarray]] = {}
        while tag := file.read(8):
            kind, size = (int(n) for n in np.frombuffer(_whole(tag, 8), f"{order}u4"))
            content: _Source = _Plain(file, size)
            if kind == _COMPRESSED:
                unfolded = _Inflated(file, size)
                kind, inner = (int(n) for n in np.frombuffer(unfolded.read(8), f"{order}u4"))
                unfolded.left, content = min(unfolded.left, inner), unfolded
            if kind == _MATRIX:
                read = _Array(content, order, _FREE + _VALUES_PER_BYTE * size)
                if read.value is not None:
                    found[read.name] = read.value
            content.finish()
        return found


class _Source(Protocol):
    """A part of the file.

    Attributes:
        left: How many bytes it still has, by what it says.
    """

    left: int

    def read(self, size: int) -> bytes: ...

    def finish(self) -> None: ...


class _Plain:
    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self.left = file, size
        start = file.tell()
        if start + size > file.seek(0, 2):
            raise ValueError("it is cut short")
        file.seek(start)

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError("a part of it claims to be longer than the whole")
        self.left -= size
        return _whole(self._file.read(size), size)

    def finish(self) -> None:
        self._file.seek(self.left, 1)


class _Inflated:
    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._rest, self._zlib = _Plain(file, size), b"", zlib.decompressobj()
        self.left = _FREE + _BYTES_PER_BYTE * size

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError("a part of it claims to be longer than the whole, or than its compression can make it")
        self.left -= size
        parts = []
        while size:
            if not self._rest and not self._zlib.eof:
                self._rest = self._file.read(min(2**16, self._file.left))
            part = self._zlib.decompress(self._rest, size)
            self._rest = self._zlib.unconsumed_tail
            if not part and (self._zlib.eof or not (self._rest or self._file.left)):
                raise _ShortError("it is cut short")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        if not self.left:  # what was read whole has a checksum at its end
            self.left = 1
            with contextlib.suppress(_ShortError):
                self.read(1)
            if not self._zlib.eof:
                raise ValueError("it is damaged")
        self._file.finish()


class _ShortError(ValueError):
    pass


class _Array:
    """A matrix, read from where its elements begin.

    Args:
        source: Where they are.
        order: ``"<"`` or ``">"``, in the notation of NumPy.
        most: How many values it may have.
        in_cell: Whether it is in a cell, where there are no further cells.

    Attributes:
        name: The variable's name.
        value: ``None`` if it is of a kind that is left aside.
    """

    def __init__(self, source: _Source, order: str, most: int, in_cell: bool = False) -> None:
        self._source, self._order = source, order
        self.value: np.ndarray | list[np.ndarray] | None = None
        flags, dims, name = (self._element(limit) for limit in (8, 4 * _DIMENSIONS, 256))
        if len(flags) < 1 or not 1 <= len(dims) <= _DIMENSIONS or min(dims) < 0:
            raise ValueError(f"an array of it has the dimensions {brief(dims.tolist())}")
        shape, self.name = tuple(int(n) for n in dims), name.tobytes().decode("latin-1")
        kind, count = int(flags[0]) & 0xFF, math.prod(shape)
        if kind == _CELL and not in_cell and count <= _CELLS:
            self.value = [cell for cell in (self._cell(most) for _ in range(count)) if cell is not None]
        elif kind == _CHAR or (kind in _NUMBERS and not int(flags[0]) & _COMPLEX):
            if count > most:
                raise ValueError(f"{brief(self.name)} claims {count:,} values")
            values = self._element(source.left)
            if len(values) != count:
                raise ValueError(f"{brief(self.name)} has {len(values):,} values instead of {count:,}")
            self.value = values.reshape(shape, order="F")

    def _cell(self, most: int) -> np.ndarray | None:
        kind, size = (int(n) for n in np.frombuffer(self._source.read(8), f"{self._order}u4"))
        if kind != _MATRIX:
            raise ValueError("a cell of it is no array")
        if not size:
            return np.zeros((0, 0))
        after = self._source.left - size
        value = _Array(self._source, self._order, most, in_cell=True).value
        if self._source.left < after:
            raise ValueError("a cell of it is shorter than what is in it")
        while self._source.left > after:  # of a kind that is left aside
            self._source.read(min(self._source.left - after, 2**16))
        return value if isinstance(value, np.ndarray) else None

    def _element(self, most: int) -> np.ndarray:
        """Return the values of the next element, which has at most so many bytes."""
        kind, size = (int(n) for n in np.frombuffer(self._source.read(8), f"{self._order}u4"))
        short = kind >> 16  # elements of at most 4 bytes have these in the place of their length
        kind &= 0xFFFF
        if short:
            data = size.to_bytes(4, "little" if self._order == "<" else "big")[:short]
            size = short
        elif size > most:
            raise ValueError(f"an element of it has {size:,} bytes")
        else:
            data = self._source.read(size)
            self._source.read(min(-size % 8, self._source.left))
        if kind not in _TYPES or size > most or len(data) % int(_TYPES[kind][1]):
            raise ValueError(f"an element of it is of the type {kind}, of {size} bytes")
        return np.frombuffer(data, self._order + _TYPES[kind])


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError("it is cut short")
    return data
