"""The generated documents are what the registry, the docstrings and the records of the runs say today."""

from __future__ import annotations

import pytest
import register
import report
from pages import facts, pictures, tables

from onebit import zoo

REMEDY = "run python tools/report.py"
DOCUMENTS = report.documents()


def test_every_model_is_counted():
    assert set(zoo.recorded_counts()) == set(zoo.list_models()), f"{REMEDY} --count"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_up_to_date(path):
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path], REMEDY


@pytest.mark.parametrize("folder", [report.CARDS, report.PAPERS], ids=lambda folder: folder.name)
def test_there_are_no_other_pages(folder):
    assert set(folder.iterdir()) == {path for path in (*DOCUMENTS, *pictures.PICTURES) if path.parent == folder}, REMEDY


@pytest.mark.slow
@pytest.mark.parametrize("path", pictures.PICTURES, ids=lambda path: path.name)
def test_pictures_are_up_to_date(path):
    figures, _ = pictures.PICTURES[path]
    same(pictures.drawn(path), figures())


def same(old, new):
    """Compare what a picture shows with what it should show, numbers up to rounding."""
    if isinstance(new, dict):
        assert old.keys() == new.keys(), REMEDY
        for name, value in new.items():
            same(old[name], value)
    elif isinstance(new, list):
        assert len(old) == len(new), REMEDY
        for each in zip(old, new, strict=True):
            same(*each)
    else:
        assert old == (pytest.approx(new, abs=2e-4) if isinstance(new, float) else new), REMEDY


def test_labels_in_the_picture_keep_apart():
    assert pictures.label_heights([90.0, 51.0, 50.0, 51.5], apart=0.05) == [90.0, 52.0, 50.0, 54.0]
    assert pictures.label_heights([]) == [] and pictures.label_heights([70.0]) == [70.0]


def test_all_we_trained_is_on_the_leaderboard_and_all_weights_in_the_readme():
    ours = [row for row in zoo.list_weights() if row.source == "onebit" and row.dataset == "cifar10"]
    assert {row.model for row in ours} == {row.model for row in facts.results()}
    for row in ours:
        (line,) = (line for line in tables.leaderboard().splitlines() if f"[`{row.model}`]" in line)
        assert f"{row.metrics['top1']:.2f} %" in line and row.recipe in line and row.metrics["images"] == 10_000
    assert tables.weights("").count("\n") == len(zoo.list_weights()) + 2


def test_the_leaderboard_has_mean_and_deviation_where_there_are_several_seeds(monkeypatch):
    row = facts.results()[0]
    record = facts.record_of(row) | {"other_seeds": {"2": row.metrics["top1"] + 0.2, "3": row.metrics["top1"] + 0.4}}
    for module in (facts, tables):
        monkeypatch.setattr(module, "record_of", lambda row: record)
    assert f"{row.metrics['top1'] + 0.2:.2f} ± 0.20 % (3)" in tables.leaderboard([row])


def test_insert_replaces_what_is_between_the_marks():
    document = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n"
    assert report.insert(document, "a", "new\n") == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"


@pytest.mark.slow
@pytest.mark.parametrize("row", facts.results(), ids=lambda row: row.model)
def test_the_command_on_a_card_repeats_the_run(row: zoo.Weights):
    """It has the settings that differ from the recipe's defaults, and builds the registered model."""
    record, model = facts.record_of(row), zoo.load(row.model)
    assert register.command(record) == row.recipe
    assert zoo.model_info(facts.recipe_of(record).stages[-1].build(10, (32, 32, 3))) == zoo.model_info(model)
    # Registered figures are those of float32, a record's those of the run's precision.
    rounding = 0.005 if record["precision"] == "float32" else 0.5
    assert row.metrics["top1"] == pytest.approx(record["test"]["top1"], abs=rounding)


@pytest.mark.slow
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
