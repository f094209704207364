"""Reading hostile files in a process that is watched."""

from __future__ import annotations

import collections
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import folders, readers
from .formats import FORMATS
from .mutations import ODD, damaged, in_its_place
from .readers import Reader

SECONDS, MEGABYTES, LONGEST = 20, 200, 1200
"""What reading a file may take of the processor and of memory, and how long a message may be."""

PATIENCE = 180
"""Seconds after which a reader hangs, on whatever machine."""


class Worker:
    """A process that reads files; a new one where it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.sound: tuple[Reader, Path] | None = None
        """What a new process reads first, so that what it imports does not count."""

    def read(self, reader: Reader, path: Path, seconds: float = PATIENCE) -> dict[str, Any]:
        """Return what came of reading a file: outcome, message and costs."""
        if self._process is None:
            root = Path(__file__).resolve().parents[2]
            paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                [sys.executable, readers.__file__],
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            if self.sound:
                self.read(*self.sound, 240)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([reader.__name__, str(path)]) + "\n")
        self._process.stdin.flush()
        # Twice, for time passes also while the machine sleeps, or all of this is suspended.
        if not any(select.select([self._process.stdout], [], [], seconds / 2)[0] for _ in range(2)):
            self.close()
            return {"outcome": "hangs"}
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._process = None
        return {"outcome": f"ends the process ({code})"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def shortcoming(result: dict[str, Any]) -> str | None:
    """Return what is wrong with how a file was read; ``None`` if nothing is."""
    if result["outcome"] not in ("accepted", "refused"):
        return result["outcome"]
    if result["seconds"] > SECONDS or result["bytes"] > MEGABYTES * 1e6:
        return f"takes {result['seconds']:.0f} s and {result['bytes'] / 1e6:.0f} MB"
    message = result.get("message", "")
    if not result.get("right", True):
        return f"raises {result['type']}: {message[:120]!r}"
    return None if message.isprintable() and len(message) <= LONGEST else f"says {message[:120]!r}"


class Case(NamedTuple):
    """A file or folder to read.

    Attributes:
        what: What is wrong with it.
        path: Where it is.
        content: What a sound one is read as.
    """

    what: str
    path: Path
    content: str


def cases(name: str, folder: Path, rng: random.Random, worker: Worker) -> Iterator[Case]:
    """Yield files of a format without end, each only until the next: the odd ones, then lies and damage in turns."""
    kind = FORMATS[name]
    sound, path = folder / f"sound{kind.ending}", folder / f"hostile{kind.ending}"
    kind.make(sound)
    worker.sound = kind.reader, sound
    first = worker.read(kind.reader, sound, 240)
    assert first["outcome"] == "accepted", (name, first)
    content = first["content"]
    if sound.is_dir():
        for what in folders.copies(sound, path, rng):
            yield Case(what, path, content)
    for odd in ODD:
        with in_its_place(odd, path):
            yield Case(odd, path, content)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    data = sound.read_bytes()
    lies = kind.lies(data, rng)
    while True:
        for what, made in (("lie", next(lies, None)), ("damage", damaged(data, rng))):
            if made is not None:
                path.write_bytes(made)
                yield Case(what, path, content)


def try_format(
    name: str, seed: int, worker: Worker, seconds: float, keep: Path | None = None, most: int | None = None
) -> collections.Counter[str]:
    """Return what came of hostile files of a format: how many were refused, right, changed, and fell short.

    Args:
        name: One of `FORMATS`.
        seed: Other files for each.
        worker: What reads them.
        seconds: For how long to try.
        keep: Where to keep those that fell short, if anywhere.
        most: How many to try, if not as many as there is time for.
    """
    count = collections.Counter[str]()
    end = None
    with tempfile.TemporaryDirectory() as folder:
        stream = cases(name, Path(folder), random.Random(f"{seed} {name}"), worker)
        for number, case in enumerate(stream):
            end = end or time.monotonic() + seconds
            if time.monotonic() > end or number == most:
                break
            result = worker.read(FORMATS[name].reader, case.path)
            if wrong := shortcoming(result):
                count["short"] += 1
                if count["short"] <= 5:
                    print(f"{name}, number {number} ({case.what}): {wrong}", file=sys.stderr, flush=True)
                if keep:
                    _keep(case.path, keep / f"{name.replace(' ', '_')}-{number}{case.path.suffix}")
            elif result["outcome"] == "refused":
                count["refused"] += 1
            else:
                # A lie that is told with a digest of its own is another file, not a damaged one.
                same = result["content"] == case.content or (FORMATS[name].checked and case.what == "lie")
                count["right" if same else "changed"] += 1
        stream.close()
    return count


def _keep(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copy(path, target)
    elif all(inner.is_file() or inner.is_dir() for inner in path.rglob("*")):
        shutil.copytree(path, target, dirs_exist_ok=True)
