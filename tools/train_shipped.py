"""Train the networks whose weights ship with the package, and register each when it is done.

    python tools/train_shipped.py --data-dir DATA --output RUNS [--epochs N] [--only TEXT] [--jobs 2]

Each is a run of ``onebit train`` in a folder of its own, by its paper's recipe except for the length: stopped and
started again, it goes on where it was. The teacher comes first, because ReActNet learns from it. A network of another
length than the listed one is trained, but not registered. `tools/report.py` then renews the documents.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from jobs import number_of_jobs, run_all

TEACHER = "irnet_resnet20_real"


@dataclass(frozen=True)
class Run:
    """How a network was trained, where that differs from its recipe's defaults.

    Attributes:
        recipe: Name of the recipe.
        epochs: Epochs of each stage.
        settings: Settings that differ from the recipe's defaults.
        precision: Arithmetic, on whatever machine the run is repeated.
    """

    recipe: str
    epochs: int
    settings: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"

    def command(self, data_dir: str, output: str, epochs: int) -> list[str]:
        """Return the words of ``onebit train``."""
        settings = [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        length = ["--epochs", str(epochs), "--precision", self.precision]
        return ["train", self.recipe, *settings, *length, "--data-dir", data_dir, "--output", output]


SMALL = {"batch_size": "128"}  # the papers' batches are ImageNet's
RUNS = {
    TEACHER: Run("irnet", 14, {"model": TEACHER}, "mixed_bfloat16"),
    "reactnet20": Run("reactnet", 25, SMALL, "mixed_bfloat16"),
    "irnet_resnet20": Run("irnet", 68, precision="mixed_bfloat16"),
    "irnet_resnet20_1w32a": Run("irnet", 68, {"model": "irnet_resnet20_1w32a"}, "mixed_bfloat16"),
    "birealnet20": Run("birealnet", 68, SMALL, "mixed_bfloat16"),
    "ftbnn20": Run("ftbnn", 68, SMALL, "mixed_bfloat16"),
    "ftbnn20_grouped": Run("ftbnn", 20, {"model": "ftbnn20_grouped", **SMALL}, "mixed_bfloat16"),
    "wide_resnet_20_1": Run("mcdonnell", 62, {"width": "1", "cutout": "false"}),
    "wide_resnet_20_2": Run("mcdonnell", 30, {"width": "2", "cutout": "false"}),
}


def main() -> None:
    """Train and register."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, help="of each stage (default: what each is listed with)")
    parser.add_argument("--only", default="", help="models with this in their names")
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="how many at once (default: 1)")
    options = parser.parse_args()
    chosen = {model: run for model, run in RUNS.items() if options.only in model}
    failed, lengths = 0, {}
    for models in (chosen.keys() & {TEACHER}, [model for model in chosen if model != TEACHER]):
        commands, folders = {}, {}
        for model in models:
            epochs = lengths[model] = options.epochs or chosen[model].epochs
            folders[model] = str(options.output / f"{model}-{epochs}")
            words = chosen[model].command(options.data_dir, folders[model], epochs)
            # A process each: TensorFlow keeps what one run made until the process ends.
            commands[model] = [sys.executable, "-m", "onebit", *words]
        for model, succeeded in run_all(commands, options.jobs, options.output):
            if succeeded and lengths[model] == RUNS[model].epochs:
                register = [sys.executable, str(Path(__file__).with_name("register.py"))]
                succeeded = (
                    subprocess.run(
                        [*register, folders[model], model, "--data-dir", options.data_dir], check=False
                    ).returncode
                    == 0
                )
            failed += not succeeded
        if failed and TEACHER in models:
            sys.exit(f"{TEACHER} failed: what learns from it would learn from an earlier one.")
    sys.exit(f"{failed} of the networks failed." if failed else 0)


if __name__ == "__main__":
    main()
