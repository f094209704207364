"""How fast each engine runs the zoo's networks, 1-bit and in full precision, on this machine.

    python benchmarks/engines.py                 # a few minutes; prints a table
    python benchmarks/engines.py --record        # write the rows to engines.json, for the documentation
    python benchmarks/engines.py birealnet18     # only these

Nothing else should run meanwhile. The weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onebit import zoo
from onebit.zoo.export.benchmark import Timing, compare_engines, processor

FILE = Path(__file__).with_name("engines.json")
NETWORKS = (
    "birealnet18",
    "react_resnet18",
    "reactnet_a",
    "irnet_vgg_small",
    "irnet_resnet20",
    "birealnet20",
    "reactnet20",
    "ftbnn20_grouped",
    "adabin_resnet20",
)
COLUMNS = {
    "1-bit, OpenVINO": ("1-bit", "openvino", "float32"),
    "full precision, OpenVINO": ("full precision", "openvino", "float32"),
    "full precision, OpenVINO, bfloat16": ("full precision", "openvino", "bfloat16"),
    "1-bit, ONNX Runtime": ("1-bit", "onnx", "float32"),
    "1-bit, Larq Compute Engine on x86": ("1-bit", "lce", "float32"),
    "1-bit, Keras function": ("1-bit", "keras", "float32"),
    "1-bit, model.predict": ("1-bit", "keras predict", "float32"),
}


def measure(name: str) -> dict[str, Any]:
    """Return the median milliseconds of one image in each engine: in one thread, and in all for Keras."""
    import tensorflow as tf

    tf.keras.backend.clear_session()
    timings, failed = compare_engines(zoo.load(name), threads=(1, None), batches=(1,), runs=100)
    if failed:
        raise SystemExit(f"{name}: {failed}")

    def find(key: tuple[str, str, str], threads: int | None) -> Timing:
        wanted = (*key, threads)
        return next(row for row in timings if (row.network, row.engine, row.precision, row.threads) == wanted)

    row: dict[str, Any] = {"model": name, "processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    for title, key in COLUMNS.items():
        timing = find(key, None if key[1].startswith("keras") else 1)
        row[title] = {"median": round(1000 * timing.median, 4), "fastest": round(1000 * timing.spread[0], 4)}
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    form = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    form.add_argument("networks", nargs="*", default=NETWORKS, help="registered models")
    form.add_argument("--record", action="store_true", help=f"write the rows to {FILE.name}")
    given = form.parse_args(arguments)
    rows = []
    for name in given.networks:
        rows.append(measure(name))
        print(json.dumps(rows[-1]), flush=True)
    if given.record:
        FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
