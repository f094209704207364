"""``onebit convert``: anybody's checkpoint as a packed file."""

from __future__ import annotations

from pathlib import Path

import click

from ..util.formatting import format_bytes
from .arguments import ModelName, Shape, classes_option, json_option, preprocessing_option
from .loading import import_tensorflow, read_class_names
from .output import console, print_json


@click.command("convert", short_help="Turn an official checkpoint into a packed file.")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "-m", required=True, type=ModelName(), help="The registered model that it belongs to.")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option(
    "--num-classes",
    type=click.IntRange(1),
    help="Classes of the classifier, which starts anew where SOURCE has others. Default: SOURCE's, else the paper's.",
)
@click.option("--input-shape", type=Shape(), help="Shape of the images. Default: SOURCE's, else the paper's.")
@preprocessing_option
@classes_option
@json_option
def command(
    source: Path,
    model: str,
    output: Path,
    num_classes: int | None,
    input_shape: tuple[int, int, int] | None,
    preprocessing: str | None,
    classes: str | None,
    as_json: bool,
) -> None:
    """Write the checkpoint SOURCE as a packed file.

    SOURCE is an official PyTorch checkpoint of Bi-Real Net, ReActNet or IR-Net, one of McDonnell's .mat files,
    larq-zoo's .h5 of Bi-Real Net, or a Keras file. Every tensor must fit. A Keras file does not say how many
    classes its network has, what images it takes and how these are preprocessed: the options do.
    """
    import_tensorflow()
    from .. import zoo

    zoo.convert(
        source,
        model,
        output,
        preprocessing=preprocessing,
        class_names=None if classes is None else read_class_names(classes),
        num_classes=num_classes,
        input_shape=input_shape,
    )
    before, after = source.stat().st_size, output.stat().st_size
    if as_json:
        print_json({"source": str(source), "source_bytes": before, "file": str(output), "packed_bytes": after})
        return
    console().print(f"{source} ({format_bytes(before)}) is now {output} ({format_bytes(after)}).", markup=False)
