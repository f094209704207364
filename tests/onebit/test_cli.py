"""The command line: what it prints, as tables and as JSON, and how it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from onebit import __version__, zoo
from onebit.cli import COMMANDS, choices, sources
from onebit.cli.output import print_json
from onebit.recipes.trainer import PRECISIONS
from onebit.recipes.training.strategies import STRATEGIES
from onebit.zoo.export.convert import Precision
from tests.conftest import shared
from tests.onebit.commands import run, run_json

MODEL = "wide_resnet_20_1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A packed file of a model with random weights."""
    return str(zoo.save_packed(zoo.load(MODEL), tmp_path_factory.mktemp("weights") / "random.onebit"))


def test_help_and_version_do_not_import_tensorflow():
    script = f"""
import sys
from onebit.cli import main
for arguments in (["--help"], ["--version"], *([command, "--help"] for command in {COMMANDS!r})):
    main(arguments, standalone_mode=False)
sys.exit(f"imported: {{slow}}" if (slow := {{"tensorflow", "larq", "numpy", "matplotlib"}} & set(sys.modules)) else 0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert __version__ in result.stdout
    for command in COMMANDS:
        assert command in result.stdout


def test_as_a_module():
    result = subprocess.run([sys.executable, "-m", "onebit", "-V"], capture_output=True, text=True, check=True)
    assert result.stdout == f"onebit, version {__version__}\n"


def test_list():
    assert MODEL in run("list").stdout
    assert [row["model"] for row in run_json("list", "wide_resnet_2*_10")] == ["wide_resnet_20_10", "wide_resnet_26_10"]
    assert [row["model"] for row in run_json("list", "26_1")] == ["wide_resnet_26_10"]
    rows = run_json("list", "20_10")
    assert rows[0]["counts"]["parameters"] > 26e6
    assert "cifar10" in rows[0]["weights"]
    assert [row["paper_top1"] for row in run_json("list", "wide_resnet_20_1*")] == [None, 96.08, None]
    assert "top1" not in rows[0]


def test_list_weights():
    rows = run_json("list", "20_10", "--weights")
    assert {"cifar10", "cifar100"} <= {row["tag"] for row in rows}
    assert all(row["licence"] and row["source"] for row in rows)
    assert "96.25 %" in run("list", "20_10", "--weights").stdout
    assert run("list", "birealnet34", "--weights").stdout == "No weights are registered; --weights takes a file.\n"
    assert "--weights imagenet" in run("list", "larq/*", "--weights").stdout
    assert run_json("list", "larq/*", "--weights") == []


def test_info():
    text = run("info", "wide_resnet_20_10").stdout
    assert all(fact in text for fact in ("1802.08530", "26.8 M", "MIT", "cifar100_matlab", "zoo.WideResNet(depth=20"))
    info = run_json("info", "wide_resnet_20_10")
    assert info["arguments"] == {"depth": 20, "width": 10}
    assert (info["paper"]["top1"], info["note"]) == (96.08, None)
    assert info["weights"][0]["sha256"] == zoo.get_weights("wide_resnet_20_10", "cifar10").sha256


def test_info_says_how_far_a_model_is_from_its_paper_and_where_weights_are():
    text = " ".join(run("info", "reactnet_b").stdout.split())
    assert zoo.entry("reactnet_b").note in text
    assert "No weights are registered; --weights takes a file." in text


def test_summary():
    text = run("summary", MODEL).stdout
    assert "stage1_block1_conv1" in text
    assert "40.6 M" in text
    small, large = (run_json("summary", MODEL, "--input-shape", shape) for shape in ("32x32x3", "64x64x3"))
    assert small["counts"]["float_macs"] == zoo.recorded_counts()[MODEL].float_macs
    assert large["counts"]["float_macs"] == 4 * small["counts"]["float_macs"]
    assert run_json("summary", MODEL, "--num-classes", 100)["counts"]["parameters"] > small["counts"]["parameters"]


def test_summary_of_each_layer():
    summary = run_json("summary", "birealnet20")
    layers = {layer["name"]: layer for layer in summary["layers"]}
    assert layers["stage1_block1_conv"] == {
        "name": "stage1_block1_conv",
        "input_precision": 1,
        "output_shape": [-1, 32, 32, 16],
        "parameters": 16 * 9 * 16,
        "binary_parameters": 16 * 9 * 16,
        "memory": 16 * 9 * 16 / 8,
        "binary_macs": 32 * 32 * 16 * 9 * 16,
        "float_macs": 0,
    }
    for name, total in summary["counts"].items():
        if name != "float32_memory":
            assert sum(layer[name] or 0 for layer in summary["layers"]) == pytest.approx(total, abs=1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lst"], 2, "list"),
        (["info", "wide_resnet_20_11"], 2, "Did you mean 'wide_resnet_20_1'"),
        (["list", "no-such-model"], 2, "'no-such-model'"),
        (["list", "larq"], 2, "'onebit list larq/' larq-zoo's"),
        (["info", "lrq/quicknet"], 2, "'onebit list larq/' larq-zoo's"),
        (["summary", MODEL, "--input-shape", "32"], 2, "32x32x3"),
        (["summary", "larq/quicknet_small", "--input-shape", "0x0x3"], 2, "'0x0x3' has a size below 1"),
        (["summary", MODEL, "--input-shape", "1x1x3"], 1, "input_shape"),
        (["evaluate", "wide_resnet_20_10"], 2, "'cifar100_matlab'"),
        (["evaluate", MODEL, "--weights", "cifar11"], 2, "has no weights 'cifar11', and there is no file"),
        (["evaluate", "birealnet34"], 2, "No weights are registered; --weights takes a file"),
        (["predict", "larq/quicknet", "x.png"], 2, "--weights imagenet"),
        (["predict", "larq/quicknet", "x.png", "-w", "imagnet"], 2, "imagenet or the path of a file, not 'imagnet'"),
        (["predict", MODEL, "x.png", "--preprocessing", "rwa"], 2, "must be one of '0_255'"),
        (["predict", MODEL, "x.png", "--classes", "cifar"], 2, "'cifar'"),
        (["evaluate", MODEL, "--limit", "0"], 2, "--limit"),
        (["evaluate"], 2, "either MODEL or --all-cifar10"),
        (["evaluate", MODEL, "--all-cifar10"], 2, "either MODEL or --all-cifar10"),
        (["evaluate", "--all-cifar10", "--data", "sample"], 2, "--data has no effect with --all-cifar10"),
        (["evaluate", "--all-cifar10", "-w", "cifar10"], 2, "--weights has no effect with --all-cifar10"),
        (["evaluate", "--all-cifar10", "--split", "test"], 2, "--split has no effect with --all-cifar10"),
        (["evaluate", "--all-cifar10", "--preprocessing", "0_255"], 2, "--preprocessing has no effect"),
        (["evaluate", "--all-cifar10", "--classes", "cifar10"], 2, "--classes has no effect with --all-cifar10"),
        (["evaluate", MODEL, "--split", "test"], 2, "--split has no effect on --data sample"),
        (["evaluate", MODEL, "--data", "x.npz", "--data-dir", "."], 2, "--data-dir has no effect on --data x.npz"),
        (["evaluate", MODEL, "--data", "x/y"], 1, "no file or folder x/y"),
        (["predict", MODEL], 2, "IMAGE"),
    ],
)
def test_errors_are_one_message(arguments: list[str], code: int, message: str):
    result = run(*arguments, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not result.stdout


def test_errors_of_files(weights: str, tmp_path: Path):
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"not a checkpoint")
    assert "not a checkpoint of a known format" in run("evaluate", MODEL, "-w", damaged, code=1).stderr
    text = tmp_path / "image.png"
    text.write_text("not an image")
    assert "image.png" in run("predict", MODEL, text, "-w", weights, code=1).stderr
    assert "nowhere.png" in run("predict", MODEL, "nowhere.png", "-w", weights, code=1).stderr
    assert "nowhere" in run("pack", MODEL, "-w", weights, "-o", tmp_path / "nowhere" / "x.onebit", code=1).stderr
    assert "100 classes" in run("predict", MODEL, text, "-w", weights, "--classes", "cifar100", code=1).stderr
    latin = tmp_path / "latin.txt"
    latin.write_bytes("é\n".encode("latin-1"))
    message = run("predict", MODEL, text, "-w", weights, "--classes", latin, code=1).stderr
    assert "--classes" in message and "latin.txt is not a text file in UTF-8" in message
    message = run("evaluate", MODEL, "-w", weights, "--data", "cifar10", "--data-dir", tmp_path, code=1).stderr
    assert "not prepared" in message


def test_evaluate_on_images_of_other_classes(tmp_path: Path):
    path = zoo.save_packed(zoo.load(MODEL, num_classes=100), tmp_path / "hundred.onebit")
    message = run("evaluate", MODEL, "-w", path, code=1).stderr
    assert "the sample are of 10 classes, but the model has 100" in message


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ImportError("it needs PyTorch"), "it needs PyTorch"),
        (ModuleNotFoundError("No module named 'torch'"), "optional packages"),
        (tf.errors.ResourceExhaustedError(None, None, "out of memory"), "out of memory"),
    ],
)
def test_errors_of_the_libraries(error: Exception, shown: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(zoo, "load", fail)
    assert shown in run("summary", MODEL, code=1).stderr


def test_evaluate_on_the_sample(weights: str):
    result = run_json("evaluate", MODEL, "-w", weights, "--limit", 150, "--batch-size", 64)
    sample = zoo.sample_images()
    model = zoo.load(MODEL, weights=weights)
    expected = model.predict(sample.images[:150].astype("float32"), verbose=0).argmax(axis=1)
    assert result["images"] == 150
    assert result["top1"] == pytest.approx(100 * np.mean(expected == sample.labels[:150]))
    assert result["top1"] <= result["top5"] <= 100
    assert " 20 " in run("evaluate", MODEL, "-w", weights, "--limit", 20, "--precision", "mixed_bfloat16").stdout


def test_evaluate_all_that_ships():
    """On 500 images the accuracy is near the registered one, not the same."""
    data = shared("tfds")
    results = run_json("evaluate", "--all-cifar10", "--data-dir", data, "--limit", 500)
    assert MODEL in [result["model"] for result in results]
    assert all(abs(result["top1"] - result["registered"]) < 6 for result in results)


def test_evaluate_fails_where_a_registered_figure_is_not_reproduced(monkeypatch):
    sample = zoo.sample_images()
    batch = sample.images[:100], sample.labels[:100]
    dataset = sources.LabelledImages("cifar10", 100, lambda *how: iter([batch]))
    monkeypatch.setattr(sources, "open_dataset", lambda *arguments, **options: dataset)
    assert "differs" in run("evaluate", "--all-cifar10", code=1).stdout


def test_evaluate_on_files(weights: str, tmp_path: Path):
    sample = zoo.sample_images()
    chosen = np.concatenate([np.flatnonzero(sample.labels == label)[:2] for label in (9, 3)])
    images, labels = sample.images[chosen], sample.labels[chosen]
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "folders" / sample.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    evaluate = ("evaluate", MODEL, "-w", weights, "--classes", "cifar10", "--data")
    figures = [run_json(*evaluate, tmp_path / name) for name in ("images.npz", "folders")]
    assert [f["images"] for f in figures] == [4, 4]
    assert figures[0]["top1"] == figures[1]["top1"]
    assert figures[0]["top5"] == figures[1]["top5"]


def test_folders_in_the_order_of_their_names(weights: str, tmp_path: Path):
    """Where the model's class names are unknown there must be a folder for each class, and the user is told which."""
    for name in zoo.class_names("cifar10"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "image.png")
    (tmp_path / "automobile").rename(tmp_path / "car")
    evaluate = ("evaluate", MODEL, "-w", weights, "--data", tmp_path)
    result = run(*evaluate, "--json")
    assert json.loads(result.stdout)["images"] == 10
    assert "airplane is class 0, bird is class 1, car is class 2" in result.stderr and "--classes" in result.stderr
    message = run(*evaluate, "--classes", "cifar10", code=1).stderr
    assert "not car. The classes are airplane, automobile" in message
    shutil.rmtree(tmp_path / "car")
    assert "are of 9 classes, but the model has 10" in run(*evaluate, code=1).stderr


