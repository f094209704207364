"""The command line: what it prints, as tables and as JSON, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from onebit import __version__, zoo
from onebit.cli import COMMANDS, catalogue, choices, loading, sources
from onebit.cli.output import print_json
from onebit.recipes.trainer import PRECISIONS
from onebit.recipes.training.strategies import STRATEGIES
from onebit.zoo.export.artifact import Format
from onebit.zoo.export.convert import Precision
from onebit.zoo.export.predictor import Engine
from tests.helpers import shared
from tests.onebit.commands import run, run_json

MODEL = "wide_resnet_20_1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A packed file of a model with random weights."""
    return str(zoo.save_packed(zoo.load(MODEL), tmp_path_factory.mktemp("weights") / "random.onebit"))


def python(code: str, **environment: str) -> str:
    """Run code in a new interpreter, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, **environment}, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode("latin-1")


def test_what_is_only_shown_needs_no_tensorflow():
    """Help of all commands, and what the zoo has."""
    code = f"""
import sys
from onebit.cli import main
shown = [["list"], ["list", "--weights"], ["info", {MODEL!r}], ["info", "larq/quicknet", "--help"], ["--version"]]
for arguments in (["--help"], *shown, *([command, "--help"] for command in {COMMANDS!r})):
    main(arguments, standalone_mode=False)
