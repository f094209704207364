"""The main job, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebit import zoo
from onebit.cli import demo
from tests.onebit.commands import run, run_json


@pytest.mark.slow
def test_demo(tmp_path: Path):
    weights = zoo.save_packed(zoo.load(demo.MODEL), tmp_path / "random[1].onebit")
    result = run_json("demo", "-o", tmp_path / "out", "--images", 100, "--epochs", 1, "--weights", weights)
    assert result["counts"]["binary_parameters"] == zoo.recorded_counts()[demo.MODEL].binary_parameters
    assert result["images"] == 100 and result["held_out"] == 20
    assert all(0 <= result[name] <= 100 for name in ("accuracy", "before", "after"))
    assert Path(result["packed_file"]).stat().st_size == result["packed_bytes"] < result["float32_bytes"] / 20
    assert zoo.load_packed(result["packed_file"]).output_shape == (None, 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["animal_or_vehicle.onebit"]


def test_too_few_images(tmp_path: Path):
    assert "--images" in run("demo", "-o", tmp_path / "out", "--images", 10, code=2).output
    assert not (tmp_path / "out").exists()


def test_the_default_weights_ship():
    assert zoo.get_weights(demo.MODEL, demo.WEIGHTS).shipped
