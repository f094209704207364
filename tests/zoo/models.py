"""Which registered models stand for the others in the fast suite."""

from __future__ import annotations

import pytest

from onebit import zoo

PAPERS: dict[str, list[str]] = {}
"""The registered models by the module that has their function."""
for _name in zoo.list_models():
    PAPERS.setdefault(zoo.entry(_name).build.__module__, []).append(_name)


def _representative(names: list[str]) -> str:
    """Return the smallest model of a paper by the look of it: for CIFAR, of depth 20, first in the alphabet."""
    cifar = [name for name in names if zoo.entry(name).native_shape[0] <= 32]
    return next((name for name in cifar if "20" in name), next(iter(cifar), names[0]))


def is_binary(name: str) -> bool:
    """Return whether a model has binary kernels, as far as it was counted."""
    counts = zoo.recorded_counts().get(name)
    return counts is None or counts.binary_parameters > 0


REPRESENTATIVES = sorted(name for name in map(_representative, PAPERS.values()) if is_binary(name))
"""One model of each paper of 1-bit networks."""


def representative_first(names: list[str]) -> list:
    """Return models as parameters, of which all but the representatives are slow."""
    return [pytest.param(name, marks=() if name in REPRESENTATIVES else pytest.mark.slow) for name in names]
