"""What the pages say: figures from the registry and from the records that lie beside the weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onebit import recipes, zoo
from onebit.util.files import replacing

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "zoo" / "data"


def results() -> list[zoo.Weights]:
    """Return the weights for CIFAR-10 that this project trained, the most accurate first."""
    ours = [row for row in zoo.list_weights() if row.dataset == "cifar10" and row.recipe is not None]
    return sorted(ours, key=lambda row: -row.metrics["top1"])


def measured_of_others() -> list[zoo.Weights]:
    """Return the weights for CIFAR-10 of other people that were measured here, the most accurate first."""
    theirs = [row for row in zoo.list_weights() if row.dataset == "cifar10" and row.recipe is None and row.metrics]
    return sorted(theirs, key=lambda row: -row.metrics["top1"])


def bits(model: str) -> str:
    """Return the bits of a model's weights and activations, such as ``1 / 32``, first and last layers apart."""
    count = zoo.recorded_counts()[model]
    return f"{1 if count.binary_parameters else 32} / {1 if count.binary_macs else 32}"


def record_of(row: zoo.Weights) -> dict[str, Any]:
    """Return the record of the run that trained weights of ours."""
    return json.loads((DATA / row.file).with_suffix(".json").read_text(encoding="utf-8"))


def seeds(row: zoo.Weights) -> list[float]:
    """Return the accuracy of the last epoch, in percent, of each run that was made as these weights were, by seeds."""
    return [row.metrics["top1"], *record_of(row).get("other_seeds", {}).values()]


def best_epoch(row: zoo.Weights) -> float | None:
    """Return the best epoch's accuracy on the test images in percent, where the run measured all of them."""
    if "validation" in record_of(row):
        return None
    with (DATA / row.file).with_suffix(".csv").open(encoding="utf-8") as file:
        columns = ("val_accuracy", "test_accuracy")  # validation images, or the test images where there are none
        measured = [float(epoch[name]) for epoch in csv.DictReader(file) for name in columns if epoch.get(name)]
    return 100 * max(measured) if measured else None


def recipe_of(record: Mapping[str, Any]) -> recipes.Recipe:
    """Return the recipe of a run, with the run's settings."""
    return recipes.get_recipe(record["recipe"], **record["settings"])


def default_recipe(record: Mapping[str, Any]) -> recipes.Recipe:
    """Return the recipe of a run with its defaults for the run's network and data set: the paper's, where known."""
    which = {name: record["settings"][name] for name in ("model", "dataset") if name in record["settings"]}
    return recipes.get_recipe(record["recipe"], **which)


def epochs_of(record: Mapping[str, Any]) -> str:
    """Return how long a run was, such as ``30``, ``2 x 30`` for two stages, or ``219 of 240`` for one cut short."""
    planned = length(recipe_of(record))
    done = record.get("epochs_done", record.get("epochs_planned"))
    return planned if done == record.get("epochs_planned") else f"{done} of {planned}"


def length(recipe: recipes.Recipe) -> str:
    """Return the epochs of a recipe's stages."""
    lengths = [stage.epochs for stage in recipe.stages]
    if len(lengths) > 1 and len(set(lengths)) == 1:
        return f"{len(lengths)} x {lengths[0]}"
    return " + ".join(map(str, lengths))


def device(record: Mapping[str, Any]) -> str:
    """Return what a run was computed on."""
    return record.get("device", "")


def write_rows(path: Path, rows: Mapping[str, Any]) -> None:
    """Write an object as JSON with one entry to a line, so that a change of one shows as one line."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    with replacing(path) as temporary:
        temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