sys.exit(f"imported: {{slow}}" if (slow := {{"tensorflow", "larq", "h5py", "matplotlib"}} & set(sys.modules)) else 0)
"""
    text = python(code, PYTHONIOENCODING="utf-8")
    assert __version__ in text and MODEL in text


def test_records_are_the_registry():
    """The names, and what is said of them: `tools/report.py` writes it. What no record tells is asked for."""
    assert {*catalogue.models()} == {*zoo.list_models(), *zoo.list_models("larq/*")}
    for name, row in catalogue.models().items():
        weights = zoo.list_weights(name)
        asked = catalogue.describe(zoo.entry(name))
        inputs = asked.pop("weights")
        assert {key: row[key] for key in asked} == json.loads(json.dumps(asked))
        assert [each["tag"] for each in row["weights"]] == [each.tag for each in weights]
        assert [each["input"] for each in row["weights"]] == list(inputs.values())
        counts = zoo.recorded_counts().get(name)
        assert row["counts"] == (counts and dataclasses.asdict(counts))


def test_a_paper_without_a_record_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "data").symlink_to(Path(zoo.__file__).parent / "data")
    (tmp_path / "sixth.py").write_text("\n@register('x', PAPER)\n")
    monkeypatch.setattr(catalogue, "_folder", lambda: tmp_path)
    monkeypatch.setattr(catalogue, "described", lambda: {"sixth": [{"model": "x", "weights": {}}]})
    assert list(catalogue.models.__wrapped__()) == ["x"]


def test_list():
    assert [row["model"] for row in run_json("list", "wide_resnet_2*_10")] == ["wide_resnet_20_10", "wide_resnet_26_10"]
    [row] = run_json("list", "20_10")
    assert row["counts"]["parameters"] > 26e6 and "cifar10" in row["weights"] and row["paper_top1"] == 96.08
    rows = run_json("list", "20_10", "--weights")
    assert {"cifar10", "cifar100"} <= {row["tag"] for row in rows}
    assert "96.25 %" in run("list", "20_10", "--weights").stdout
    assert "--weights" in run("list", "birealnet34", "--weights").stdout
    assert run_json("list", "larq/*", "--weights") == []


@pytest.mark.parametrize("columns", ["80", "120"])
def test_names_are_whole_on_any_terminal(columns: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # what Rich takes for a terminal
    monkeypatch.setenv("TERM", "dumb")
    for arguments, names in ((["list"], zoo.list_models()), (["list", "larq/"], zoo.list_models("larq/*"))):
        text = run(*arguments).stdout
        assert all(f" {name} " in text for name in names)
        assert max(map(len, text.splitlines())) <= int(columns)


def test_info(weights: str):
    text = run("info", "wide_resnet_20_10").stdout
    assert all(fact in text for fact in ("1802.08530", "26.8 M", "MIT", "cifar100_matlab", "zoo.WideResNet(depth=20"))
    info = run_json("info", "wide_resnet_20_10")
    assert info["arguments"] == {"depth": 20, "width": 10}
    assert info["weights"][0]["sha256"] == zoo.get_weights("wide_resnet_20_10", "cifar10").sha256
    assert zoo.entry("reactnet_b").note in " ".join(run("info", "reactnet_b").stdout.split())
    images = run("info", "irnet_resnet20").stdout
    assert "32 x 32" in images and "123.675, 116.28, 103.53" in images and "58.395, 57.12, 57.375" in images
    file = run_json("info", weights)
    assert zoo.Preprocessing.from_dict(file["preprocessing"]) == zoo.preprocessing_of(zoo.load_packed(weights))
    assert file["function"] == "WideResNet" and "WideResNet" in run("info", weights).stdout


@pytest.mark.slow
def test_summary(weights: str):
    assert "stage1_block1_conv1" in run("summary", MODEL).stdout
    small, large = (run_json("summary", MODEL, "--input-shape", shape) for shape in ("32x32x3", "64x64x3"))
    assert small["counts"]["float_macs"] == zoo.recorded_counts()[MODEL].float_macs
    assert large["counts"]["float_macs"] == 4 * small["counts"]["float_macs"]
    assert run_json("summary", MODEL, "--num-classes", 100)["counts"]["parameters"] > small["counts"]["parameters"]
    assert run_json("summary", weights)["counts"] == small["counts"]
    for name, total in small["counts"].items():
        if name != "float32_memory":
            assert sum(layer[name] or 0 for layer in small["layers"]) == pytest.approx(total, abs=1)
    layers = {layer["name"]: layer for layer in run_json("summary", "birealnet20")["layers"]}
    convolution = layers["stage1_block1_conv"]
    assert (convolution["input_precision"], convolution["binary_parameters"]) == (1, 16 * 9 * 16)
    assert (convolution["binary_macs"], convolution["float_macs"]) == (32 * 32 * 16 * 9 * 16, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ("lst", 2, "'list'"),
        ("info wide_resnet_20_11", 2, "'wide_resnet_20_1'"),
        ("list no-such-model", 2, "'no-such-model'"),
        ("info lrq/quicknet", 2, "larq/"),
        (f"summary {MODEL} --input-shape 32", 2, "32x32x3"),
        ("summary larq/quicknet_small --input-shape 0x0x3", 2, "'0x0x3'"),
        (f"summary {MODEL} --input-shape 1x1x3", 1, "input_shape"),
        ("summary FILE --num-classes 3", 2, "--num-classes"),
        ("evaluate wide_resnet_20_10", 2, "'cifar100_matlab'"),
        (f"evaluate {MODEL} --weights cifar11", 2, "'cifar11'"),
        ("evaluate birealnet34", 2, "--weights"),
        ("evaluate FILE --weights cifar10", 2, "--weights"),
        ("predict larq/quicknet x.png", 2, "--weights imagenet"),
        ("predict larq/quicknet x.png -w imagnet", 2, "'imagnet'"),
        (f"predict {MODEL} x.png --preprocessing rwa", 2, "'0_255'"),
        (f"predict {MODEL} x.png --classes cifar", 2, "'cifar'"),
        (f"predict {MODEL} nowhere.png", 1, "nowhere.png"),
        (f"predict {MODEL}", 2, "IMAGE"),
        (f"evaluate {MODEL} --limit 0", 2, "--limit"),
        ("evaluate", 2, "--all-cifar10"),
        (f"evaluate {MODEL} --all-cifar10", 2, "--all-cifar10"),
        *((f"evaluate --all-cifar10 --{name} x", 2, f"--{name}") for name in ("data", "weights", "split", "classes")),
        (f"evaluate {MODEL} --split test", 2, "--split"),
        (f"evaluate {MODEL} --data x.npz --data-dir .", 2, "--data-dir"),
        (f"evaluate {MODEL} --data x/y", 1, "x/y"),
        (f"evaluate {MODEL} -w JUNK", 1, "JUNK"),
        (f"evaluate {MODEL} --data cifar10 --data-dir EMPTY", 1, "cifar10"),
        (f"pack {MODEL} -o EMPTY/nowhere/x.onebit", 1, "nowhere"),
    ],
)
def test_errors_are_one_message(arguments: str, code: int, named: str, weights: str, tmp_path: Path):
    (tmp_path / "JUNK").write_bytes(b"not a checkpoint")
    (tmp_path / "EMPTY").mkdir()
    places = {"FILE": weights, "JUNK": str(tmp_path / "JUNK"), "EMPTY": str(tmp_path / "EMPTY")}
    words = [places.get(word, word.replace("EMPTY/", f"{tmp_path}/EMPTY/")) for word in arguments.split()]
    result = run(*words, code=code)
    assert named in result.stderr and not result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "error",
    [ImportError("PyTorch"), ModuleNotFoundError("PyTorch"), tf.errors.DataLossError(None, None, "PyTorch\x1b")],
)
def test_errors_of_the_libraries(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(zoo, "load", fail)
    message = run("summary", MODEL, code=1).stderr
    assert "PyTorch" in message and message.strip().replace("\n", "").isprintable()


def test_weights_of_the_package_are_the_default():
    """Of a model with others, which are fetched, too."""
    rows = zoo.list_weights("adabin_resnet20")
    assert any(not row.shipped for row in rows)
    assert loading.load("adabin_resnet20", None).weights == next(row.tag for row in rows if row.shipped)


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "load", stop)
    assert run("summary", MODEL, code=130).stderr.strip().count("\n") == 0


@pytest.mark.slow
def test_evaluate_on_the_sample(weights: str):
    """Named and by its file alike; in float32."""
    result = run_json("evaluate", MODEL, "-w", weights, "--limit", 150, "--batch-size", 64)
    sample = zoo.sample_images()
    expected = zoo.load_packed(weights).predict(sample.images[:150].astype("float32"), verbose=0).argmax(axis=1)
    assert (result["images"], result["precision"]) == (150, "float32")
    assert result["top1"] == pytest.approx(100 * np.mean(expected == sample.labels[:150]))
    assert result["top1"] <= result["top5"] <= 100
    assert run_json("evaluate", weights, "--limit", 150)["top1"] == result["top1"]
    text = run("evaluate", MODEL, "-w", weights, "--limit", 20, "--precision", "mixed_bfloat16").stdout
    assert "20 images" in text and "mixed_bfloat16" in text


@pytest.mark.slow
def test_evaluate_all_that_ships():
    """On a few images the accuracy is near the registered one, not the same."""
    results = run_json("evaluate", "--all-cifar10", "--data-dir", shared("tfds"), "--limit", 200)
    assert MODEL in [result["model"] for result in results]
    assert all(abs(result["top1"] - result["registered"]) < 9 for result in results)


@pytest.mark.slow
def test_evaluate_fails_where_a_registered_figure_is_not_reproduced(monkeypatch: pytest.MonkeyPatch):
    sample = zoo.sample_images()
    batch = sample.images[:20], sample.labels[:20]
    dataset = sources.LabelledImages("cifar10", 20, lambda *how: iter([batch]))
    monkeypatch.setattr(sources, "open_dataset", lambda *arguments, **options: dataset)
    assert "differs" in run("evaluate", "--all-cifar10", code=1).stdout


@pytest.mark.slow
def test_evaluate_on_files(weights: str, tmp_path: Path):
    """The same images as arrays and in folders named like classes; folders of other names are a matter of their order,
    of which the user is told."""
    sample = zoo.sample_images()
    chosen = np.concatenate([np.flatnonzero(sample.labels == label)[:2] for label in range(10)])
    np.savez(tmp_path / "images.npz", images=sample.images[chosen], labels=sample.labels[chosen])
    for place in chosen:
        folder = tmp_path / "folders" / sample.class_names[sample.labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.images[place]).save(folder / f"{place}.png")
    evaluate = ("evaluate", MODEL, "-w", weights, "--data")
    named = [run_json(*evaluate, tmp_path / name, "--classes", "cifar10") for name in ("images.npz", "folders")]
    assert [figures["images"] for figures in named] == [20, 20]
    assert [named[0][name] for name in ("top1", "top5")] == [named[1][name] for name in ("top1", "top5")]
    (tmp_path / "folders" / "automobile").rename(tmp_path / "folders" / "car")
    assert "car is class 2" in run(*evaluate, tmp_path / "folders").stderr
    assert "car" in run(*evaluate, tmp_path / "folders", "--classes", "cifar10", code=1).stderr
    other = zoo.save_packed(zoo.load(MODEL, num_classes=100), tmp_path / "hundred.onebit")
    assert "100" in run("evaluate", other, code=1).stderr


@pytest.mark.slow
def test_networks_for_grey_images(tmp_path: Path):
    weights = zoo.save_packed(zoo.load(MODEL, input_shape=(28, 28, 1)), tmp_path / "grey.onebit")
    image = tmp_path / "folders" / "cat" / "image.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(zoo.sample_images().images[0]).resize((28, 28)).save(image)
    grey = np.asarray(Image.open(image).convert("L"))[None, ..., None]
    np.savez(tmp_path / "grey.npz", images=grey, labels=[3])
    [row] = run_json("predict", weights, image, "--top", 1)
    expected = zoo.load_packed(weights).predict(grey.astype("float32"), verbose=0).max()
    assert row["predictions"][0]["probability"] == pytest.approx(expected, rel=1e-5)
    evaluate = ("evaluate", weights, "--classes", "cifar10", "--data")
    figures = [run_json(*evaluate, tmp_path / name) for name in ("grey.npz", "folders")]
    assert figures[0]["top1"] == figures[1]["top1"]
    assert "28 x 28 x 1" in run(*evaluate[:-1], code=1).stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: (np.float32(0.5), np.inf), "b": float("nan")}, {"1": [0.5, None], "b": None}),
        ([np.int64(1), True, None, Path("a")], [1, True, None, "a"]),
        (sources.LabelledImages("a", 1, len), {"name": "a", "count": 1, "num_classes": None, "note": None}),
    ],
)
def test_json_is_strict(value: object, expected: object, capsys: pytest.CaptureFixture):
    print_json(value)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == expected or found == {**expected, "read": str(len)}


def test_choices_match_the_library():
    assert choices.TRAINING_PRECISIONS == PRECISIONS
    assert choices.STRATEGIES == STRATEGIES
    assert get_args(Precision) == choices.EXPORT_PRECISIONS
    assert get_args(Format) == choices.EXPORT_FORMATS
    assert get_args(Engine) == choices.ENGINES


def test_predict(weights: str, tmp_path: Path):
    sample = zoo.sample_images()
    Image.fromarray(sample.images[0]).save(tmp_path / "a.png")
    Image.fromarray(sample.images[1]).resize((80, 60)).save(tmp_path / "b.jpg")
    rows = run_json("predict", MODEL, tmp_path / "a.png", tmp_path / "b.jpg", "-w", weights, "--top", 3)
    expected = zoo.load_packed(weights).predict(sample.images[:1].astype("float32"), verbose=0)[0]
    first = rows[0]["predictions"]
    assert [guess["index"] for guess in first] == np.argsort(-expected)[:3].tolist() and len(rows) == 2
    logits = zoo.save_packed(zoo.load(MODEL, weights=weights, classifier_activation=None), tmp_path / "logits.onebit")
    [row] = run_json("predict", logits, tmp_path / "a.png")
    for probability in (first[0]["probability"], row["predictions"][0]["probability"]):
        assert probability == pytest.approx(expected.max(), rel=1e-5)


@pytest.mark.slow
def test_predict_says_what_computed(weights: str, tmp_path: Path):
    """The fastest engine that is installed, and Keras for a network of images of any size."""
    Image.fromarray(zoo.sample_images().images[0]).save(tmp_path / "a.png")
    [row] = run_json("predict", weights, tmp_path / "a.png")
    assert row["engine"] == zoo.compile(zoo.load_packed(weights)).engine
    assert f"Computed by {row['engine']}." in run("predict", weights, tmp_path / "a.png").stdout
    open_size = zoo.load(MODEL, weights=weights, input_shape=(None, None, 3))
    [row] = run_json("predict", zoo.save_packed(open_size, tmp_path / "any.onebit"), tmp_path / "a.png")
    assert row["engine"] == "keras"


@pytest.mark.slow
def test_class_names(weights: str, tmp_path: Path):
    """They are no markup, may have what the terminal has not, and come with the marks of Windows' editors."""
    Image.fromarray(zoo.sample_images().images[0]).save(tmp_path / "a.png")
    predict = ("predict", weights, tmp_path / "a.png", "--classes", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_bytes("\ufeff猫 [/]n \r\n".encode() + b"".join(b"%c\r\n" % c for c in b"bcdefghij"))
    names = [guess["class"] for guess in run_json(*predict, "--top", 10)[0]["predictions"]]
    assert sorted(names) == sorted(["猫 [/]n", *"bcdefghij"])
    code = f"import sys; sys.argv = {['onebit', *map(str, predict), '--top', '10']!r}; import onebit.__main__"
    text = python(code, PYTHONIOENCODING="ascii", TF_CPP_MIN_LOG_LEVEL="3")
    assert "? [/]n" in text
    for content in (b"", b"a\n\nb\n", "é\n".encode("latin-1"), b"\x1b[2J\n" * 10, b"a\n" * 10**6):
        (tmp_path / "names.txt").write_bytes(content)
        assert "names.txt" in run(*predict, code=1).stderr


@pytest.mark.slow
def test_a_network_of_nan(tmp_path: Path):
    model = zoo.load(MODEL)
    for variable in model.get_layer("logits_bn").weights:
        variable.assign(np.full(variable.shape, np.nan))
    weights = zoo.save_packed(model, tmp_path / "nan.onebit")
    Image.fromarray(zoo.sample_images().images[0]).save(tmp_path / "a.png")
    [row] = run_json("predict", weights, tmp_path / "a.png")
    assert [guess["probability"] for guess in row["predictions"]] == [None] * 5
    assert "not a number" in run("predict", weights, tmp_path / "a.png").stdout


@pytest.mark.slow
def test_pack(weights: str, tmp_path: Path):
    output = tmp_path / "model.onebit"
    figures = run_json("pack", MODEL, "-w", weights, "-o", output)
    assert figures["packed_bytes"] == output.stat().st_size < figures["float32_bytes"] / 20
    for old, new in zip(zoo.load_packed(weights).get_weights(), zoo.load_packed(output).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
