"""The comparisons that the papers are known for, all at one short schedule.

    python benchmarks/ablations.py --data-dir DATA --output RUNS [--epochs 20] [--seeds 1 2 3] [--only TEXT]
                                   [--jobs 2]

Trains one network after the other, or several at once, each as ``onebit train`` does, in a folder of its own: stopped
and started again, it goes on where it was; one that fails does not keep the others from their turn. Whatever is
finished goes into ``benchmarks/ablations.json``, from which ``benchmarks/report.py`` writes ``docs/ablations.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import number_of_jobs, run_all
from rows import write_rows
from variants import VARIANTS, Variant, changed

FILE = Path(__file__).with_suffix(".json")


def train(variant: Variant, folder: Path, data_dir: str | None, epochs: int, seed: int, limit: int | None) -> None:
    """Run one variant to its end."""
    from onebit import recipes

    recipe = recipes.get_recipe(variant.recipe, epochs=epochs, **variant.settings)
    if variant.change:
        recipe = changed(recipe, variant.change)
    recipes.train(recipe, folder, data_dir=data_dir, seed=seed, limit=limit)


def collect(output: Path, epochs: int, seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return earlier figures of this length, and those of all runs that are finished, in the order of the studies."""
    found = {(row["study"], row["variant"], row["seed"]): row for row in rows if row["epochs"] == epochs}
    for number, variant in enumerate(VARIANTS):
        for seed in seeds:
            record = folder_of(output, number, epochs, seed, None) / "record.json"
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
    return [found[key] for key in sorted(found, key=lambda key: (places[key[:2]], key[2]))]


def folder_of(output: Path, number: int, epochs: int, seed: int, limit: int | None) -> Path:
    """Return the folder of a run; a variant that two studies share has one."""
    same = [(each.recipe, each.settings, each.change) for each in VARIANTS]
    first = same.index(same[number])
    parts = (VARIANTS[first].recipe, first, epochs, seed, *([limit] if limit else []))
    return output / "-".join(map(str, parts))


def record(options: argparse.Namespace) -> None:
    """Write the figures of whatever is finished; a trial on some of the images has none."""
    if options.limit is None:
        before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
        write_rows(FILE, collect(options.output, options.epochs, options.seeds, before))


def main() -> None:
    """Train what is not finished, one process for each run, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=20, help="of each stage (default: 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(default: 1)")
    parser.add_argument("--only", default="", help="what has this in 'study: variant'")
    parser.add_argument("--limit", type=int, help="so many images only, for a trial; records nothing")
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="so many at once (default: 1)")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        folder = folder_of(options.output, options.run, options.epochs, options.seeds[0], options.limit)
        train(VARIANTS[options.run], folder, options.data_dir, options.epochs, options.seeds[0], options.limit)
        return
    commands = {}
    for seed in options.seeds:
        for number, variant in enumerate(VARIANTS):
            folder = folder_of(options.output, number, options.epochs, seed, options.limit)
            if options.only in f"{variant.study}: {variant.name}" and not (folder / "record.json").exists():
                same = ["--epochs", options.epochs, "--output", options.output, "--seeds", seed, "--run", number]
                given = [("--data-dir", options.data_dir), ("--limit", options.limit)]
                same += [word for pair in given if pair[1] is not None for word in pair]
                print(f"{folder.name} is {variant.study}: {variant.name}, seed {seed}", flush=True)
                # A process each: TensorFlow keeps what one training made until the process ends.
                commands[folder.name] = [sys.executable, __file__, *map(str, same)]
    failed = 0
    for _, succeeded in run_all(commands, options.jobs, options.output):
        failed += not succeeded
        record(options)
    record(options)
    sys.exit(f"{failed} runs failed." if failed else 0)


if __name__ == "__main__":
    main()
