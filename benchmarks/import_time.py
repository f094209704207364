"""What ``import onebit.quantizers`` costs on top of importing TensorFlow and Larq.

    python benchmarks/import_time.py [--runs 5] [--json]

Each run is a new interpreter. The figure is the median of the seconds that the last import alone took.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

CODE = """
import time
start = time.perf_counter()
import tensorflow, larq
middle = time.perf_counter()
import onebit.quantizers
print(middle - start, time.perf_counter() - middle)
"""


def measure() -> tuple[float, float]:
    """Return the seconds of importing TensorFlow and Larq, and of importing ``onebit.quantizers`` after them."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", CODE]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    base, added = map(float, result.stdout.split())
    return base, added


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="number of interpreters to start (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs must be at least 1, not {options.runs}")
    base, added = (list(times) for times in zip(*(measure() for _ in range(options.runs)), strict=True))
    figures = {
        "runs": options.runs,
        "tensorflow_and_larq_seconds": round(statistics.median(base), 3),
        "quantizers_added_seconds": round(statistics.median(added), 3),
        "quantizers_added_seconds_worst": round(max(added), 3),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):32} {value}")


if __name__ == "__main__":
    main()
