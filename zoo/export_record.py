"""The exported files' figures that the README quotes."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

from .files import DATA

_FILE = DATA / "exports.json"


@dataclass(frozen=True)
class ExportRecord:
    """Figures of a model's file for the Larq Compute Engine, which do not depend on its weights.

    Attributes:
        file_bytes: Its size.
        binary_operations: Its binary convolutions; a layer with groups has one for each.
        binary_layers: The layers that ``larq.models.summary`` counts as 1-bit, all of which are binary in the file.
    """

    file_bytes: int
    binary_operations: int
    binary_layers: int


@functools.cache
def recorded_exports() -> dict[str, ExportRecord]:
    """Return the figures of the registered models that have binary layers, by name.

    The file is written by ``benchmarks/exports.py``; a model too new for it is absent.
    """
    if not _FILE.exists():
        return {}
    return {name: ExportRecord(**row) for name, row in json.loads(_FILE.read_text(encoding="utf-8")).items()}