def test_networks_for_grey_images(tmp_path: Path):
    weights = zoo.save_packed(zoo.load(MODEL, input_shape=(28, 28, 1)), tmp_path / "grey.onebit")
    (tmp_path / "folders" / "cat").mkdir(parents=True)
    image = tmp_path / "folders" / "cat" / "image.png"
    Image.fromarray(zoo.sample_images().images[0]).resize((28, 28)).save(image)
    grey = np.asarray(Image.open(image).convert("L"))[None, ..., None]
    np.savez(tmp_path / "grey.npz", images=grey, labels=[3])
    [row] = run_json("predict", MODEL, image, "-w", weights, "--top", 1)
    expected = zoo.load(MODEL, weights=str(weights)).predict(grey.astype("float32"), verbose=0).max()
    assert row["predictions"][0]["probability"] == pytest.approx(expected, rel=1e-5)
    evaluate = ("evaluate", MODEL, "-w", weights, "--classes", "cifar10", "--data")
    figures = [run_json(*evaluate, tmp_path / name) for name in ("grey.npz", "folders")]
    assert figures[0]["top1"] == figures[1]["top1"]
    assert (
        "32 x 32 x 3 (height x width x channels), but the model takes 28 x 28 x 1" in run(*evaluate[:-1], code=1).stderr
    )


