"""How fast the networks train and predict, against the same in other libraries and in other precisions.

    python benchmarks/speed.py [--seconds 4] [--rounds 5] [--all] [--only TEXT] [--json | --record MACHINE]

Each row compares two processes that work in turns, so that both meet the same machine: after a warm-up, the medians of
their images per second, and median, lowest and highest of the ratios of the rounds. Both processes have all processors.
The rows with PyTorch need the extra ``convert``. Those in mixed_bfloat16 are left out, unless ``--all`` is given,
where the machine has no instructions for it (see ``zoo.fast_precision``) and imitates it. larq-zoo runs as its users
have it, with TensorFlow's own choice of kernels. ``--record`` keeps the rows beside this file, for `report.py`, which
writes them into the README.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

FILE = Path(__file__).with_suffix(".json")
WORKER = Path(__file__).with_name("speed_worker.py")
# Taken before onebit is imported, which adds to it.
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

Case = dict[str, Any]


def case(model: str, precision: str = "float32", source: str = "onebit", task: str = "train") -> Case:
    """Return a case.

    ``source`` is ``"onebit"``, the same network ``"real"`` (without quantizers) or ``"stock"`` (with Larq's layers and
    quantizers), ``"larq_zoo"`` or ``"torch"``.
    """
    small = "20" in model
    wide = model == "wide_resnet_20_10"
    return {
        "model": model,
        "precision": precision,
        "source": source,
        "task": task,
        "shape": [32, 32, 3] if small else [224, 224, 3],
        "classes": 10 if small else 1000,
        "batch": 100 if wide else 128 if small else 32,
    }


BF16 = "mixed_bfloat16"
IRNET, REACT, BIREAL, WIDE = "irnet_resnet20", "reactnet_a", "birealnet18", "wide_resnet_20_10"
# Ours, what it is compared with, and what the latter is called.
ROWS: list[tuple[Case, Case, str]] = [
    (case(IRNET), case(IRNET, source="torch"), "PyTorch eager, float32"),
    (case(IRNET, BF16), case(IRNET, source="torch"), "PyTorch eager, float32"),
    (case(IRNET), case(IRNET, source="real"), "without quantizers"),
    (case(IRNET, BF16), case(IRNET, BF16, source="real"), "without quantizers"),
    (case(IRNET), case(IRNET, source="stock"), "Larq's quantizers"),
    (case(IRNET, BF16), case(IRNET), "float32"),
    (case(REACT), case(REACT, source="torch"), "PyTorch eager, float32"),
    (case(REACT, BF16), case(REACT, source="torch"), "PyTorch eager, float32"),
    (case(BIREAL), case("BiRealNet", source="larq_zoo"), "larq-zoo's, float32"),
    (case(BIREAL, BF16), case("BiRealNet", source="larq_zoo"), "larq-zoo's, float32"),
    (case(BIREAL, task="predict"), case("BiRealNet", source="larq_zoo", task="predict"), "larq-zoo's, float32"),
    (case(BIREAL, BF16, task="predict"), case("BiRealNet", source="larq_zoo", task="predict"), "larq-zoo's, float32"),
    (case(WIDE, BF16, task="predict"), case(WIDE, task="predict"), "float32"),
]


class Worker:
    """A process that runs a case when asked."""

    def __init__(self, work: Case) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(work)],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer("ready")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def run(self, seconds: float) -> dict[str, float]:
        """Return what the worker reports of a turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self._answer("{"))

    def _answer(self, start: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise RuntimeError(f"The worker ended with exit code {self.process.wait()}: run {WORKER.name} by itself.")


def measure(ours: Case, other: Case, name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Return a row of the table."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(work)) for work in (ours, other)]
        turns = [[worker.run(seconds) for worker in workers] for _ in range(rounds)]
    speeds = [[turn["images_per_second"] for turn in pair] for pair in turns]
    ratios = [one / two for one, two in speeds]
    return {
        "model": ours["model"],
        "task": ours["task"],
        "batch": ours["batch"],
        "precision": ours["precision"],
        "against": name,
        "images_per_second": round(statistics.median(pair[0] for pair in speeds), 1),
        "against_images_per_second": round(statistics.median(pair[1] for pair in speeds), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_lowest": round(min(ratios), 2),
        "ratio_highest": round(max(ratios), 2),
        "rounds": rounds,
        "peak_memory": max(pair[0]["peak_memory"] for pair in turns),
        "against_peak_memory": max(pair[1]["peak_memory"] for pair in turns),
    }


HEADINGS = ("network", "task", "precision", "against", "images/s", "theirs", "ratio", "memory", "theirs")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row as text."""
    return (
        row["model"],
        f"{row['task']}, batch {row['batch']}",
        row["precision"],
        row["against"],
        f"{row['images_per_second']:,.1f}",
        f"{row['against_images_per_second']:,.1f}",
        f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})",
        f"{row['peak_memory'] / 1e9:.2f} GB",
        f"{row['against_peak_memory'] / 1e9:.2f} GB",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="shortest length of a turn (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process (default: 5)")
    parser.add_argument("--all", action="store_true", help="mixed_bfloat16 wherever it runs")
    parser.add_argument("--only", default="", help="measure the rows that contain this text")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--record", metavar="MACHINE", help="write the rows to speed.json: measured on this machine")
    options = parser.parse_args()
    if options.record and options.only:
        parser.error("--record keeps all rows, which --only would leave out.")
    rows = [row for row in ROWS if options.only in f"{row[0]['model']} {row[0]['task']} {row[0]['precision']} {row[2]}"]
    from onebit import zoo

    if not options.all and zoo.fast_precision() != BF16:
        rows = [row for row in rows if row[0]["precision"] != BF16]
        print("This machine has no instructions for bfloat16: its rows are left out.", file=sys.stderr)
    if importlib.util.find_spec("torch") is None:
        rows = [row for row in rows if row[1]["source"] != "torch"]
        print("Without PyTorch: its rows are left out.", file=sys.stderr)
    bar = track(rows, "Measuring", console=Console(stderr=True), transient=True)
    results = [measure(*row, options.rounds, options.seconds) for row in bar]
    if options.record:
        FILE.write_text(
            json.dumps([{**row, "machine": options.record} for row in results], indent=1) + "\n", encoding="utf-8"
        )
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        table = Table(*HEADINGS)
        for row in results:
            table.add_row(*cells(row))
        Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
