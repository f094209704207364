"""Packages that are optional: imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, missing: str) -> Any:
    """Return a module, or raise `ModuleNotFoundError` with what to say where it is not installed, and how to."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(missing) from error
