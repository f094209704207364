"""Files that lie, given to everything that reads files from outside.

    python tools/hostile.py --minutes 10 [--seed 1] [--formats packed "ONNX .onnx"] [--keep FOLDER]

Takes sound files of each format, and writes others like them: damaged ones (bits flipped, bytes overwritten, inserted,
removed, repeated, cut off), ones whose fields claim something else, and, in their place, pipes, sockets, devices,
folders and gigabytes of nothing. Each is read in a process that is watched, and falls short if that ends, hangs, takes
more than 20 seconds of the processor or 200 MB, raises anything but `ValueError` or `OSError`, or says so in more than
one printable line. Prints a table, as docs/reliability.md has it, and exits with 1 if any fell short.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import sys
from collections import Counter
from pathlib import Path

from fuzz.formats import FORMATS
from fuzz.watch import Worker, try_format

HEAD = """\
| format | tried | refused | accepted and right | accepted, read as something else | fell short |
|---|--:|--:|--:|--:|--:|"""


def row(name: str, count: Counter[str]) -> str:
    """Return a line of the table."""
    other = "-" if FORMATS[name].checked and not count["changed"] else f"{count['changed']:,}"
    figures = (f"{number:,}" for number in (count.total(), count["refused"], count["right"]))
    return f"| {name} | {' | '.join(figures)} | {other} | {count['short']:,} |"


def main() -> None:
    """Try formats in turns for some minutes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--keep", type=Path, help="where to keep the files that fell short")
    options = parser.parse_args()
    formats = [name for name in options.formats if all(map(importlib.util.find_spec, FORMATS[name].needs))]
    if missing := [name for name in options.formats if name not in formats]:
        print(f"Not tried, for what reads them is not installed: {', '.join(missing)}", file=sys.stderr)
    each = options.minutes * 60 / max(len(formats), 1)
    counts = {}
    with contextlib.closing(Worker()) as worker:
        for name in formats:
            counts[name] = try_format(name, options.seed, worker, each, options.keep)
            print(f"{datetime.datetime.now():%H:%M} {row(name, counts[name])}", file=sys.stderr, flush=True)
    from onebit.util.machine import processor

    total = sum(count.total() for count in counts.values())
    print(
        f"{datetime.date.today():%d %B %Y}, {processor()}, seed {options.seed}, {each:.0f} s for each: {total:,} files"
    )
    print(HEAD, *(row(name, count) for name, count in counts.items()), sep="\n")
    raise SystemExit(any(count["short"] for count in counts.values()))


if __name__ == "__main__":
    main()
