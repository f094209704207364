"""The commands ``train`` and ``convert``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

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
    ("arguments", "message"),
    [
        (("train", "irnett", "-o", "RUN"), "Did you mean 'irnet'"),
        (("train", "irnet", "-o", "RUN", "--set", "epoch=3"), "no setting 'epoch'. Did you mean 'epochs'"),
        (("train", "irnet", "-o", "RUN", "--set", "epochs"), "--set wants KEY=VALUE"),
        (("train", "irnet", "-o", "RUN", "--data-dir", "EMPTY"), "is not prepared in"),
        (("convert", "FILE", "-m", "irnet_resnet200", "-o", "OUT"), "Did you mean 'irnet_resnet20'"),
        (("convert", "FILE", "-m", "irnet_resnet20", "-o", "OUT"), "not a checkpoint of a known format"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(arguments, message, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("no checkpoint at all")
    names = ("RUN", "EMPTY", "FILE", "OUT")
    result = run(*(tmp_path / word if word in names else word for word in arguments))
    assert result.exit_code in (1, 2)
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
