"""The commands ``train`` and ``convert``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from onebit import recipes, zoo
from onebit.cli import main
from tests.conftest import shared


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """This process goes on after a training: its memory stays as it is."""
    calls = []
    monkeypatch.setattr("onebit.cli.train.keep_freed_memory", lambda: calls.append(True))
    return calls


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("train", "irnett", "-o", "RUN"), "Did you mean 'irnet'", 2),
        (("train", "irnet"), "Missing option '--output'", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epoch=3"), "no setting 'epoch'. Did you mean 'epochs'", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs=x"), "epochs must be int or None, not 'x'", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs=3", "--epochs", 3), "Give either --epochs or --set", 2),
        (("train", "irnet", "-o", "RUN", "--set", "epochs"), "--set wants KEY=VALUE", 2),
        (("train", "irnet", "-o", "RUN", "--data-dir", "EMPTY"), "is not prepared in", 1),
        (("convert", "FILE", "-m", "irnet_resnet200", "-o", "OUT"), "Did you mean 'irnet_resnet20'", 2),
        (("convert", "FILE", "-m", "irnet_resnet20", "-o", "OUT"), "not a checkpoint of a known format", 1),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(arguments, message, code, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("no checkpoint at all")
    names = ("RUN", "EMPTY", "FILE", "OUT")
    result = run(*(tmp_path / word if word in names else word for word in arguments))
    assert result.exit_code == code
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "OUT").exists()
    assert not (tmp_path / "RUN").exists()


def test_convert(tmp_path, goldens, reference):
    pytest.importorskip("torch", reason="PyTorch checkpoints need the extra 'convert'")
    source, output = tmp_path / "irnet.pth.tar", tmp_path / "irnet.onebit"
    reference.save_checkpoint(source, goldens / "irnet_resnet20_1w1a.json", 1)
    result = run("convert", source, "--model", "irnet_resnet20", "-o", output, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["packed_bytes"] == output.stat().st_size < 70_000


def test_convert_a_keras_file_of_other_classes_and_images(tmp_path):
    """Such a file says nothing of either, nor of how images are prepared."""
    source, output = tmp_path / "five.weights.h5", tmp_path / "five.onebit"
    model = zoo.load("wide_resnet_20_1", num_classes=5, input_shape=(28, 28, 1))
    model.save_weights(source)
    command = ("convert", source, "--model", "wide_resnet_20_1", "-o", output)
    assert run(*command).exit_code == 1
    result = run(*command, "--num-classes", 5, "--input-shape", "28x28x1", "--preprocessing", "symmetric")
    assert result.exit_code == 0, result.output
    converted = zoo.load_packed(output)
    assert (converted.input_shape, converted.output_shape) == ((None, 28, 28, 1), (None, 5))
    assert zoo.preprocessing_of(converted) == "symmetric"
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    named = run(*command, "--num-classes", 5, "--input-shape", "28x28x1", "--classes", tmp_path / "names.txt")
    assert named.exit_code == 0, named.output
    assert zoo.model_info(zoo.load_packed(output)).class_names == tuple("abcde")


def test_settings_are_shown(tmp_path):
    result = run("train", "mcdonnell", "--show-settings", "--set", "width=1", "--epochs", 3, "--json")
    assert json.loads(result.output) == recipes.get_recipe("mcdonnell", width=1, epochs=3).settings
    rows = run("train", "reactnet", "--show-settings", "-o", tmp_path / "run").output
    for name, value in recipes.get_recipe("reactnet").settings.items():
        shown = str(value).lower() if value is None or isinstance(value, bool) else str(value)
        assert f"{name} {shown}" in " ".join(rows.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_recipe_runs_as_a_smoke_test(tmp_path, kept):
    data = shared("tfds")
    arguments = ("--data-dir", data, "--epochs", 1, "--limit", 256, "--set", "width=1")
    result = run("train", "mcdonnell", "-o", tmp_path / "run", *arguments, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.output)
    assert record["test"]["images"] == 256
    assert len(record["history"]) == 1
    assert kept, "freed memory is kept for the next step"
