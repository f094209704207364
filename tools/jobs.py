"""Training runs side by side, each a process on processors of its own.

Two runs on one processor each were together half as fast again as one run on two: none of their operations waits for
the slower processor.
"""

from __future__ import annotations

import argparse
import os
import queue
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path


def processors() -> list[int]:
    """Return the processors that this process may use."""
    # Only Linux tells which, and lets a process keep to some.
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def number_of_jobs(text: str) -> int:
    """Return the value of ``--jobs``, for argparse."""
    most = len(processors())
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {most}, the processors here, not {text!r}")
    return int(text)


def run_all(commands: Mapping[str, Sequence[str]], jobs: int, folder: Path) -> Iterator[tuple[str, bool]]:
    """Run commands in their order, ``jobs`` at once, and yield each one's name as it ends, and whether it succeeded.

    With several at once, each writes what it prints into ``<name>.log`` in the folder.
    """
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for number in range(jobs):
        shares.put(processors()[number::jobs])

    def keep_to_a_share() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, shares.get())  # of this thread, and of the processes that it starts

    def run(name: str) -> bool:
        if jobs == 1:
            print(name, flush=True)
            return subprocess.run(commands[name], check=False).returncode == 0
        log = folder / f"{name}.log"
        print(f"{name}: see {log}\n", end="", flush=True)  # in one piece, whatever the others print
        with log.open("a", encoding="utf-8") as file:
            return subprocess.run(commands[name], check=False, stdout=file, stderr=subprocess.STDOUT).returncode == 0

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs, initializer=keep_to_a_share) as pool:
        running = {pool.submit(run, name): name for name in commands}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:  # above all a keyboard interrupt: it must not start the next one
            pool.shutdown(cancel_futures=True)
            raise
