"""``onebit convert``: anybody's checkpoint as a packed file."""

from __future__ import annotations

from pathlib import Path

import click

from ._common import console, json_option, print_json, size, start


@click.command("convert", short_help="Turn an official checkpoint into a packed file.")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "-m", required=True, help="The registered model that it belongs to.")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@json_option
def command(source: Path, model: str, output: Path, as_json: bool) -> None:
    """Write the checkpoint SOURCE as a packed file.

    SOURCE is an official PyTorch checkpoint of Bi-Real Net, ReActNet or IR-Net, one of McDonnell's .mat files,
    larq-zoo's .h5 of Bi-Real Net, or a Keras file. Every tensor must fit.
    """
    start()
    from .. import zoo

    zoo.convert(source, model, output)
    before, after = source.stat().st_size, output.stat().st_size
    if as_json:
        print_json({"source": str(source), "source_bytes": before, "file": str(output), "packed_bytes": after})
        return
    console().print(f"{source} ({size(before)}) is now {output} ({size(after)}).", markup=False)
