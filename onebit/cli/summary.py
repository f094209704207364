"""``onebit summary``: Larq's table of a model's layers."""

from __future__ import annotations

import click

from ._common import Shape, json_option, model_argument, print_json


@click.command("summary", short_help="Larq's table of a model's layers.")
@model_argument
@click.option("--input-shape", type=Shape(), help="Count at this input shape. Default: the paper's.")
@click.option("--num-classes", type=click.IntRange(1), help="Classes of the classifier. Default: the paper's.")
@json_option
def command(model: str, input_shape: tuple[int, int, int] | None, num_classes: int | None, as_json: bool) -> None:
    """Print MODEL's layers: outputs, parameters by precision, memory, multiply-accumulates."""
    import larq

    from .. import zoo

    built = zoo.load(model, input_shape=input_shape, num_classes=num_classes)
    if as_json:
        print_json({"model": model, "input_shape": built.input_shape[1:], "counts": zoo.count(built)})
    else:
        larq.models.summary(built, print_fn=click.echo)
