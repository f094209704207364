"""Arguments and options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from ..util import hub
from ..util.formatting import did_you_mean, printable
from .catalogue import models
from .choices import ENGINES
from .loading import import_tensorflow

WHERE_MODELS_ARE = "'onebit list' shows this zoo's, 'onebit list larq/' larq-zoo's."
AUTO_PRECISION = "auto is the fastest on this machine: mixed_bfloat16 where it is fast, else float32"


class ModelName(click.ParamType):
    """The name of a registered model, or where a packed file is; another is an error that suggests the nearest.

    Args:
        or_file: Whether a file will do, here or on the Hugging Face Hub.
    """

    name = "model"

    def __init__(self, or_file: bool = False) -> None:
        self._or_file = or_file

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        is_file = self._or_file and (os.path.exists(value) or hub.is_address(value))
        if value not in models() and not is_file:
            files = ", or a packed file, or hf://USER/REPO" if self._or_file else ""
            near = did_you_mean(value, models())
            self.fail(f"There is no model {printable(value)!r}.{near} {WHERE_MODELS_ARE[:-1]}{files}.", param, ctx)
        return value


class PreprocessingName(click.ParamType):
    """A name of ``zoo.PREPROCESSING``; an unknown one is an error that lists them."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        import_tensorflow()
        from .. import zoo

        try:
            zoo.get_preprocessing(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


class Shape(click.ParamType):
    """An input shape, such as ``32x32x3``."""

    name = "HxWxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            height, width, channels = (int(size) for size in value.lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not a shape such as 32x32x3.", param, ctx)
        if min(height, width, channels) < 1:
            self.fail(f"{value!r} has a size below 1.", param, ctx)
        return height, width, channels


model_argument = click.argument("model", type=ModelName(or_file=True), metavar="MODEL|FILE")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
weights_option = click.option(
    "--weights",
    "-w",
    metavar="TAG|FILE",
    help="Registered weights ('onebit info MODEL' shows them), a file, or hf://USER/REPO on the Hugging Face Hub. "
    "Default: the model's only ones.",
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow datasets."
)
split_option = click.option("--split", help="Split of a TensorFlow dataset. Default: the one to test on.")
preprocessing_option = click.option(
    "--preprocessing",
    type=PreprocessingName(),
    help="What the network expects at its input. Default: what its weights specify.",
)


def engine_option(default: str) -> Callable[[Any], Any]:
    """Return the option that says what computes."""
    return click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default=default,
        show_default=True,
        help="What computes. auto is the fastest that is installed and computes the same: OpenVINO on x86, else ONNX "
        "Runtime, else Keras.",
    )


classes_option = click.option(
    "--classes",
    metavar="DATASET|FILE",
    help="Names of the classes: cifar10, cifar100, or a text file with a name in each line. Default: what the weights "
    "specify.",
)


def refuse(reason: str, *options: str) -> None:
    """Raise a usage error where the command line has one of these options, which have no effect."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in options and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} has no effect {reason}.")


def check_data_options(source: str) -> None:
    """Raise a usage error where options for TensorFlow datasets were given with another ``--data``."""
    import_tensorflow()
    from .sources import is_tfds_name

    if not is_tfds_name(source):
        refuse(f"on --data {source}, which is not a TensorFlow dataset", "split", "data_dir")
