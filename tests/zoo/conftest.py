"""Networks with little work in them."""

from __future__ import annotations

import sys

import pytest

from onebit import zoo
from onebit.zoo.build import ResNetSpec


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Take two thirds of the blocks out of the networks with 20 layers; return how many convolutions each stage has."""
    spec = ResNetSpec("cifar", (16, 32, 64), (2, 2, 2))
    for module in {zoo.entry(name).build.__module__ for name in zoo.list_models()}:
        if hasattr(sys.modules[module], "CIFAR_20"):
            monkeypatch.setattr(sys.modules[module], "CIFAR_20", spec)
    return spec.convs
