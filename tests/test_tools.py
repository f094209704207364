"""`register.py` puts a finished run among the weights that ship; the other tools start."""

from __future__ import annotations

import csv
import hashlib
import json
import runpy
import sys
from pathlib import Path

import pytest
import register

from onebit import recipes, zoo
from tests.recipes.prepared import prepare

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [*(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
COMMANDS = [path for path in SCRIPTS if "ArgumentParser" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_a_command_has_help(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code and f"usage: {script.name}" in capsys.readouterr().out


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of weights that ship, with one row in its list."""
    monkeypatch.setattr(register, "DATA", tmp_path / "shipped")
    (register.DATA / "weights").mkdir(parents=True)
    (register.DATA / "weights" / "irnet.json").write_text('[{"model": "another", "tag": "cifar10"}]')
    return register.DATA


def registered(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["register.py", *map(str, arguments)])
    register.main()


@pytest.mark.slow
def test_a_run_is_registered(tmp_path, monkeypatch, shipped):
    prepare(recipes.DATASETS["cifar10"], tmp_path)
    run = tmp_path / "run"
    settings = {"epochs": 1, "batch_size": 8, "precision": "float32", "verbose": 0}
    record = recipes.train("irnet", run, data_dir=tmp_path, validation=8, **settings)
    registered(
        monkeypatch, run, "irnet_resnet20", "--data-dir", tmp_path, "--device", "a test", "--note", "Made for a test."
    )
    row, other = json.loads((shipped / "weights" / "irnet.json").read_text())
    assert other["model"] == "another"
    content = (shipped / row["file"]).read_bytes()
    assert (row["sha256"], row["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert row["metrics"]["top1"] == pytest.approx(record["test"]["top1"], abs=0.005)
    assert (row["metrics"]["images"], row["note"]) == (40, "Made for a test.")
    assert "--validation 8" in row["recipe"] and "batch_size=8" in row["recipe"]
    assert zoo.load("irnet_resnet20", weights=shipped / row["file"]).count_params() == record["parameters"]
    kept = json.loads((shipped / "irnet_resnet20_cifar10.json").read_text())
    assert kept == {name: value for name, value in record.items() if name != "history"} | {"device": "a test"}
    with (shipped / "irnet_resnet20_cifar10.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


@pytest.mark.parametrize(
    "record",
    [{"limit": 100}, {"data": "given"}, {"data": "cifar10"}],
    ids=["a trial", "other people's images", "nobody knows on what"],
)
def test_what_cannot_be_measured_is_not_registered(record, tmp_path, monkeypatch, shipped):
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="2"):
        registered(monkeypatch, tmp_path, "irnet_resnet20")
    assert [path.name for path in shipped.iterdir()] == ["weights"]


def test_runs_that_repeat_another(tmp_path):
    record = {"recipe": "irnet", "settings": {"epochs": 2}, "data": "cifar10", "precision": "float32", "seed": 1}
    runs = []
    for name, change in {"a": {"seed": 2}, "b": {"seed": 3}, "c": {"seed": 4, "settings": {"epochs": 3}}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(json.dumps(record | change | {"test": {"top1": 80.0}}))
        runs.append(tmp_path / name)
    assert register.other_seeds(record, runs[:2]) == {"2": 80.0, "3": 80.0}
    with pytest.raises(ValueError, match="differs in settings"):
        register.other_seeds(record, runs)
    with pytest.raises(ValueError, match="seed 2 again"):
        register.other_seeds(record, [runs[0], runs[0]])
