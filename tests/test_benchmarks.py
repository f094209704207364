"""The scripts in `benchmarks/` start, and `register.py` puts a finished run among the weights that ship."""

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

SCRIPTS = sorted(Path(register.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    "script",
    [path for path in SCRIPTS if "ArgumentParser" in path.read_text(encoding="utf-8")],
    ids=lambda path: path.stem,
)
def test_a_script_says_what_it_is_for(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    purpose = script.read_text(encoding="utf-8").partition("\n")[0].strip('"')
    assert purpose in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of weights that ship, with one row in its list."""
    monkeypatch.setattr(register, "DATA", tmp_path / "shipped")
    register.DATA.mkdir()
    (register.DATA / "weights.json").write_text('[{"model": "another", "tag": "cifar10"}]')
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
    registered(monkeypatch, run, "irnet_resnet20", "--data-dir", tmp_path, "--note", "Made for a test.")
    row, other = json.loads((shipped / "weights.json").read_text())
    assert other["model"] == "another"
    content = (shipped / row["file"]).read_bytes()
    assert (row["sha256"], row["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert row["metrics"]["top1"] == pytest.approx(record["test"]["top1"], abs=0.005)
    assert (row["metrics"]["images"], row["note"]) == (40, "Made for a test.")
    assert "--validation 8" in row["recipe"] and "batch_size=8" in row["recipe"]
    assert zoo.load("irnet_resnet20", weights=shipped / row["file"]).count_params() == record["parameters"]
    kept = json.loads((shipped / "irnet_resnet20_cifar10.json").read_text())
    assert kept == {name: value for name, value in record.items() if name != "history"}
    with (shipped / "irnet_resnet20_cifar10.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"limit": 100}, "is a trial on 100 images"),
        ({"limit": None, "data": "given"}, "only who gave them can measure"),
    ],
)
def test_a_trial_is_not_registered(record, message, tmp_path, monkeypatch, shipped, capsys):
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="2"):
        registered(monkeypatch, tmp_path, "irnet_resnet20")
    assert message in capsys.readouterr().err
    assert [path.name for path in shipped.iterdir()] == ["weights.json"]
