"""Train the networks whose weights ship with the package, one after the other, and register each when it is done.

    python benchmarks/train_shipped.py --data-dir DATA --output RUNS [--epochs 30] [--only TEXT]

Each is a run of ``onebit train`` in a folder of its own, by its paper's recipe but for the length: stopped and started
again, it goes on where it was. The teacher comes first, because ReActNet learns from it. `benchmarks/report.py` then
renews the documents.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

TEACHER = "irnet_resnet20_real"
# The registered model, and how `onebit train` trains it.
RUNS = {
    TEACHER: f"irnet --set model={TEACHER}",
    "irnet_resnet20": "irnet",
    "irnet_resnet20_1w32a": "irnet --set model=irnet_resnet20_1w32a --set t_min=0.1",
    "birealnet20": "birealnet",
    "reactnet20": f"reactnet --set teacher={TEACHER}:cifar10",
    "ftbnn20": "ftbnn",
    "ftbnn20_grouped": "ftbnn --set model=ftbnn20_grouped",
    "wide_resnet_20_2": "mcdonnell --set width=2 --set cutout=false",
}


def main() -> None:
    """Train and register."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=30, help="of each stage (default: 30)")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    options = parser.parse_args()
    data = ["--data-dir", options.data_dir]
    for model, words in RUNS.items():
        if options.only in model:
            folder = options.output / f"{model}-{options.epochs}"
            train = [*words.split(), *data, "--output", str(folder), "--epochs", str(options.epochs)]
            # A process each: TensorFlow keeps what one training made until the process ends.
            subprocess.run([sys.executable, "-m", "onebit", "train", *train], check=True)
            register = str(Path(__file__).with_name("register.py"))
            subprocess.run([sys.executable, register, str(folder), model, *data], check=True)


if __name__ == "__main__":
    main()
