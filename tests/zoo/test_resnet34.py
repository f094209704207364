"""ResNet-34: torchvision's computation."""

from __future__ import annotations

import numpy as np
import pytest

from onebit import zoo
from onebit.zoo.checkpoints.state_dicts import OFFICIAL
from tests.zoo.official_check import drawn_state, torch_errors


@pytest.mark.slow
def test_agrees_with_pytorch(torch_networks, reference, float64):
    model = zoo.ResNet34(input_shape=(64, 64, 3), num_classes=10, classifier_activation=None)
    places = OFFICIAL["ResNet34"].names()
    x = np.random.default_rng(3).standard_normal((4, 64, 64, 3))
    state = drawn_state(model, places, reference)
    errors = torch_errors(model, places, lambda *args: torch_networks.resnet(*args, (3, 4, 6, 3)), x, state)
    assert len(errors) == len(places) + 2 and max(errors.values()) < 1e-9, errors
