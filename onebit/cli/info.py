"""``onebit info``: one model, its paper and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from ..util import hub
from ..util.formatting import describe_counts, describe_input, format_bytes, format_count
from .arguments import json_option, model_argument
from .catalogue import COUNTS, models
from .loading import import_tensorflow, no_weights_message
from .output import console, facts, print_json


@click.command("info", short_help="A model's paper, size and weights, or a packed file's.")
@model_argument
@json_option
def command(model: str, as_json: bool) -> None:
    """Show what MODEL is, how large, which weights there are for it, and what images they expect.

    MODEL is a registered model or a packed file, here or on the Hugging Face Hub (hf://USER/REPO).
    """
    if model not in models():
        _file(model, as_json)
        return
    row = models()[model]
    counts = row["counts"] or _counted(model)
    ops = counts["float_macs"] + counts["binary_macs"] / 64
    if as_json:
        shown = {name: row[name] for name in ("model", "function", "arguments", "input_shape", "input", "note")}
        paper = {**row["paper"], "top1": row["top1"]}
        print_json({**shown, "paper": paper, "counts": {**counts, "ops": ops}, "weights": row["weights"]})
        return
    out, paper = console(), row["paper"]
    result = facts(model)
    result.add_row("call", row["call"])
    result.add_row("paper", f"{paper['authors']}, {paper['title']}, {paper['venue']}, arXiv {paper['arxiv']}")
    result.add_row("input", " x ".join(map(str, row["input_shape"])))
    sizes = describe_counts(counts)
    result.add_row("parameters", sizes["parameters"])
    result.add_row("memory", sizes["memory"])
    by_papers = f"by the papers' rule (others and 1/64 of the 1-bit) {format_count(ops)} OPs"
    result.add_row("MACs", f"{sizes['multiply-accumulates']}; {by_papers}")
    if row["note"]:
        result.add_row("note", row["note"])
    out.print(result)
    for weights in row["weights"]:
        out.print(_weights(weights))
    if not row["weights"]:
        out.print(no_weights_message(model), markup=False)


def _weights(row: Mapping[str, Any]) -> Table:
    result = facts(f"weights {row['tag']!r}")
    result.add_row("trained on", f"{row['dataset']}, {row['num_classes']} classes")
    for name in ("metrics", "published"):
        result.add_row({"metrics": "measured here"}.get(name, name), _metrics(row[name]) or "-")
    where = (
        "downloaded when first used"
        if row["url"]
        else f"to be downloaded from {row['page']}"
        if row.get("page")
        else "in the package"
    )
    result.add_row("file", ", ".join([row["file"], *([format_bytes(row["size"])] if row["size"] else []), where]))
    result.add_row("images", describe_input(row["input"]))
    for name in ("licence", "source", "recipe", "note"):
        if row.get(name):
            result.add_row(name, str(row[name]))
    return result


def _file(name: str, as_json: bool) -> None:
    """Show what a packed file says of itself."""
    import_tensorflow()
    from ..zoo.checkpoints.packed_file import PackedFile
    from ..zoo.images.images import resolve_preprocessing
    from ..zoo.registry import function

    path = hub.local(name)
    file = PackedFile(path)
    header = {name: value for name, value in file.header.items() if name != "kernels"}
    usual = function(file.function).spec.preprocessing if file.function else None
    given = resolve_preprocessing(file.preprocessing, usual) if usual else file.preprocessing
    expected = None if given is None or isinstance(given, str) else given.to_dict()
    if as_json:
        print_json({"file": name, "bytes": os.path.getsize(path), **header, "preprocessing": expected})
        return
    result = facts(name)
    result.add_row("file", f"packed, format {header['format']}, {format_bytes(os.path.getsize(path))}")
    arguments = ", ".join(f"{name}={value!r}" for name, value in (header["arguments"] or {}).items())
    result.add_row("call", f"zoo.{file.function}({arguments})" if file.function else "a model that is not the zoo's")
    if expected:
        result.add_row("images", describe_input(expected))
    for name in ("class_names", "source", "metrics"):
        if value := header.get(name):
            text = _metrics(value) if isinstance(value, dict) else value if isinstance(value, str) else ", ".join(value)
            result.add_row(name.replace("_", " "), text)
    console().print(result)


def _counted(model: str) -> dict[str, Any]:
    """Return the counts of a model that has none on record."""
    import_tensorflow()
    from .. import zoo

    counts = zoo.count(zoo.load(model))
    return {name: getattr(counts, name) for name in COUNTS}


def _metrics(metrics: Mapping[str, Any]) -> str:
    named = {"top1": "top-1 {} %", "top5": "top-5 {} %"}
    return ", ".join(named[key].format(value) if key in named else f"{key}: {value}" for key, value in metrics.items())
