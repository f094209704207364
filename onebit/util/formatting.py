"""Numbers, names and errors for a reader."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any


def format_bytes(count: float) -> str:
    """Return a number of bytes in decimal units: 39,160 is ``39.2 kB``."""
    return _scaled(count, (" B", " kB", " MB", " GB"))


def format_count(count: float) -> str:
    """Return a large number with three digits: 36,479,194 is ``36.5 M``."""
    return _scaled(count, ("", " k", " M", " G"))


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts names with their numbers in numerical order."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def format_accuracies(metrics: Mapping[str, Any]) -> str:
    """Return top-1 and top-5 accuracy, given in percent, as two cells of a table; one that is not known is empty."""
    return " | ".join(f"{metrics[name]:.2f} %" if metrics.get(name) is not None else "" for name in ("top1", "top5"))


def describe_counts(counts: Mapping[str, Any]) -> dict[str, str]:
    """Return how large a network is, by name; see `Counts` for the fields."""
    parameters, binary = (format_count(counts[name]) for name in ("parameters", "binary_parameters"))
    memory, real = (format_bytes(counts[name]) for name in ("memory", "float32_memory"))
    binary_macs, others = (format_count(counts[name]) for name in ("binary_macs", "float_macs"))
    return {
        "parameters": f"{parameters}, {binary} of them 1-bit",
        "memory": f"{memory}; all in float32: {real}",
        "multiply-accumulates": f"{binary_macs} 1-bit, {others} others",
    }


def describe_input(fields: Mapping[str, Any]) -> str:
    """Return what a network expects at its input, in numbers; see `Preprocessing.to_dict` for ``fields``."""
    size = "of the network's size" if fields["size"] is None else f"of {' x '.join(map(str, fields['size']))} pixels"
    cut = "whole" if fields["crop"] == 1 else f"the middle {fields['crop']:g} of height and width"
    mean, std = (", ".join(f"{value:g}" for value in fields[name]) for name in ("mean", "std"))
    normal = (
        "as they are" if set(fields["mean"]) == {0} and set(fields["std"]) == {1} else f"minus ({mean}), by ({std})"
    )
    return (
        f"{size}, {cut}, {fields['interpolation']} with antialiasing; {fields['channel_order']} from "
        f"{fields['range'][0]} to {fields['range'][1]}, {normal}"
    )


def _scaled(count: float, units: tuple[str, ...]) -> str:
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g}{units[power]}"


def printable(text: object, longest: int = 1000) -> str:
    """Return text on one line that is safe to show: with escapes for control characters, and not too long.

    Args:
        text: What may come from a file: an error, a path, a name.
        longest: How many characters to keep; of a longer one the middle is left out.
    """
    line = " ".join(part.strip() for part in str(text).splitlines() if part.strip())
    if len(line) > longest:
        line = f"{line[: longest * 2 // 3]} ... {line[-(longest // 3) + 5 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def brief(value: object, longest: int = 80) -> str:
    """Return how Python writes a value that a file claims, on one line and not too long."""
    return printable(repr(value), longest)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, or its class where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence, with a space before it, with the names nearest to ``name``, or with all there are."""
    known = list(known)
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" There are: {', '.join(map(repr, sorted(known))) or 'none'}."
