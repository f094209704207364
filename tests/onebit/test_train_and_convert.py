"""The commands ``train`` and ``convert``."""

from __future__ import annotations

import pytest

from onebit import recipes, zoo
from onebit.recipes.data.datasets import DATASETS
from tests.onebit.commands import run, run_json
from tests.recipes.prepared import prepare


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """This process goes on after a training run: its memory stays as it is."""
    calls = []
    monkeypatch.setattr("onebit.cli.train.keep_freed_memory", lambda: calls.append(True))
    return calls


@pytest.mark.parametrize(
    ("arguments", "named", "code"),
    [
        (("train", "irnett", "-o", "RUN"), "'irnet'", 2),
        (("train", "irnet"), "--output", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epoch=3"), "'epochs'", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs=x"), "epochs", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs=3", "--epochs", 3), "--epochs", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs"), "KEY=VALUE", 2),
        pytest.param(("train", "irnet", "-o", "RUN", "--data-dir", "EMPTY"), "cifar10", 1, marks=pytest.mark.slow),
        (("convert", "FILE", "-m", "irnet_resnet200", "-o", "OUT"), "'irnet_resnet20'", 2),
        (("convert", "FILE", "-m", "irnet_resnet20", "-o", "OUT"), "FILE", 1),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(arguments, named, code, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("no checkpoint at all")
    names = ("RUN", "EMPTY", "FILE", "OUT")
    result = run(*(tmp_path / word if word in names else word for word in arguments), code=code)
    assert named in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "OUT").exists()
    assert not (tmp_path / "RUN").exists()


@pytest.mark.slow
def test_convert(tmp_path, goldens, reference):
    pytest.importorskip("torch", reason="PyTorch checkpoints need the extra 'convert'")
    source, output = tmp_path / "irnet.pth.tar", tmp_path / "irnet.onebit"
    reference.save_checkpoint(source, goldens / "irnet_resnet20_1w1a.json", 1)
    result = run_json("convert", source, "--model", "irnet_resnet20", "-o", output)
    assert result["packed_bytes"] == output.stat().st_size < 70_000


@pytest.mark.slow
def test_convert_a_keras_file_of_other_classes_and_images(tmp_path):
    """Such a file says nothing of either, nor of how images are prepared."""
    source, output = tmp_path / "five.weights.h5", tmp_path / "five.onebit"
    model = zoo.load("wide_resnet_20_1", num_classes=5, input_shape=(28, 28, 1))
    model.save_weights(source)
    command = ("convert", source, "--model", "wide_resnet_20_1", "-o", output)
    run(*command, code=1)
    run(*command, "--num-classes", 5, "--input-shape", "28x28x1", "--preprocessing", "minus1_1")
    converted = zoo.load_packed(output)
    assert (converted.input_shape, converted.output_shape) == ((None, 28, 28, 1), (None, 5))
    assert zoo.preprocessing_of(converted).name == "minus1_1"
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    run(*command, "--num-classes", 5, "--input-shape", "28x28x1", "--classes", tmp_path / "names.txt")
    assert zoo.model_info(zoo.load_packed(output)).class_names == tuple("abcde")


def test_recipes_are_listed():
    assert run_json("train", "--list") == recipes.list_recipes() == run("train", "--list").output.split()
    run("train", code=2)


def test_settings_are_shown(tmp_path):
    shown = run_json("train", "mcdonnell", "--show-settings", "--set", "width=1", "--epochs", 3)
    assert shown == recipes.get_recipe("mcdonnell", width=1, epochs=3).settings
    rows = run("train", "reactnet", "--show-settings", "-o", tmp_path / "run").output
    for name, value in recipes.get_recipe("reactnet").settings.items():
        shown = str(value).lower() if value is None or isinstance(value, bool) else str(value)
        assert f"{name} {shown}" in " ".join(rows.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_recipe_runs(tmp_path, kept):
    prepare(DATASETS["cifar10"], tmp_path)
    options = ("--data-dir", tmp_path, "--epochs", 1, "--limit", 32, "--set", "width=1", "--set", "depth=8")
    record = run_json("train", "mcdonnell", "-o", tmp_path / "run", *options, "--seed", 7, "--precision", "float64")
    assert (record["seed"], record["precision"], record["limit"]) == (7, "float64", 32)
    assert record["test"]["images"] == 32 and len(record["history"]) == 1
    assert kept, "freed memory is kept for the next step"
    assert "validation" not in record
    run("train", "mcdonnell", "-o", tmp_path / "kept", *options, "--validation", 8)
    kept_out = run_json("train", "mcdonnell", "-o", tmp_path / "kept", *options, "--validation", 8)
    assert kept_out["validation"] == 8
    other = ("train", "mcdonnell", "-o", tmp_path / "run", *options, "--seed", 8, "--precision", "float64")
    assert "seed" in run(*other, code=1).output
