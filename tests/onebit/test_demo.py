"""The main job, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from onebit import zoo
from onebit.cli import demo_run as demo
from onebit.cli import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(zoo.save_packed(zoo.load(demo.MODEL), tmp_path_factory.mktemp("weights") / "random.onebit"))


def test_demo(weights: str, tmp_path: Path):
    arguments = [
        "demo",
        "-o",
        str(tmp_path / "out"),
        "--images",
        "100",
        "--epochs",
        "1",
        "--weights",
        weights,
        "--json",
    ]
    process = CliRunner().invoke(main, arguments)
    assert process.exit_code == 0, process.output
    result = json.loads(process.stdout)
    assert result["counts"]["binary_parameters"] == zoo.recorded_counts()[demo.MODEL].binary_parameters
    assert result["identical"]
    assert result["trained_on"] + result["held_out"] == result["images"] == 100
    assert 0 <= result["after"] <= 100
    assert Path(result["packed_file"]).stat().st_size == result["packed_bytes"] < result["float32_bytes"] / 20
    assert zoo.load_packed(result["packed_file"]).output_shape == (None, 2)
    with Image.open(result["picture"]) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 800
        assert len(picture.convert("RGB").getcolors(10**6)) > 1000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["animal_or_vehicle.onebit", "demo.png"]


def test_arguments_are_checked(tmp_path: Path):
    with pytest.raises(ValueError, match="images must be 100 to 1000"):
        demo.run(tmp_path, images=10)
    with pytest.raises(ValueError, match="epochs"):
        demo.run(tmp_path, epochs=0)


def test_the_shipped_weights_suit():
    assert zoo.get_weights(demo.MODEL, demo.WEIGHTS).shipped