def test_a_network_of_nan(tmp_path: Path):
    model = zoo.load(MODEL)
    for variable in model.get_layer("logits_bn").weights:
        variable.assign(np.full(variable.shape, np.nan))
    weights = zoo.save_packed(model, tmp_path / "nan.onebit")
    Image.fromarray(zoo.sample_images().images[0]).save(tmp_path / "a.png")
    predict = ("predict", MODEL, tmp_path / "a.png", "-w", weights)
    [row] = run_json(*predict)
    assert [guess["probability"] for guess in row["predictions"]] == [None] * 5
    assert "not a number" in run(*predict).stdout


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: (np.float32(0.5), np.inf), "b": float("nan")}, {"1": [0.5, None], "b": None}),
        ([np.int64(1), True, None, Path("a")], [1, True, None, "a"]),
        (
            sources.LabelledImages("a", 1, len),
            {"name": "a", "count": 1, "read": str(len), "num_classes": None, "note": None},
        ),
    ],
)
def test_json_is_strict(value: object, expected: object, capsys: pytest.CaptureFixture):
    print_json(value)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == expected


def test_choices_match_the_library():
    assert choices.TRAINING_PRECISIONS == PRECISIONS
    assert choices.STRATEGIES == STRATEGIES
    assert get_args(Precision) == choices.EXPORT_PRECISIONS


