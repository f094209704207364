"""Comparisons from the papers, all at one short schedule.

    python benchmarks/ablations.py --data-dir DATA --output RUNS [--epochs N] [--seeds 1 2 3] [--only TEXT]
                                   [--jobs 2]

Trains one network after the other, or several at once, each as ``onebit train`` does, in a folder of its own: stopped
and started again, it goes on where it was; one that fails does not keep the others from their turn. Whatever is
finished goes into ``benchmarks/ablations.json``, from which ``benchmarks/report.py`` writes ``docs/ablations.md``.
All figures in it are of one length: move the file away to compare at another.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import number_of_jobs, run_all
from rows import write_rows
from variants import VARIANTS, Variant, changed

FILE = Path(__file__).with_suffix(".json")
PRECISION = "mixed_bfloat16"  # of all, wherever they are trained


def train(variant: Variant, folder: Path, data_dir: str | None, epochs: int, seed: int, limit: int | None) -> None:
    """Run one variant to its end. The stages of a recipe share the epochs."""
    from onebit import recipes

    stages = len(recipes.get_recipe(variant.recipe, **variant.settings).stages)
    recipe = recipes.get_recipe(variant.recipe, epochs=epochs // stages, **variant.settings)
    if variant.change:
        recipe = changed(recipe, variant.change)
    recipes.train(recipe, folder, data_dir=data_dir, seed=seed, limit=limit, precision=PRECISION)


def collect(output: Path, epochs: int, seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return earlier figures, and those of all runs that are finished, in the order of the studies."""
    found = {(row["study"], row["variant"], row["seed"]): row for row in rows}
    for variant in VARIANTS:
        for seed in seeds:
            record = folder_of(output, variant, epochs, seed, None) / "record.json"
            if record.exists():
                run = json.loads(record.read_text(encoding="utf-8"))
                found[variant.study, variant.name, seed] = {
                    "study": variant.study,
                    "variant": variant.name,
                    "seed": seed,
                    "epochs": epochs,
                    "top1": round(run["test"]["top1"], 2),
                    "seconds": run["seconds"],
                }
    places = {(variant.study, variant.name): place for place, variant in enumerate(VARIANTS)}
    if gone := {key[:2] for key in found} - places.keys():
        sys.exit(f"{FILE} has figures of variants that are no more, such as {min(gone)}: rename or remove them there.")
    return [found[key] for key in sorted(found, key=lambda key: (places[key[:2]], key[2]))]


def folder_of(output: Path, variant: Variant, epochs: int, seed: int, limit: int | None) -> Path:
    """Return the folder of a run, named after all that tells it from others: what two studies share is run once."""
    settings = [f"{name}={value}" for name, value in variant.settings.items()]
    parts = [variant.recipe, *([variant.change] if variant.change else []), *settings, f"{epochs}x", f"seed{seed}"]
    return output / re.sub(r"[^\w.=-]", "_", "-".join([*parts, *([f"limit{limit}"] if limit else [])]))


def recorded() -> list[Any]:
    """Return the figures of earlier runs."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []


def record(options: argparse.Namespace) -> None:
    """Write the figures of whatever is finished; a trial on some of the images has none."""
    if options.limit is None:
        write_rows(FILE, collect(options.output, options.epochs, options.seeds, recorded()))


def main() -> None:
    """Train what is not finished, one process for each run, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument(
        "--epochs", type=int, help="of each run, an even number (default: as in the figures there, else 20)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(default: 1)")
    parser.add_argument("--only", default="", help="variants with this in 'study: variant'")
    parser.add_argument("--limit", type=int, help="use only this many images, for a trial; records nothing")
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="how many at once (default: 1)")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    lengths = {row["epochs"] for row in recorded()}
    if options.epochs is None:
        options.epochs = max(lengths, default=20)
    if options.epochs < 2 or options.epochs % 2:
        parser.error(f"--epochs must be even, for recipes of two stages, not {options.epochs}.")
    if options.limit is None and lengths - {options.epochs}:
        parser.error(f"{FILE} has figures of {max(lengths)} epochs: move it away to record some of {options.epochs}.")
    if options.run is not None:
        variant = VARIANTS[options.run]
        folder = folder_of(options.output, variant, options.epochs, options.seeds[0], options.limit)
        train(variant, folder, options.data_dir, options.epochs, options.seeds[0], options.limit)
        return
    commands = {}
    for seed in options.seeds:
        for number, variant in enumerate(VARIANTS):
            folder = folder_of(options.output, variant, options.epochs, seed, options.limit)
            if options.only in f"{variant.study}: {variant.name}" and not (folder / "record.json").exists():
                same = ["--epochs", options.epochs, "--output", options.output, "--seeds", seed, "--run", number]
                given = [("--data-dir", options.data_dir), ("--limit", options.limit)]
                same += [word for pair in given if pair[1] is not None for word in pair]
                print(f"{folder.name} is {variant.study}: {variant.name}, seed {seed}", flush=True)
                # A process each: TensorFlow keeps what one run made until the process ends.
                commands[folder.name] = [sys.executable, __file__, *map(str, same)]
    failed = 0
    for _, succeeded in run_all(commands, options.jobs, options.output):
        failed += not succeeded
        record(options)
    record(options)
    sys.exit(f"{failed} runs failed." if failed else 0)


if __name__ == "__main__":
    main()
