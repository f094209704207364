"""Running files of networks in a process of their own, which a file that lies may end or fill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...util.files import check_source
from ...util.formatting import printable
from . import sandbox
from .interpreter import require_engine
from .runners import require_onnxruntime, require_openvino
from .tflite_file import read_tflite

_SECONDS = 10
"""What a run of a small file may take of the processor; a larger one a second more for each ten megabytes that it
unfolds to."""
_WAITING = 6
"""How much longer it may take on a busy machine."""
_LARGEST = 2**28
"""Bytes of a file of ONNX or OpenVINO."""
_FREE = 2**28
_UNFOLDED = 100
"""Bytes that a byte of a file of 1-bit weights may become: 32 where they are real numbers, in three copies."""


def latency(
    file: bytes | str | os.PathLike[str],
    *,
    runs: int = 50,
    warm_up: int = 5,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Measure how long a file of `export` takes for one image, in one thread.

    It is run in a process of its own, which a file that lies may end or fill.

    Args:
        file: Its path; or the bytes of a TensorFlow Lite file. It has a fixed input shape. What ends neither in
            ``.onnx`` nor in ``.xml`` is taken for TensorFlow Lite's.
        runs: How often to measure.
        warm_up: Runs before the first that is measured.
        progress: Called with 1 after each measured run.

    Returns:
        Seconds, one number for each run.

    Raises:
        ValueError: It is not such a file, it cannot be run, or takes more memory or time than networks do.
        OSError: There is no such file, or it is none.
        ModuleNotFoundError: Its engine is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        name = "The file" if isinstance(file, bytes) else str(file)
        if isinstance(file, bytes):
            path = Path(folder, "network.tflite")
            path.write_bytes(file)
        else:
            path = Path(file)
        seconds = []
        with _started(_task(path), name) as run:
            for number in range(-warm_up, runs):
                took = run(1)
                if number >= 0:
                    seconds.append(took)
                    if progress:
                        progress(1)
        return seconds


def try_file(path: Path, batches: tuple[int, ...]) -> None:
    """Run a file once on each of some numbers of images, in a process of its own, before it is run in this one.

    Raises:
        ValueError, OSError, ModuleNotFoundError: See `latency`.
    """
    with _started(_task(path), str(path)) as run:
        for batch in batches:
            run(batch)


class _Task(NamedTuple):
    """A file to run.

    Attributes:
        engine: One of `sandbox`'s.
        files: The paths of its parts.
        unfolded: How many bytes it may honestly become.
    """

    engine: str
    files: list[str]
    unfolded: int


def _task(path: Path) -> _Task:
    ending = path.suffix.lower()
    if ending not in (".onnx", ".xml"):
        parsed = read_tflite(path)
        if parsed.has_binary_operations:
            require_engine()
        unfolded = 2 * parsed.tensor_bytes + path.stat().st_size
        return _Task("lce" if parsed.has_binary_operations else "tflite", [str(path)], unfolded)
    if ending == ".onnx":
        require_onnxruntime()
        parts = [path]
    else:
        require_openvino()
        parts = [path, path.with_suffix(".bin")]
    size = sum(check_source(part, _LARGEST).stat().st_size for part in parts)
    return _Task("onnx" if ending == ".onnx" else "openvino", list(map(str, parts)), _UNFOLDED * size)


@contextlib.contextmanager
def _started(task: _Task, name: str) -> Iterator[Callable[[int], float]]:
    """Yield a function that runs a file on so many images and returns the seconds that it took."""
    # The first run loads the file, too.
    longest = _SECONDS + task.unfolded / 1e7
    described = json.dumps({**task._asdict(), "bytes": _FREE + task.unfolded, "seconds": longest})
    command, pipe = [sys.executable, sandbox.__file__, described], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=pipe, bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        stdin, stdout = process.stdin, process.stdout
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        listener.start()

        def run(images: int) -> float:
            watch = threading.Timer(_WAITING * longest, process.kill)
            watch.start()
            try:
                stdin.write(b"%d\n" % images)
                stdin.flush()
                return float(stdout.readline())
            except (ValueError, OSError):  # it has ended
                process.kill()
                process.wait()
                listener.join()
                reason = _reason(b"".join(said).decode(errors="replace"), process.returncode)
                raise ValueError(f"{printable(name)} cannot be run: {reason}.") from None
            finally:
                watch.cancel()

        try:
            stdout.readline()  # the engine is imported
            yield run
        finally:
            process.kill()


def _reason(said: str, code: int) -> str:
    """Return why a process that was to run a file did not."""
    errors = [line.removeprefix(sandbox.FAILED) for line in said.splitlines() if line.startswith(sandbox.FAILED)]
    if -code in (signal.SIGKILL, getattr(signal, "SIGXCPU", None)):
        return "it takes too long"
    return printable(" ".join(errors), 400).rstrip(".") or f"it ends the process that it runs in ({code})"
