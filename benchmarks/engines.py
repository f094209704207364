"""How fast each engine runs the zoo's networks on this machine, 1-bit and in full precision.

    python benchmarks/engines.py                 # ten minutes; prints each figure
    python benchmarks/engines.py --record        # write them to engines.json, for the documentation
    python benchmarks/engines.py birealnet18     # only these networks, in all engines

The networks that are named here are measured in all engines; all others with 1-bit weights and activations in OpenVINO
alone, for one image in one thread. Nothing else should run meanwhile. The weights are random: speed does not depend on
them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onebit import zoo
from onebit.util.formatting import natural_key
from onebit.util.machine import processor
from onebit.zoo.export.benchmark import compare_engines

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
BATCHES = (1, 8, 32)


def measure(name: str, in_all: bool) -> list[dict[str, Any]]:
    """Return the median, the fastest call and what nine of ten took at most, in milliseconds, of each engine.

    Args:
        name: A registered model.
        in_all: Whether in all engines, with several numbers of threads and images, or in OpenVINO for one image alone.
    """
    import tensorflow as tf

    tf.keras.backend.clear_session()
    model = zoo.load(name)
    if in_all:
        timings, failed = compare_engines(model, batches=BATCHES, seconds=1)
    else:
        timings, failed = compare_engines(model, engines=["openvino"], threads=[1])
    if failed:
        raise SystemExit(f"{name}: {failed}")
    rows = []
    for timing in timings:
        times = dict(zip(("median", "fastest", "nine_of_ten"), (timing.median, *timing.spread), strict=True))
        row = {key: getattr(timing, key) for key in ("network", "engine", "precision", "threads", "batch")}
        rows.append({"model": name, **row, **{key: round(1000 * value, 4) for key, value in times.items()}})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    form = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    form.add_argument("networks", nargs="*", help="registered models (default: all with 1-bit weights and activations)")
    form.add_argument("--record", action="store_true", help=f"write the figures to {FILE.name}")
    given = form.parse_args(arguments)
    binary = [name for name, counts in zoo.recorded_counts().items() if counts.binary_macs]
    others = sorted(set(binary) - set(NETWORKS), key=natural_key)
    rows = []
    for name in given.networks or (*NETWORKS, *others):
        found = measure(name, in_all=bool(given.networks) or name in NETWORKS)
        print("\n".join(json.dumps(row) for row in found), flush=True)
        rows += found
    if given.record:
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        machine = json.dumps({"processor": processor(), "cores": os.cpu_count()})
        FILE.write_text(f'{{"machine": {machine}, "timings": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
