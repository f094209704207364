"""The commands ``export`` and ``benchmark``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit import zoo
from tests.onebit.commands import run, run_json

MODEL, REAL = "birealnet20", "wide_resnet_20_1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A packed file of a small binary model with fresh weights."""
    model = zoo.load(MODEL, input_shape=(12, 12, 3))
    return str(zoo.save_packed(model, tmp_path_factory.mktemp("weights") / "fresh.onebit"))


@pytest.mark.slow
def test_export_then_benchmark(weights: str, tmp_path: Path):
    pytest.importorskip("larq_compute_engine")
    path = tmp_path / "model.tflite"
    arguments = ("export", MODEL, "--weights", weights, "-o", path, "--images", 5, "--no-strict")
    result = json.loads(run(*arguments, "--json").stdout)
    assert result["file_bytes"] == path.stat().st_size
    assert result["binary_operations"] == result["binary_layers"] == 18
    assert result["agreement"]["images"] == 5 and result["float_layers"] == {}
    timed = json.loads(run("benchmark", path, "--runs", 2, "--json").stdout)
    assert "Arm" in timed["note"] and timed["processor"]
    assert timed["files"][0]["binary_operations"] == 18 and timed["files"][0]["fastest_seconds"] > 0
    done: list[int] = []
    assert len(zoo.latency(path.read_bytes(), runs=4, progress=done.append)) == 4 == sum(done)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "module"), [(".xml", "openvino"), (".onnx", "onnxruntime")])
def test_files_for_other_engines(ending: str, module: str, weights: str, tmp_path: Path):
    pytest.importorskip(module)
    path = tmp_path / f"model{ending}"
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(6))
    result = run_json("export", MODEL, "-w", weights, "-o", path, "--data", tmp_path / "mine.npz", "--images", 6)
    assert result["to"] == ("openvino" if ending == ".xml" else "onnx") and result["agreement"]["images"] == 6
    (timed,) = run_json("benchmark", path, "--runs", 2)["files"]
    assert timed["fastest_seconds"] > 0 and timed["bytes"] == result["file_bytes"]
    assert "18" in run("export", MODEL, "-w", weights, "-o", path, "--images", 2).stdout


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_another_engine_predicts_and_evaluates(engine: str, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    expected = run_json("evaluate", MODEL, "--limit", 100, "--precision", "float32")
    found = run_json("evaluate", MODEL, "--limit", 100, "--engine", engine)
    assert found["top1"] == expected["top1"] and found["engine"] in ("openvino", "onnx")
    photo = tmp_path / "photo.png"
    Image.fromarray(zoo.sample_images().images[0]).save(photo)
    classes = [
        run_json("predict", MODEL, photo, "--engine", name)[0]["predictions"][0]["class"] for name in (engine, "keras")
    ]
    assert classes[0] == classes[1]


@pytest.mark.slow
def test_engines_are_compared(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino")
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda name: load(name, input_shape=(12, 12, 3)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engines = ("--engine", "openvino", "--engine", "onnx", "--engine", "keras")
    result = run_json("benchmark", MODEL, *engines, "--runs", 2, "--batch", 1, "--batch", 3)["models"][MODEL]
    rows = result["timings"]
    assert "pip install" in result["failed"]["onnx"]
    assert {(row["network"], row["precision"]) for row in rows if row["engine"] == "openvino"} == {
        ("1-bit", "float32"),
        ("full precision", "float32"),
        ("full precision", "bfloat16"),
    }
    assert {row["engine"] for row in rows} == {"openvino", "keras", "keras predict"}
    assert {row["batch"] for row in rows} == {1, 3} and all(row["runs"] == 2 for row in rows)
    assert all(0 < row["fastest_seconds"] <= row["median_seconds"] for row in rows)
    text = run("benchmark", MODEL, "--engine", "openvino", "--runs", 1).stdout
    assert "full precision, bfloat16" in text and "all" in text


@pytest.mark.slow
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
        (("benchmark",), "Missing argument", 2),
        (("benchmark", "birealnet21"), "Did you mean 'birealnet20'", 2),
        (("evaluate", MODEL, "--engine", "onnx", "--precision", "float32"), "--precision has no effect", 2),
        (("benchmark", "JUNK"), "JUNK is not a TensorFlow Lite file", 1),
    ],
)
def test_bad_input(arguments: tuple, message: str, code: int, weights: str, tmp_path: Path):
    (tmp_path / "JUNK").write_bytes(b"junk" * 100)
    places = {"OUT": tmp_path / "out", "NOWHERE/OUT": tmp_path / "nowhere" / "out", "JUNK": tmp_path / "JUNK"}
    result = run(*({"WEIGHTS": weights, **places}.get(word, word) for word in arguments), code=code)
    assert message in result.output.replace("\n", " ")
    assert [each.name for each in tmp_path.iterdir()] == ["JUNK"]
