"""What our own training runs reached, from the registry and the records that lie beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onebit import recipes, zoo

WHICH = ("model", "dataset")
DATA = Path(__file__).resolve().parents[1] / "zoo" / "data"


def results() -> list[zoo.Weights]:
    """Return the weights for CIFAR-10 that we trained, the most accurate first."""
    ours = [row for row in zoo.list_weights() if row.dataset == "cifar10" and row.recipe is not None]
    return sorted(ours, key=lambda row: -row.metrics["top1"])


def record_of(row: zoo.Weights) -> dict[str, Any]:
    """Return the record of the run that trained weights of ours."""
    return json.loads((DATA / row.file).with_suffix(".json").read_text(encoding="utf-8"))


def paper_top1(model: str, weights: zoo.Weights | None = None) -> float | None:
    """Return the accuracy that the paper reports for a model, if it does so for the data set of these weights."""
    # It reports ImageNet's or CIFAR-10's, never CIFAR-100's.
    comparable = weights is None or weights.num_classes in (10, 1000)
    return zoo.entry(model).paper.top1.get(model) if comparable else None


def epochs_of(record: dict[str, Any]) -> str:
    """Return how long a run was, such as ``30``, or ``2 x 30`` for one of two stages."""
    return _epochs(recipes.get_recipe(record["recipe"], **record["settings"]))


def paper_epochs(record: dict[str, Any]) -> str:
    """Return the length of the recipe's own schedule: the paper's, where it gives one."""
    return _epochs(default_recipe(record))


def default_recipe(record: dict[str, Any]) -> recipes.Recipe:
    """Return a run's recipe with its defaults, which depend on the run's network and dataset."""
    which = {name: record["settings"][name] for name in WHICH if name in record["settings"]}
    return recipes.get_recipe(record["recipe"], **which)


def _epochs(recipe: recipes.Recipe) -> str:
    lengths = [stage.epochs for stage in recipe.stages]
    if len(lengths) > 1 and len(set(lengths)) == 1:
        return f"{len(lengths)} x {lengths[0]}"
    return " + ".join(map(str, lengths))
