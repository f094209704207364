"""Train the networks whose weights ship with the package, and register each when it is done.

    python benchmarks/train_shipped.py --data-dir DATA --output RUNS [--epochs N] [--only TEXT] [--jobs 2]

Each is a run of ``onebit train`` in a folder of its own, by its paper's recipe but for the length: stopped and started
again, it goes on where it was. The teacher comes first, because ReActNet learns from it. `benchmarks/report.py` then
renews the documents.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from jobs import number_of_jobs, run_all

TEACHER = "irnet_resnet20_real"
# The registered model, how `onebit train` trains it, and the epochs of each stage.
RUNS = {
    TEACHER: (f"irnet --set model={TEACHER}", 5),
    "reactnet20": (f"reactnet --set teacher={TEACHER}:cifar10 --set batch_size=128", 6),
    "irnet_resnet20": ("irnet", 7),
    "irnet_resnet20_1w32a": ("irnet --set model=irnet_resnet20_1w32a --set t_min=0.1", 5),
    "birealnet20": ("birealnet --set batch_size=128", 5),
    "ftbnn20": ("ftbnn --set batch_size=128", 5),
    "ftbnn20_grouped": ("ftbnn --set model=ftbnn20_grouped --set batch_size=128", 5),
    "wide_resnet_20_1": ("mcdonnell --set width=1 --set cutout=false", 62),
    "wide_resnet_20_2": ("mcdonnell --set width=2 --set cutout=false", 30),
}


def main() -> None:
    """Train and register."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, help="of each stage (default: what each is listed with)")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="so many at once (default: 1)")
    options = parser.parse_args()
    chosen = {model: run for model, run in RUNS.items() if options.only in model}
    data, failed = ["--data-dir", options.data_dir], 0
    for models in (chosen.keys() & {TEACHER}, [model for model in chosen if model != TEACHER]):
        commands, folders = {}, {}
        for model in models:
            words, listed = chosen[model]
            epochs = options.epochs or listed
            folders[model] = str(options.output / f"{model}-{epochs}")
            length = ["--output", folders[model], "--epochs", str(epochs)]
            # A process each: TensorFlow keeps what one training made until the process ends.
            commands[model] = [sys.executable, "-m", "onebit", "train", *words.split(), *data, *length]
        for model, succeeded in run_all(commands, options.jobs, options.output):
            if succeeded:
                register = [sys.executable, str(Path(__file__).with_name("register.py"))]
                succeeded = subprocess.run([*register, folders[model], model, *data], check=False).returncode == 0
            failed += not succeeded
    sys.exit(f"{failed} of the networks failed." if failed else 0)


if __name__ == "__main__":
    main()
