"""What several commands share: arguments, output, and how a model is loaded."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..stderr import captured_stderr

if TYPE_CHECKING:
    import tensorflow as tf

    from ..zoo import Weights


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
            self.fail(f"{error} 'onebit list' shows all.", param, ctx)


class Shape(click.ParamType):
    """An input shape, such as ``32x32x3``."""

    name = "HxWxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            height, width, channels = (int(size) for size in value.lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not a shape such as 32x32x3.", param, ctx)
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
    "--preprocessing", metavar="NAME", help="What the network expects at its input. Default: as its weights say."
)

classes_option = click.option(
    "--classes",
    metavar="DATASET|FILE",
    help="What the classes are called: cifar10, cifar100, or a text file with a name in each line. Default: as the "
    "registered weights' dataset.",
)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.item() if hasattr(value, "item") else str(value)


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


def load(
    name: str, weights: str | None, preprocessing: str | None = None, classes: str | None = None, **options: Any
) -> Loaded:
    """Load a registered model for inference.

    A file of weights does not say what its classes are called: ``classes`` does, or nobody knows.
    """
    from .. import zoo

    rows = zoo.list_weights(name)
    tag = weights or _only(name, rows)
    row = next((row for row in rows if row.tag == tag), None) if not os.path.isfile(tag) else None
    if preprocessing:
        zoo.get_preprocessing(preprocessing)
    names = _class_names(classes) if classes else zoo.class_names(row.dataset) if row else None
    with redirect_stdout(sys.stderr):  # Keras tells of downloads on standard output, which may be JSON's
        model = zoo.load(name, weights=tag, **options)
    if names and len(names) != model.output_shape[-1]:
        raise ValueError(f"{len(names)} classes are named, but the model has {model.output_shape[-1]}.")
    # Weights for any size leave height and width open.
    native = zoo.entry(name).native_shape
    size = model.input_shape[1] or native[0], model.input_shape[2] or native[1]
    return Loaded(model, tag, row, preprocessing or zoo.preprocessing_of(model) or "raw", names, size)


def _class_names(source: str) -> tuple[str, ...]:
    from .. import zoo

    if os.path.isfile(source):
        return tuple(Path(source).read_text(encoding="utf-8").splitlines())
    names = zoo.class_names(source)
    if names is None:
        raise ValueError(f"--classes must be a text file or a dataset whose classes are known, not {source!r}.")
    return names


def _only(name: str, rows: list[Weights]) -> str:
    if len(rows) == 1:
        return rows[0].tag
    having = (
        f"Registered are {', '.join(repr(row.tag) for row in rows)}." if rows else "None are registered: give a file."
    )
    raise click.UsageError(f"Say which weights of {name} with --weights. {having}")


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
