"""``onebit list``: the models of the zoo, or its weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from ..util.formatting import format_bytes, format_count, natural_key
from .arguments import WHERE_MODELS_ARE, json_option
from .loading import import_tensorflow, no_weights_message
from .output import console, print_json, table


@click.command("list", short_help="List the models, or their weights.")
@click.argument("pattern", default="*")
@click.option("--weights", "weights", is_flag=True, help="List the registered weights instead of the models.")
@json_option
def command(pattern: str, weights: bool, as_json: bool) -> None:
    """List models whose names match PATTERN, such as 'wide*'.

    A PATTERN without a wildcard matches any part of a name. larq-zoo's models are listed apart: onebit list larq/
    """
    import_tensorflow()
    from .. import zoo

    names = zoo.list_models(pattern if any(c in pattern for c in "*?[") else f"*{pattern}*")
    names = sorted(names, key=natural_key)
    if not names:
        raise click.UsageError(f"No model's name matches {pattern!r}. {WHERE_MODELS_ARE}")
    if weights:
        _weights(names, as_json)
        return
    counts = zoo.recorded_counts()
    rows: list[dict[str, Any]] = []
    for name in names:
        paper = dataclasses.asdict(zoo.entry(name).paper)
        top1 = paper.pop("top1").get(name)  # of all the models of the paper
        del paper["counts"]
        tags = [row.tag for row in zoo.list_weights(name)]
        rows.append({"model": name, **paper, "paper_top1": top1, "counts": counts.get(name), "weights": tags})
    if as_json:
        print_json(rows)
        return
    numeric = ("parameters", "1-bit", "memory", "1-bit MACs", "other MACs")
    result = table("model", *numeric, "weights", "paper", numbers=numeric)
    for row in rows:
        count = row["counts"]
        figures = ("",) * 5
        if count:
            figures = (
                format_count(count.parameters),
                format_count(count.binary_parameters),
                format_bytes(count.memory),
                format_count(count.binary_macs),
                format_count(count.float_macs),
            )
        result.add_row(row["model"], *figures, ", ".join(row["weights"]), f"{row['venue']}, {row['arxiv']}")
    console().print(result)


def _weights(names: list[str], as_json: bool) -> None:
    from .. import zoo

    rows = [row for name in names for row in zoo.list_weights(name)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(no_weights_message(names[0]))
        return
    result = table(
        "model", "weights", "dataset", "top-1 here", "published", "file", "licence", numbers=("top-1 here", "published")
    )
    for row in rows:
        here, published = (f"{m['top1']:.2f} %" if "top1" in m else "" for m in (row.metrics, row.published))
        where = (format_bytes(row.size) if row.size else "") + (
            "" if row.url else ", by hand" if row.page else ", in the package"
        )
        result.add_row(row.model, row.tag, row.dataset, here, published, where, row.licence)
    console().print(result)
