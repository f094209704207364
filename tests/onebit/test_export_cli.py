"""The commands ``export`` and ``benchmark``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onebit import zoo
from tests.onebit.commands import run, run_json

MODEL, REAL = "birealnet20", "wide_resnet_20_1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A packed file of a small binary model with fresh weights."""
    model = zoo.load(MODEL, input_shape=(12, 12, 3))
    return str(zoo.save_packed(model, tmp_path_factory.mktemp("weights") / "fresh.onebit"))


def test_export_then_benchmark(weights: str, tmp_path: Path):
    pytest.importorskip("larq_compute_engine")
    path = tmp_path / "model.tflite"
    arguments = ("export", MODEL, "--weights", weights, "-o", path, "--images", 5, "--no-strict")
    result = json.loads(run(*arguments, "--json").stdout)
    assert result["file_bytes"] == path.stat().st_size
    assert result["binary_operations"] == result["binary_layers"] == 18
    assert result["agreement"]["images"] == 5 and result["float_layers"] == {}
    timed = json.loads(run("benchmark", path, "--runs", 2, "--json").stdout)
    assert timed["threads"] == 1 and "Arm" in timed["note"]
    assert timed["files"][0]["binary_operations"] == 18 and timed["files"][0]["fastest_seconds"] > 0


def test_a_model_in_all_its_forms(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beside a file only those that it is not: float32 and int8."""
    pytest.importorskip("larq_compute_engine")
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda name: load(name, input_shape=(12, 12, 3)))
    rows = run_json("benchmark", "--model", MODEL, "--runs", 2)["files"]
    assert [row["file"] for row in rows] == [f"{MODEL}, {form}" for form in ("binary", "float32", "int8")]
    assert [row["binary_operations"] for row in rows] == [18, 0, 0]
    assert rows[1]["bytes"] > 3 * rows[2]["bytes"] > 3 * rows[0]["bytes"]
    monkeypatch.undo()
    path = tmp_path / "model.tflite"
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(6))
    data = ("--data", tmp_path / "mine.npz", "--images", 6)
    result = run_json("export", MODEL, "-w", weights, "-o", path, *data, "--no-strict")
    assert result["agreement"]["images"] == 6
    monkeypatch.setattr(zoo, "load", lambda name: load(name, input_shape=(12, 12, 3)))
    rows = run_json("benchmark", path, "--model", MODEL, "--runs", 2)["files"]
    assert [row["file"] for row in rows] == [str(path), f"{MODEL}, float32", f"{MODEL}, int8"]
    done: list[int] = []
    assert len(zoo.latency(path.read_bytes(), runs=4, progress=done.append)) == 4 == sum(done)


def test_real_activations(tmp_path: Path):
    pytest.importorskip("larq_compute_engine")
    path = tmp_path / "model.tflite"
    message = run("export", REAL, "-o", path, "--images", 2, code=1).output
    assert "1-bit activations" in message and "--precision" in message
    text = run("export", REAL, "-o", path, "--images", 20, "--precision", "float16").stdout
    assert "100.0 % of 20 images" in text and "0 for 0 binary layers" in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("export", "birealnet21", "-o", "OUT"), "Did you mean 'birealnet20'", 2),
        (("export", MODEL, "--weights", "OUT", "-o", "NOWHERE/OUT"), "OUT", 2),
        (("export", MODEL, "--weights", "WEIGHTS", "-o", "NOWHERE/OUT"), "does not exist", 1),
        (("export", MODEL, "--weights", "WEIGHTS", "-o", "OUT", "--precision", "int4"), "int4", 2),
        (("export", MODEL, "--weights", "WEIGHTS", "-o", "OUT", "--images", 1500), "1000 images of --data sample", 2),
        (
            ("export", MODEL, "--weights", "WEIGHTS", "-o", "OUT", "--data-dir", "NOWHERE"),
            "--data-dir has no effect",
            2,
        ),
        (("benchmark",), "Give a FILE", 2),
        (("benchmark", "--model", "birealnet21"), "Did you mean 'birealnet20'", 2),
        (("benchmark", "JUNK"), "JUNK is not a TensorFlow Lite file", 1),
    ],
)
def test_bad_input(arguments: tuple, message: str, code: int, weights: str, tmp_path: Path):
    (tmp_path / "JUNK").write_bytes(b"junk" * 100)
    places = {"OUT": tmp_path / "out", "NOWHERE/OUT": tmp_path / "nowhere" / "out", "JUNK": tmp_path / "JUNK"}
    result = run(*({"WEIGHTS": weights, **places}.get(word, word) for word in arguments), code=code)
    assert message in result.output.replace("\n", " ")
    assert [each.name for each in tmp_path.iterdir()] == ["JUNK"]
