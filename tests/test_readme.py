"""The README's table and the recorded counts are what the registry says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from onebit import zoo

ROOT = Path(__file__).resolve().parents[1]
REMEDY = "run python benchmarks/readme_tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_is_counted():
    assert set(zoo.recorded_counts()) == set(zoo.list_models()), REMEDY


def test_the_table_is_up_to_date(tables: ModuleType):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.insert(readme, tables.table(zoo.recorded_counts())) == readme, REMEDY


def test_insert_replaces_what_is_between_the_marks(tables: ModuleType):
    readme = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.insert(readme, "new\n") == f"before\n{tables.BEGIN}\nnew\n{tables.END}\nafter\n"


def test_a_model_with_weights_has_a_row_for_each(tables: ModuleType):
    rows = [line for line in tables.table(zoo.recorded_counts()).splitlines() if "`wide_resnet_20_10`" in line]
    assert len(rows) == len(zoo.list_weights("wide_resnet_20_10"))
    assert any("`cifar10`" in row and "96.25 %" in row for row in rows)


@pytest.mark.parametrize("name", ["wide_resnet_20_1", "birealnet20"])
def test_recorded_counts(name: str):
    assert zoo.count(zoo.load(name)) == zoo.recorded_counts()[name], REMEDY


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_recorded_counts_of_all(name: str):
    assert zoo.count(zoo.load(name)) == zoo.recorded_counts()[name], REMEDY


def test_counts_by_hand():
    # 3x3 kernels: 3 to 16 channels, then at each scale six of its width, one of which widens; a 1x1 to ten classes.
    kernels = 3 * 16 + 6 * 16 * 16 + (16 * 32 + 5 * 32 * 32) + (32 * 64 + 5 * 64 * 64)
    counts = zoo.recorded_counts()["wide_resnet_20_1"]
    assert counts.binary_parameters == 9 * kernels + 64 * 10
    real = counts.parameters - counts.binary_parameters
    assert counts.memory == (counts.binary_parameters + 32 * real) / 8
    assert counts.float32_memory == 4 * counts.parameters
    assert counts.binary_macs == 0
