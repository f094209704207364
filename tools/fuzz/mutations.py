"""Damage of any content, other values in JSON and text, and what is no file in a file's place."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Lies = Callable[[bytes, random.Random], Iterator[bytes]]
"""Yields the content of other files, given that of a sound one: what they claim is not so."""

EVIL = "\x1b[2J\x1b]0;owned\x07\nsecond line\u202e"


def any_value(rng: random.Random) -> Any:
    """Return something that a field of JSON may be but should not."""
    values = [None, True, -1, 0, 1, 2**31, 2**62, 10**30, 1e308, -0.5, "", "A" * 5000, EVIL, "\0", [], {}]
    return rng.choice([*values, [[[]]], {"a": {"b": [EVIL]}}, ["x"] * 1000, "../../../../etc/passwd", [10**9] * 4])


def changed(value: Any, rng: random.Random) -> Any:
    """Return a JSON value in which one thing is another, gone, new or renamed."""
    if rng.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return any_value(rng)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [*value[:place], changed(value[place], rng), *value[place + 1 :]]
    key, action = rng.choice(list(value)), rng.random()
    if action < 0.1:
        return {name: part for name, part in value.items() if name != key}
    if action < 0.2:
        return {**value, rng.choice([EVIL, "x", "", key + "2"]): any_value(rng)}
    if action < 0.3:
        return {(EVIL if name == key else name): part for name, part in value.items()}
    return {**value, key: changed(value[key], rng)}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return content with random damage."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        # Headers are as likely as all the rest.
        place = rng.randrange(rng.choice([64, 512, len(content), len(content)])) % max(len(content), 1)
        kind = rng.randrange(8)
        if kind <= 2:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 3:
            content[place : place + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x40"]
            )
        elif kind == 4:
            content[place:place] = rng.randbytes(rng.choice([1, 4, 100]))
        elif kind == 5:
            del content[place : place + rng.choice([1, 4, 100])]
        elif kind == 6:
            del content[place:]
        else:
            content[place:place] = content[place : place + rng.choice([8, 64, 1000])]
        if not content:
            break
    return bytes(content)


def text_lies(*starts: bytes) -> Lies:
    """Return what yields text with other words in it."""

    def lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
        yield from starts
        while True:
            words = re.split(rb"([,\n:\"]+)", data)
            words[rng.randrange(len(words))] = str(any_value(rng)).encode(errors="replace")
            yield b"".join(words)

    return lies


def json_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield JSON with other values in it."""
    yield b"[" * 100_000
    while True:
        yield json.dumps(changed(json.loads(data), rng)).encode()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@contextlib.contextmanager
def in_its_place(kind: str, path: Path) -> Iterator[None]:
    """Put something that is no file, or a very large one, in the place of a file."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            place = os.getcwd()
            os.chdir(path.parent)  # a socket's path must be short
            stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))).bind(path.name)
            os.chdir(place)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        else:
            with path.open("wb") as file:
                file.truncate(2**30)
        yield


ODD = ("pipe", "socket", "device", "folder", "loop", "a gigabyte of zeros")
