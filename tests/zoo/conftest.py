"""Networks with little work in them."""

from __future__ import annotations

import functools

import pytest

from onebit.zoo import birealnet, ftbnn, irnet, reactnet
from onebit.zoo.build.resnet import Layout
from onebit.zoo.checkpoints.state_dicts import OFFICIAL


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Take two thirds of the blocks out of the networks with 20 layers; return how many convolutions each stage has."""
    layout = Layout("cifar", (16, 32, 64), (2, 2, 2))
    for family in (birealnet, reactnet, irnet, ftbnn):
        monkeypatch.setattr(family, "CIFAR_20", layout)
    for family, function in ((birealnet, "BiRealNet20"), (reactnet, "ReActNet20"), (irnet, "IRNetResNet20")):
        names = functools.partial(family._official_names, layout)
        monkeypatch.setitem(OFFICIAL, function, OFFICIAL[function]._replace(names=names))
    return layout.blocks
