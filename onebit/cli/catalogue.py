"""What the zoo has, for commands that only show it: read from records, so that TensorFlow is not imported."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..zoo import Entry

COUNTS = ("parameters", "binary_parameters", "memory", "float32_memory", "binary_macs", "float_macs")


@functools.cache
def models() -> dict[str, dict[str, Any]]:
    """Return a row for each registered model, by its name: see `describe`; with ``counts`` (or ``None``), and with the
    rows of its registered ``weights``, which have what they expect at their input as ``input``.

    ``tools/report.py`` records them. Where a paper has no record yet, TensorFlow is imported after all.
    """
    zoo = _folder()
    papers = [path.stem for path in sorted(zoo.glob("*.py")) if "\n@register(" in path.read_text("utf-8")]
    records = [zoo / "data" / "models" / f"{name}.json" for name in [*papers, "larq_zoo"]]
    rows = (
        [row for path in records for row in _read(path)]
        if all(path.exists() for path in records)
        else [row for rows in described().values() for row in rows]
    )
    counts = {name: row for path in (zoo / "data" / "counts").glob("*.json") for name, row in _read(path).items()}
    weights: dict[str, list[dict[str, Any]]] = {}
    for path in (zoo / "data" / "weights").glob("*.json"):
        for each in _read(path):
            weights.setdefault(each["model"], []).append(each)
    for row in rows:
        inputs = row.pop("weights")
        row["counts"] = counts.get(row["model"])
        row["weights"] = [{**each, "input": inputs.get(each["tag"])} for each in weights.get(row["model"], [])]
    return {row["model"]: row for row in rows}


def described() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all registered models, as they are recorded, by the module of their paper."""
    from .. import zoo

    found: dict[str, list[dict[str, Any]]] = {}
    for name in [*zoo.list_models(), *zoo.list_models("larq/*")]:
        entry = zoo.entry(name)
        module = "larq_zoo" if entry.is_delegated else entry.build.__module__.rpartition(".")[2]
        found.setdefault(module, []).append(describe(entry))
    return found


def describe(entry: Entry) -> dict[str, Any]:
    """Return what there is to say of a registered model, as JSON can hold it.

    Its ``weights`` are what each tag of its registered weights expects at the input, as ``input`` is for none.
    """
    from .. import zoo
    from ..zoo.images.images import for_dataset

    paper = entry.paper
    return {
        "model": entry.name,
        "function": entry.build.__name__,
        "arguments": dict(entry.arguments),
        "call": entry.call,
        "input_shape": list(entry.native_shape),
        "paper": {name: getattr(paper, name) for name in ("title", "authors", "venue", "arxiv")},
        "top1": paper.top1.get(entry.name),
        "note": entry.note or None,
        "input": dataclasses.replace(entry.build.spec.preprocessing, size=entry.native_shape[:2]).to_dict(),
        "weights": {
            row.tag: dataclasses.replace(
                for_dataset(row.preprocessing, row.dataset), size=entry.native_shape[:2]
            ).to_dict()
            for row in zoo.list_weights(entry.name)
        },
    }


def _folder() -> Path:
    """Return the zoo's folder, without importing the zoo."""
    found = importlib.util.find_spec("onebit.zoo")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