def test_predict(weights: str, tmp_path: Path):
    sample = zoo.sample_images()
    Image.fromarray(sample.images[0]).save(tmp_path / "a.png")
    Image.fromarray(sample.images[1]).resize((80, 60)).save(tmp_path / "b.jpg")
    rows = run_json("predict", MODEL, tmp_path / "a.png", tmp_path / "b.jpg", "-w", weights, "--top", 3)
    expected = zoo.load(MODEL, weights=weights).predict(sample.images[:1].astype("float32"), verbose=0)[0]
    first = rows[0]["predictions"]
    assert [guess["index"] for guess in first] == np.argsort(-expected)[:3].tolist()
    assert first[0]["probability"] == pytest.approx(expected.max(), rel=1e-5)
    logits = zoo.load(MODEL, weights=weights, classifier_activation=None)
    path = zoo.save_packed(logits, tmp_path / "logits.onebit")
    [row] = run_json("predict", MODEL, tmp_path / "a.png", "-w", path)
    assert row["predictions"][0]["probability"] == pytest.approx(expected.max(), rel=1e-5)
    assert len(rows) == 2
    assert {guess["class"] for guess in first} <= {f"class {k}" for k in range(10)}
    (tmp_path / "names.txt").write_text("".join(f"{name} [/]n\n" for name in "abcdefghij"))
    text = run("predict", MODEL, tmp_path / "a.png", "-w", weights, "--classes", tmp_path / "names.txt").stdout
    assert "a.png" in text
    assert f" {'abcdefghij'[expected.argmax()]} [/]n " in text, "names are no markup"
    (tmp_path / "empty.txt").touch()
    for nothing, code in ((tmp_path / "empty.txt", 1), ("", 2)):
        assert (
            "classes"
            in run("predict", MODEL, tmp_path / "a.png", "-w", weights, "--classes", nothing, code=code).stderr
        )


def test_pack(weights: str, tmp_path: Path):
    output = tmp_path / "model.onebit"
    figures = run_json("pack", MODEL, "-w", weights, "-o", output)
    assert figures["packed_bytes"] == output.stat().st_size < figures["float32_bytes"] / 20
    original, packed = zoo.load(MODEL, weights=weights), zoo.load_packed(output)
    images = zoo.sample_images().images[:8].astype("float32")
    np.testing.assert_array_equal(packed.predict(images, verbose=0), original.predict(images, verbose=0))
    assert "packed file" in run("pack", MODEL, "-w", weights, "-o", output).stdout
