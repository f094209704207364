"""``onebit info``: one model, its paper and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ..util.formatting import format_bytes, format_count
from .arguments import json_option, model_argument
from .loading import no_weights_message
from .output import console, print_json, table

if TYPE_CHECKING:
    from ..zoo import Weights


@click.command("info", short_help="A model's paper, size and weights.")
@model_argument
@json_option
def command(model: str, as_json: bool) -> None:
    """Show what MODEL is, how large, and which weights there are for it."""
    import dataclasses

    from .. import zoo

    entry, rows = zoo.entry(model), zoo.list_weights(model)
    counts = zoo.recorded_counts().get(model) or zoo.count(zoo.load(model))
    if as_json:
        print_json(
            {
                "model": model,
                "function": entry.build.__name__,
                "arguments": dict(entry.arguments),
                "input_shape": entry.native_shape,
                "paper": {
                    **dataclasses.asdict(dataclasses.replace(entry.paper, counts={})),
                    "top1": entry.paper.top1.get(model),
                },
                "note": entry.note or None,
                "counts": {**dataclasses.asdict(counts), "ops": counts.ops},
                "weights": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    out = console()
    paper = entry.paper
    facts = table("", "", title=model)
    facts.show_header = False
    facts.add_row("call", entry.call)
    facts.add_row("paper", f"{paper.authors}, {paper.title}, {paper.venue}, arXiv {paper.arxiv}")
    facts.add_row("input", " x ".join(map(str, entry.native_shape)))
    total, binary = format_count(counts.parameters), format_count(counts.binary_parameters)
    facts.add_row("parameters", f"{total}, {binary} of them 1-bit")
    facts.add_row("memory", f"{format_bytes(counts.memory)}; all in float32: {format_bytes(counts.float32_memory)}")
    macs = f"{format_count(counts.binary_macs)} 1-bit, {format_count(counts.float_macs)} others"
    facts.add_row("MACs", f"{macs}; by the papers' rule (others and 1/64 of the 1-bit) {format_count(counts.ops)} OPs")
    if entry.note:
        facts.add_row("note", entry.note)
    out.print(facts)
    for row in rows:
        out.print(_weights(row))
    if not rows:
        out.print(no_weights_message(model), markup=False)


def _weights(row: Weights) -> Table:
    result = table("", "", title=f"weights {row.tag!r}")
    result.show_header = False
    result.add_row("trained on", f"{row.dataset}, {row.num_classes} classes")
    for name, metrics in (("measured here", row.metrics), ("published", row.published)):
        result.add_row(name, _metrics(metrics) or "-")
    where = (
        "downloaded when first used"
        if row.url
        else f"to be downloaded from {row.page}"
        if row.page
        else "in the package"
    )
    result.add_row("file", ", ".join([row.file, *([format_bytes(row.size)] if row.size else []), where]))
    result.add_row("input", row.preprocessing)
    result.add_row("licence", row.licence)
    result.add_row("source", row.source)
    for name in ("recipe", "note"):
        if getattr(row, name):
            result.add_row(name, getattr(row, name))
    return result


def _metrics(metrics: Mapping[str, Any]) -> str:
    named = {"top1": "top-1 {} %", "top5": "top-5 {} %"}
    return ", ".join(named[key].format(value) if key in named else f"{key}: {value}" for key, value in metrics.items())
