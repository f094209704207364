"""From a new process to the first prediction of a pretrained network.

    python benchmarks/cold_start.py [--runs 5] [--json]

For the Wide ResNet 20-1 that ships with the package, and for a ReActNet-A in a packed file that is written first, with
random weights. Each run is a new interpreter; the figures are medians. `weights` is what loading takes longer than
building the same network without weights, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import json, resource, sys, time
start = time.perf_counter()
from onebit import zoo
import tensorflow as tf
imported = time.perf_counter()
name, weights = json.loads(sys.argv[1])
model = zoo.load(name, weights=weights)
built = time.perf_counter()
model.predict_on_batch(tf.zeros([1, *zoo.entry(name).native_shape]))
print(imported - start, built - imported, time.perf_counter() - built)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
SAVE = "import sys; from onebit import zoo; zoo.save_packed(zoo.load(sys.argv[1]), sys.argv[2])"


def python(code: str, *arguments: str) -> list[float]:
    """Return the numbers that a program prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return [float(word) for word in result.stdout.split()]


def measure(name: str, weights: str, runs: int) -> dict[str, object]:
    """Return the medians of a one-call load."""
    plain, loaded = [], []
    for _ in range(runs):
        plain.append(python(CODE, json.dumps([name, None])))
        loaded.append(python(CODE, json.dumps([name, weights])))
    importing, loading, predicting, peak = (statistics.median(column) for column in zip(*loaded, strict=True))
    building = statistics.median(run[1] for run in plain)
    return {
        "model": name,
        "import_seconds": round(importing, 2),
        "build_seconds": round(building, 2),
        "weights_seconds": round(loading - building, 2),
        "first_prediction_seconds": round(predicting, 2),
        "total_seconds": round(importing + loading + predicting, 2),
        "peak_memory": int(peak),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="number of interpreters for each figure (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs must be at least 1, not {options.runs}")
    with tempfile.TemporaryDirectory() as folder:
        packed = str(Path(folder) / "reactnet_a.onebit")
        python(SAVE, "reactnet_a", packed)
        rows = [measure("wide_resnet_20_1", "cifar10", options.runs), measure("reactnet_a", packed, options.runs)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        for name, value in row.items():
            print(f"{name.replace('_', ' '):26} {value}")
        print()


if __name__ == "__main__":
    main()
