"""``onebit summary``: Larq's table of a model's layers."""

from __future__ import annotations

from typing import Any

import click

from ..util.formatting import printable
from .arguments import Shape, json_option, model_argument, refuse
from .catalogue import models
from .loading import import_tensorflow
from .output import print_json


@click.command("summary", short_help="Larq's table of a model's layers.")
@model_argument
@click.option("--input-shape", type=Shape(), help="Count at this input shape. Default: the paper's.")
@click.option("--num-classes", type=click.IntRange(1), help="Classes of the classifier. Default: the paper's.")
@json_option
def command(model: str, input_shape: tuple[int, int, int] | None, num_classes: int | None, as_json: bool) -> None:
    """Print MODEL's layers: outputs, parameters by precision, memory, multiply-accumulates."""
    import_tensorflow()
    import larq

    from .. import zoo

    if model in models():
        built = zoo.load(model, input_shape=input_shape, num_classes=num_classes)
    else:
        refuse(f"on {printable(model)}, which is a file", "input_shape", "num_classes")
        built = zoo.load_packed(model)
    if as_json:
        layers = [_layer(profile) for profile in larq.models.ModelProfile(built).layer_profiles]
        print_json({"model": model, "input_shape": built.input_shape[1:], "counts": zoo.count(built), "layers": layers})
    else:
        larq.models.summary(built, print_fn=click.echo)


def _layer(profile: Any) -> dict[str, Any]:
    """Return a row of Larq's table under the names of `zoo.Counts`; memory is in bytes, and may be a few bits."""
    macs, binary_macs = profile.op_count("mac"), profile.op_count("mac", 1)
    return {
        "name": profile.name,
        "input_precision": profile.input_precision,
        "output_shape": profile.output_shape,
        "parameters": profile.weight_count(),
        "binary_parameters": profile.weight_count(1),
        "memory": profile.memory / 8,
        "binary_macs": binary_macs,
        "float_macs": None if macs is None else macs - binary_macs,
    }
