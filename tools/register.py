"""Put the network of a finished run among the weights that ship with the package.

    python tools/register.py RUN MODEL --data-dir DATA [--tag cifar10] [--note TEXT] [--repeated RUN2 RUN3]

Measures the run's packed file on all test images, in float32, then writes into ``zoo/data``: the packed file, the run's
record (settings, seed, versions, wall time) and history, and its row among its paper's in ``weights``. Afterwards
``tools/report.py`` renews the documents.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pages.facts import DATA, default_recipe, recipe_of

from onebit import recipes, zoo
from onebit.cli.sources import open_dataset
from onebit.util.files import replacing


def command(record: dict[str, Any]) -> str:
    """Return the command that repeats a run."""
    settings = chosen(record)
    words = ["onebit", "train", record["recipe"], "--data-dir", "DATA", "--output", "RUN"]
    words += ["--precision", record["precision"], "--seed", str(record["seed"])]
    if "backend" in record:
        words += ["--backend", record["backend"]]
    if "validation" in record:
        words += ["--validation", str(record["validation"])]
    for name, value in settings.items():
        words += ["--set", f"{name}={json.dumps(value) if isinstance(value, bool) else value}"]
    return shlex.join(words)


def chosen(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that differ from its recipe's defaults for that network and dataset."""
    general, specific = recipes.get_recipe(record["recipe"]).settings, default_recipe(record).settings
    return {
        name: value
        for name, value in record["settings"].items()
        if value != (general if name in ("model", "dataset") else specific)[name]
    }


def row(
    record: dict[str, Any], name: str, tag: str, classes: int, content: bytes, figures: zoo.Evaluation
) -> dict[str, Any]:
    """Return the row of the registered weights."""
    measure = f"onebit evaluate {name} --weights {tag} --data {record['data']} --data-dir DATA --precision float32"
    return {
        "model": name,
        "tag": tag,
        "file": f"{name}_{tag}.onebit",
        "url": None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "dataset": record["data"],
        "num_classes": classes,
        "preprocessing": recipe_of(record).preprocessing,
        "metrics": {
            "top1": round(figures.top1, 2),
            "top5": figures.top5 and round(figures.top5, 2),
            "split": recipes.DATASETS[record["data"]].test,
            "images": figures.images,
            "command": measure,
        },
        "published": {},
        "licence": "Apache-2.0",
        "source": "onebit",
        "recipe": command(record),
    }


def other_seeds(record: dict[str, Any], runs: Iterable[Path]) -> dict[str, float]:
    """Return the last epoch's accuracy of runs that repeat a run with other seeds, in percent by seed.

    Raises:
        ValueError: One differs in more than its seed, or has a seed again.
    """
    same, found = ("recipe", "settings", "data", "precision", "training_images"), {}
    for run in runs:
        other = json.loads((run / "record.json").read_text(encoding="utf-8"))
        if different := [name for name in same if other.get(name) != record.get(name)]:
            raise ValueError(f"{run} does not repeat the run: it differs in {', '.join(different)}.")
        if other["seed"] == record["seed"] or str(other["seed"]) in found:
            raise ValueError(f"{run} has seed {other['seed']} again.")
        found[str(other["seed"])] = other["test"]["top1"]
    return found


def main() -> None:
    """Measure and register."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the output folder of onebit train")
    parser.add_argument("model", help="name of the registered model that it trained")
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds the data")
    parser.add_argument("--tag", default="cifar10", help="(default: cifar10)")
    parser.add_argument("--device", help="what it was trained on, where the record does not say")
    parser.add_argument("--note", help="what else a user should know")
    parser.add_argument(
        "--repeated", type=Path, nargs="+", default=(), metavar="RUN", help="runs of the same command with other seeds"
    )
    options = parser.parse_args()
    record = json.loads((options.run / "record.json").read_text(encoding="utf-8"))
    if record.get("limit") is not None:
        parser.error(f"{options.run} is a trial on {record['limit']} images.")
    if record["data"] not in recipes.DATASETS:
        parser.error(f"{options.run} was trained on images that only who gave them can measure it on.")
    if options.device is not None:
        record["device"] = options.device
    if "device" not in record:
        parser.error(f"the record of {options.run} does not say what it was trained on: give --device.")
    try:
        if others := other_seeds(record, options.repeated):
            record["other_seeds"] = others
    except ValueError as error:
        parser.error(str(error))
    packed = options.run / "model.onebit"
    model = zoo.load(options.model, weights=str(packed))
    dataset = open_dataset(record["data"], data_dir=options.data_dir)
    preprocessing = zoo.preprocessing_of(model)
    *size, channels = model.input_shape[1:]
    batches = dataset.batches(tuple(size), preprocessing=preprocessing, batch_size=250, channels=channels)
    figures = zoo.evaluate(model, batches)
    new = row(record, options.model, options.tag, model.output_shape[-1], packed.read_bytes(), figures)
    if options.note:
        new["note"] = options.note
    stem = f"{options.model}_{options.tag}"
    with replacing(DATA / new["file"]) as temporary:
        shutil.copyfile(packed, temporary)
    with replacing(DATA / f"{stem}.csv") as temporary:
        shutil.copyfile(options.run / "history.csv", temporary)
    with replacing(DATA / f"{stem}.json") as temporary:
        record.pop("history", None)
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    file = DATA / "weights" / f"{zoo.entry(options.model).build.__module__.rpartition('.')[2]}.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rest = [old for old in rows if (old["model"], old["tag"]) != (options.model, options.tag)]
    with replacing(file) as temporary:
        temporary.write_text(json.dumps([new, *rest], indent=2) + "\n", encoding="utf-8")
    print(f"{options.model}: {figures.top1:.2f} % top-1 of {figures.images:,} images, {new['size']:,} bytes")


if __name__ == "__main__":
    main()
