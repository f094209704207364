"""Parity with the official code: every recording of it, and our PyTorch transcription of what has no recording."""

from __future__ import annotations

import numpy as np
import pytest

from onebit import zoo
from tests.goldens import reference
from tests.helpers import GOLDENS
from tests.zoo.parity import TOLERANCE, entrywise_error, golden_errors, transcription_errors

try:
    from torch_networks import NETWORKS
except ModuleNotFoundError:
    NETWORKS = {}

pytestmark = pytest.mark.usefixtures("float64")

RECORDED = {
    path.stem: manifest
    for path in sorted(GOLDENS.glob("*.json"))
    if "zoo" in (manifest := reference.load_manifest(path))
}


def recorded(**conditions: str) -> list:
    """Return the recordings of a framework, or all; those of ImageNet networks are slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if manifest["task"] == "imagenet" else ())
        for name, manifest in RECORDED.items()
        if conditions.items() <= manifest.items()
    ]


@pytest.mark.parametrize("golden", recorded())
def test_the_official_code(golden):
    errors = golden_errors(golden)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.slow
@pytest.mark.parametrize("golden", recorded(framework="pytorch"))
def test_an_official_checkpoint(golden, tmp_path):
    """The one call: ``weights=`` a file as the paper's training script writes it."""
    pytest.importorskip("torch", reason="PyTorch reads the papers' checkpoints")
    manifest, path = RECORDED[golden], tmp_path / "official.pth.tar"
    reference.save_checkpoint(path, GOLDENS / f"{golden}.json")
    _, channels, height, width = manifest["input_shape"]
    model = zoo.load(
        manifest["zoo"]["model"], weights=path, input_shape=(height, width, channels), classifier_activation=None
    )
    logits = model(reference.example_input(GOLDENS / f"{golden}.json", layout="NHWC"), training=False)
    assert entrywise_error(logits, np.load(GOLDENS / f"{golden}.npz")["logits_eval"]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.skipif(not NETWORKS, reason="the transcription needs PyTorch")
@pytest.mark.parametrize("name", NETWORKS)
def test_our_pytorch_transcription(name):
    errors = transcription_errors(name, NETWORKS[name])
    assert max(errors.values()) < TOLERANCE, errors
