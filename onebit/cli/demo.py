"""``onebit demo``: the main job, offline."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import json_option
from .loading import import_tensorflow
from .output import console, print_json


@click.command("demo", short_help="Evaluate, fine-tune and pack a 1-bit network, offline.")
@click.option(
    "--output",
    "-o",
    default="onebit-demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the packed file and the picture.",
)
@click.option("--images", type=click.IntRange(100, 1000), default=1000, show_default=True, help="Sample images to use.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of fine-tuning.")
@click.option("--weights", hidden=True, help="Other weights of the same network.")
@json_option
def command(output: Path, images: int, epochs: int, weights: str | None, as_json: bool) -> None:
    """Load a 1-bit network, evaluate and fine-tune it, save it packed, draw a picture; needs no internet connection."""
    import_tensorflow()
    from . import demo_run as demo

    say = (lambda text: None) if as_json else console().print
    result = demo.run(
        output, weights=weights or demo.WEIGHTS, images=images, epochs=epochs, say=say, verbose=0 if as_json else 1
    )
    if as_json:
        print_json(result)
    else:
        say(f"\nDone in {result.seconds:.0f} s.")
