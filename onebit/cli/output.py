"""What commands print: JSON, tables and progress."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..util.formatting import printable


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    # Names keep their letters where the terminal has these.
    ascii_only = not (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=ascii_only, allow_nan=False))


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


def console() -> Console:
    """Return a console on standard output, with room for whole tables where that is not a terminal."""
    stdout = Console(highlight=False)
    return stdout if stdout.is_terminal else Console(highlight=False, width=160)


class _LiteralTable(Table):
    """A table whose strings are text as it is, from files and users, without Rich's markup or control characters."""

    def add_row(self, *renderables: RenderableType | None, **kwargs: Any) -> None:
        cells = (Text(printable(cell, 4000)) if isinstance(cell, str) else cell for cell in renderables)
        super().add_row(*cells, **kwargs)


def table(*columns: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table whose columns named in ``numbers`` are aligned to the right; names and numbers stay whole,
    and the last column is wrapped where there is no room."""
    heading = None if title is None else Text(printable(title), style="bold")
    result = _LiteralTable(box=box.SIMPLE_HEAD, title=heading, title_justify="left")
    for place, column in enumerate(columns):
        whole = column in numbers or place == 0
        result.add_column(column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=whole)
    return result


def facts(title: str) -> Table:
    """Return an empty table of names and what there is to say of each."""
    result = table("", "", title=title)
    result.show_header = False
    return result


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Print a table, without empty columns, and without as many of the optional ones, the first first, as there is no
    room for."""
    out, rows = console(), list(rows)
    filled = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    for left_out in range(len(optional) + 1):
        kept = [place for place in filled if columns[place] not in optional[:left_out]]
        result = table(*(columns[place] for place in kept), numbers=numbers)
        for row in rows:
            result.add_row(*(row[place] for place in kept))
        needed = out.measure(result, options=out.options.update(width=10_000, max_width=10_000)).maximum
        if needed <= out.width or left_out == len(optional):
            out.print(result)
            return


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if that is a terminal; yields a function that advances it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(description), total=total)
        yield lambda count: bar.advance(task, count)
