"""``onebit pack``: a model as a packed file."""

from __future__ import annotations

from pathlib import Path

import click

from ..util.formatting import format_bytes
from .arguments import json_option, model_argument, weights_option
from .loading import import_tensorflow, load
from .output import console, print_json, table


@click.command("pack", short_help="Write a packed file: 1 bit for each binary weight.")
@model_argument
@weights_option
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@json_option
def command(model: str, weights: str | None, output: Path, as_json: bool) -> None:
    """Write MODEL with its weights as a packed file: 1 bit for each binary weight."""
    import_tensorflow()
    from .. import zoo

    loaded = load(model, weights)
    source, metrics = (loaded.row.source, loaded.row.metrics) if loaded.row else (Path(loaded.weights).name, None)
    zoo.save_packed(loaded.model, output, source=source, metrics=metrics)
    counts = zoo.count(loaded.model)
    packed, float32 = output.stat().st_size, 4 * loaded.model.count_params()
    figures = {
        "file": str(output),
        "packed_bytes": packed,
        "float32_bytes": float32,
        "ratio": float32 / packed,
        "counts": counts,
    }
    if as_json:
        print_json(figures)
        return
    result = table("", "bytes", "", numbers=("bytes",), title=str(output))
    result.add_row("all parameters in float32", f"{float32:,}", format_bytes(float32))
    result.add_row("packed file", f"{packed:,}", format_bytes(packed))
    result.add_row("ratio", f"{float32 / packed:.1f}", "")
    console().print(result)
