"""MATLAB files."""

from __future__ import annotations

import functools
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from .readers import network

MAT_HEAD = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"


def mat(path: Path) -> None:
    """Write a network in the layout of McDonnell's official Keras code."""
    from onebit.zoo.checkpoints.variables import binary_kernels

    rng = random.Random(0)
    kernels = [tuple(kernel.variable.shape) for kernel in binary_kernels(network()).values()]
    content = MAT_HEAD + moments(4, 3, "batch_normalization_0", rng)
    for number, shape in enumerate(kernels):
        bits = bytes(rng.getrandbits(1) for _ in range(functools.reduce(lambda a, b: a * b, shape)))
        content += matrix(9, (1, *shape), element(2, bits), f"conv2d_{number}".encode())
        following = kernels[number + 1][2] if number + 1 < len(kernels) else 10
        content += moments(2, following, f"batch_normalization_{number + 1}", rng)
    path.write_bytes(content)


def moments(rows: int, columns: int, name: str, rng: random.Random) -> bytes:
    """Return a normalisation's constants as a variable of a MATLAB file."""
    values = struct.pack(f"<{rows * columns}f", *(rng.uniform(0.5, 1.5) for _ in range(rows * columns)))
    return matrix(7, (rows, columns), element(7, values), name.encode())


def element(kind: int, content: bytes) -> bytes:
    """Return an element of a MATLAB file."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], rest: bytes = b"", name: bytes = b"a") -> bytes:
    """Return an array of a MATLAB file."""
    dims = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, element(6, struct.pack("<II", kind, 0)) + dims + element(1, name) + rest)


def folded(content: bytes) -> bytes:
    """Return a part of a MATLAB file compressed."""
    data = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(data)) + data


def mat_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield cells in cells, sparse arrays of wild indices, and small files of many values."""
    inner = matrix(6, (1, 1), element(9, bytes(8)), b"")
    for _ in range(5000):
        inner = b"".join([struct.pack("<II", 14, 48 + len(inner)), matrix(1, (1, 1), b"", b"")[8:], inner])
    wild = struct.pack("<4i", 2**30, -5, 10**9, 7), struct.pack("<5i", 0, 10**6, 3, 10**9, 4)
    bomb = matrix(9, (1, 2**28), element(2, bytes(2**28)))
    yield MAT_HEAD + inner
    yield MAT_HEAD + folded(inner)
    yield MAT_HEAD + matrix(5, (4, 4), element(5, wild[0]) + element(5, wild[1]) + element(9, bytes(32)))
    yield MAT_HEAD + matrix(1, (2 * 10**8,), element(14, b"\1" * 16))
    yield MAT_HEAD + folded(bomb)
    yield MAT_HEAD + folded(matrix(9, (1, 10**6), element(2, bytes(10**6)))) * 300
    yield MAT_HEAD + b"".join(folded(matrix(6, (1, 4000), element(2, bytes(4000)), b"v%d" % i)) for i in range(5000))
    while True:
        shape = tuple(rng.choice([0, 1, -1, 3, 2**31 - 1, 10]) for _ in range(rng.randrange(12)))
        part = matrix(rng.randrange(20), shape, element(rng.randrange(20), rng.randbytes(rng.choice([0, 3, 8, 800]))))
        yield (
            MAT_HEAD + rng.choice([part, folded(part), folded(part)[:-4], matrix(1, (1, 2), part + part)]) + data[128:]
        )
