"""What several commands share: arguments, output, and how a model is loaded."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..stderr import captured_stderr

if TYPE_CHECKING:
    import tensorflow as tf

    from ..zoo import Weights


WHERE_MODELS_ARE = "'onebit list' shows this zoo's, 'onebit list larq/' larq-zoo's."
AUTO_PRECISION = (
    "auto is the fastest on this machine: mixed_bfloat16 on GPUs of compute capability 8.0 and up and on processors "
    "with AMX or AVX512_BF16, else float32"
)

_TALKATIVE = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3"


def start() -> None:
    """Import TensorFlow without what its C++ code writes to the terminal meanwhile.

    Some of it is written before any log level is heeded, hence the redirection. A user who sets
    ``TF_CPP_MIN_LOG_LEVEL`` to less than 3 gets it all.
    """
    if "tensorflow" in sys.modules or _TALKATIVE:
        return
    sys.stderr.flush()
    with captured_stderr(shown_on_error=True):
        importlib.import_module("tensorflow")


class ModelName(click.ParamType):
    """The name of a registered model; an unknown one is an error that suggests the nearest."""

    name = "model"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        start()
        from .. import zoo

        try:
            return zoo.entry(value).name
        except ValueError as error:
            self.fail(f"{error} {WHERE_MODELS_ARE}", param, ctx)


class PreprocessingName(click.ParamType):
    """A name of ``zoo.PREPROCESSING``; an unknown one is an error that lists them."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        start()
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


model_argument = click.argument("model", type=ModelName())
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
weights_option = click.option(
    "--weights",
    "-w",
    metavar="TAG|FILE",
    help="Registered weights ('onebit info MODEL' shows them) or a file. Default: the model's only ones.",
)
data_dir_option = click.option("--data-dir", type=click.Path(file_okay=False), help="Where TensorFlow datasets lie.")
split_option = click.option("--split", help="Split of a TensorFlow dataset. Default: the one to test on.")
preprocessing_option = click.option(
    "--preprocessing",
    type=PreprocessingName(),
    help="What the network expects at its input. Default: as its weights say.",
)
classes_option = click.option(
    "--classes",
    metavar="DATASET|FILE",
    help="What the classes are called: cifar10, cifar100, or a text file with a name in each line. Default: as the "
    "weights say.",
)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Return a value in what JSON has; infinity and NaN, for which it has no numbers, are null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    elif hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def refuse(reason: str, *options: str) -> None:
    """Raise a usage error where the command line has one of these options, which have no effect."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in options and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} has no effect {reason}.")


def check_data_options(source: str) -> None:
    """Raise a usage error where options for TensorFlow datasets were given for a ``--data`` that is none."""
    from ..sources import is_tfds_name

    if not is_tfds_name(source):
        refuse(f"on --data {source}, which is not a TensorFlow dataset", "split", "data_dir")


def console() -> Console:
    """Return a console on standard output, with room for whole tables where that is not a terminal."""
    stdout = Console(highlight=False)
    return stdout if stdout.is_terminal else Console(highlight=False, width=160)


def table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """Return an empty table whose columns named in ``numbers`` are aligned to the right."""
    result = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in columns:
        result.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return result


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if that is a terminal; yields a function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@dataclass(frozen=True)
class Loaded:
    """A model with weights, and what belongs to them."""

    model: tf.keras.Model
    weights: str
    row: Weights | None
    preprocessing: str
    class_names: tuple[str, ...] | None
    size: tuple[int, int]
    channels: int


def load(
    name: str, weights: str | None, preprocessing: str | None = None, classes: str | None = None, **options: Any
) -> Loaded:
    """Load a registered model for inference.

    What the classes are called ``classes`` says, else the weights, or nobody knows.
    """
    from .. import zoo

    rows = zoo.list_weights(name)
    tag = weights or _only(name, rows)
    row = _registered(name, tag) if not os.path.isfile(tag) else None
    names = read_class_names(classes) if classes else None
    with redirect_stdout(sys.stderr):  # Keras tells of downloads on standard output, which may be JSON's
        model = zoo.load(name, weights=tag, **options)
    if names and len(names) != model.output_shape[-1]:
        raise ValueError(f"{len(names)} classes are named, but the model has {model.output_shape[-1]}.")
    info = zoo.model_info(model)
    if not names and info:
        names = info.class_names
    # Weights for any size leave height and width open.
    native = zoo.entry(name).native_shape
    size = model.input_shape[1] or native[0], model.input_shape[2] or native[1]
    return Loaded(
        model, tag, row, preprocessing or zoo.preprocessing_of(model) or "raw", names, size, model.input_shape[3]
    )


def read_class_names(source: str) -> tuple[str, ...]:
    """Return the names that ``--classes`` stands for."""
    from .. import zoo

    if os.path.isfile(source):
        try:
            return tuple(Path(source).read_text(encoding="utf-8").splitlines())
        except UnicodeDecodeError as error:
            raise ValueError(f"--classes: {source} is not a text file in UTF-8: {error}") from error
    names = zoo.class_names(source)
    if names is None:
        raise click.UsageError(f"--classes must be a text file or a dataset whose classes are known, not {source!r}.")
    return names


def _registered(name: str, tag: str) -> Weights | None:
    """Return the registered weights of a tag; ``None`` for larq-zoo's, of which nothing is registered."""
    from .. import zoo

    if _is_larq_zoos(name):
        if tag != "imagenet":
            raise click.UsageError(f"--weights of {name} must be imagenet or the path of a file, not {tag!r}.")
        return None
    try:
        return zoo.get_weights(name, tag)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _only(name: str, rows: list[Weights]) -> str:
    if len(rows) == 1:
        return rows[0].tag
    having = f"Registered are {', '.join(repr(row.tag) for row in rows)}." if rows else no_weights(name)
    raise click.UsageError(f"Say which weights of {name} with --weights. {having}")


def no_weights(name: str) -> str:
    """Return what to say of a model without registered weights: where else to have them from."""
    source = "imagenet takes larq-zoo's own" if _is_larq_zoos(name) else "takes a file"
    return f"No weights are registered; --weights {source}."


def _is_larq_zoos(name: str) -> bool:
    return name.startswith("larq/")


def natural(name: str) -> list[str | int]:
    """Return a key that sorts names with their numbers in numerical order."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def size(count: float) -> str:
    """Return a number of bytes for a reader, in decimal units."""
    return _scaled(count, (" B", " kB", " MB", " GB"))


def quantity(count: float) -> str:
    """Return a large number for a reader: 36,479,194 is ``36.5 M``."""
    return _scaled(count, ("", " k", " M", " G"))


def _scaled(count: float, units: tuple[str, ...]) -> str:
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g}{units[power]}"
