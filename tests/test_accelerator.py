"""The accelerator's benchmark: both sides compute the same, and it runs where jax, torch and NumPy are all there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebit import recipes, zoo
from tests.zoo.parity import LayerNames, PyTorchNames

pytest.importorskip("torch", reason="the benchmark compares with PyTorch")
import accelerator
from accelerator_worker import torch_module

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", accelerator.CASES)
@pytest.mark.usefixtures("float64")
def test_both_sides_have_the_same_loss(name):
    """From the same weights, of the same images, in training mode; in float32 rounding would turn some signs."""
    import torch

    case = accelerator.CASES[name]
    [*_, stage] = recipes.get_recipe(case["recipe"][0], **case["recipe"][1]).stages
    size = min(64, zoo.entry(name).native_shape[0])
    network = stage.build(10, (size, size, 3))
    module = torch_module(name, 3, size, size, 10).double()
    for parameter in module.parameters():
        if parameter.ndim == 2:  # Keras' loss clips probabilities below 1e-7
            parameter.data *= 0.1
    state = {key: getattr(module, place).detach().numpy() for key, place in module.places.items()}
    names = PyTorchNames(name) if zoo.entry(name).build.state_dicts else LayerNames(network)
    names.load(network, state)
    draw = np.random.default_rng(1)
    images, labels = draw.standard_normal((4, size, size, 3)), draw.integers(0, 10, 4)
    network.compile(stage.optimizer(10), stage.loss)
    ours = network.train_on_batch(images, labels)
    logits = module(torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    theirs = torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
def test_it_runs_where_tensorflow_is_not(tmp_path):
    """A cell that fails says so in one line, and the others go on."""
    folder, hidden = tmp_path / "steps", tmp_path / "hidden"
    command = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py")]
    subprocess.run([*command, "--prepare", str(folder), "--batch", "2", "--only", "irnet"], check=True, cwd=ROOT)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6
    hidden.mkdir()
    for name in ("tensorflow", "onebit", "larq", "tf_keras"):
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')")
    (folder / "irnet_resnet20-mixed_bfloat16.mlir").write_bytes(b"damaged")
    command = [sys.executable, str(folder / "accelerator.py"), "--steps", "1", "--rounds", "2", "--seconds", "900"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")],
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == len(accelerator.PRECISIONS) * len(accelerator.WAYS)
    failed = {(row["precision"], row["way"]) for row in rows if "error" in row}
    assert failed == {("mixed_bfloat16", "jax")}, rows
    assert all(row["images_per_second"] > 0 for row in rows if "error" not in row)
    assert "failed" in done.stdout and "ours / compiled" in done.stdout


def test_the_table():
    row = {"network": "a", "precision": "float32", "batch": 2, "device": "a GPU", "version": "jax 1"}
    rows = [
        {**row, "way": way, "milliseconds": time, "fastest": time, "slowest": time, "images_per_second": 1}
        for way, time in (("jax", 2.0), ("eager", 30.0))
    ]
    text = accelerator.table([*rows, {**row, "way": "compiled", "error": "MemoryError: none left"}])
    assert "15.00" in text and "failed" in text and "none left" in text and "a GPU" in text
