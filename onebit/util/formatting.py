"""Numbers and names for a reader."""

from __future__ import annotations

import re


def format_bytes(count: float) -> str:
    """Return a number of bytes in decimal units: 39,160 is ``39.2 kB``."""
    return _scaled(count, (" B", " kB", " MB", " GB"))


def format_count(count: float) -> str:
    """Return a large number with three digits: 36,479,194 is ``36.5 M``."""
    return _scaled(count, ("", " k", " M", " G"))


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts names with their numbers in numerical order."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _scaled(count: float, units: tuple[str, ...]) -> str:
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g}{units[power]}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, or its class where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
