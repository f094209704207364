"""``onebit list``: the models of the zoo, or its weights."""

from __future__ import annotations

import fnmatch
from typing import Any

import click

from ..util.formatting import format_bytes, format_count, natural_key
from .arguments import WHERE_MODELS_ARE, json_option
from .catalogue import models
from .loading import no_weights_message
from .output import print_json, print_table


@click.command("list", short_help="List the models, or their weights.")
@click.argument("pattern", default="*")
@click.option("--weights", "weights", is_flag=True, help="List the registered weights instead of the models.")
@json_option
def command(pattern: str, weights: bool, as_json: bool) -> None:
    """List models whose names match PATTERN, such as 'wide*'.

    A PATTERN without a wildcard matches any part of a name. larq-zoo's models are listed apart: onebit list larq/
    """
    wildcard = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    names = [name for name in fnmatch.filter(models(), wildcard) if "/" in pattern or "/" not in name]
    if not names:
        raise click.UsageError(f"No model's name matches {pattern!r}. {WHERE_MODELS_ARE}")
    rows = [models()[name] for name in sorted(names, key=natural_key)]
    if weights:
        _weights(rows, as_json)
    elif as_json:
        print_json([_as_json(row) for row in rows])
    else:
        _models(rows)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    tags = [each["tag"] for each in row["weights"]]
    return {"model": row["model"], **row["paper"], "paper_top1": row["top1"], "counts": row["counts"], "weights": tags}


def _models(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        count = row["counts"]
        figures = ("",) * 5
        if count:
            figures = (
                format_count(count["parameters"]),
                format_count(count["binary_parameters"]),
                format_bytes(count["memory"]),
                format_count(count["binary_macs"]),
                format_count(count["float_macs"]),
            )
        tags = ", ".join(each["tag"] for each in row["weights"])
        cells.append((row["model"], *figures, tags, f"{row['paper']['venue']}, {row['paper']['arxiv']}"))
    numeric = ("parameters", "1-bit", "memory", "1-bit MACs", "other MACs")
    columns = ("model", *numeric, "weights", "paper")
    print_table(columns, cells, numbers=numeric, optional=("paper", "other MACs", "1-bit MACs", "1-bit"))


def _weights(rows: list[dict[str, Any]], as_json: bool) -> None:
    weights = [each for row in rows for each in row["weights"]]
    if as_json:
        print_json(weights)
        return
    if not weights:
        click.echo(no_weights_message(rows[0]["model"]))
        return
    cells = []
    for row in weights:
        here, published = (f"{m['top1']:.2f} %" if "top1" in m else "" for m in (row["metrics"], row["published"]))
        size = format_bytes(row["size"]) if row["size"] else ""
        place = "" if row["url"] else "by hand" if row.get("page") else "in the package"
        where = ", ".join(filter(None, (size, place)))
        cells.append((row["model"], row["tag"], row["dataset"], here, published, where, row["licence"]))
    columns = ("model", "weights", "dataset", "top-1 here", "published", "file", "licence")
    optional = ("licence", "file", "dataset")
    print_table(columns, cells, numbers=("top-1 here", "published"), optional=optional)
