"""The documents' figures and the recorded counts are what the registry and the runs' records say today."""

from __future__ import annotations

import pareto
import pytest
import register
import report
import results
import shapes
import svg
import train_shipped

from onebit import quantizers, recipes, zoo

REMEDY = "run python tools/report.py"
DOCUMENTS = report.documents()


def test_every_model_is_counted():
    assert set(zoo.recorded_counts()) == set(zoo.list_models()), f"{REMEDY} --count"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_up_to_date(path):
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path], REMEDY


def test_there_are_no_other_cards():
    assert set(report.CARDS.iterdir()) == {path for path in DOCUMENTS if path.parent == report.CARDS}, REMEDY


def test_the_picture_of_results_is_up_to_date():
    assert [pareto.Point(*each) for each in svg.drawn(report.PICTURE)] == pareto.points(), REMEDY


def test_the_picture_of_quantizers_is_up_to_date():
    for old, now in zip(svg.drawn(report.SHAPES), shapes.curves(), strict=True):
        assert old[:2] == [now.title, now.kernel] and old[-1].keys() == now.slopes.keys(), REMEDY
        for values, new in zip((*old[2:4], *old[4].values()), (now.x, now.y, *now.slopes.values()), strict=True):
            assert values == pytest.approx(new, abs=2e-4), REMEDY


def test_every_quantizer_is_in_the_picture():
    """And every non-linearity."""
    layers = [name for name in quantizers.__all__ if isinstance(getattr(quantizers, name), type)]
    drawn = {title.split(",")[0] for title, *_ in svg.drawn(report.SHAPES)}
    assert drawn == set(layers) - {"EDESchedule", "KernelQuantizer"}


def test_labels_in_the_picture_keep_apart():
    assert pareto.label_heights([90.0, 51.0, 50.0, 51.5], apart=0.05) == [90.0, 52.0, 50.0, 54.0]
    assert pareto.label_heights([]) == [] and pareto.label_heights([70.0]) == [70.0]


def test_every_result_has_a_row_and_a_point():
    table = report.results_table()
    rows = [row for row in zoo.list_weights() if row.source == "onebit" and row.dataset == "cifar10"]
    assert rows and len(pareto.points()) == len(rows) == table.count("\n") - 2
    for row in rows:
        assert f"`{row.model}`" in table and f"{row.metrics['top1']:.2f} %" in table


def test_insert_replaces_what_is_between_the_marks():
    document = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n"
    assert report.insert(document, "a", "new\n") == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"


def test_everything_we_trained_can_be_trained_again():
    assert {row.model for row in results.results()} <= train_shipped.RUNS.keys()


@pytest.mark.parametrize("model", train_shipped.RUNS)
def test_what_trains_the_shipped_networks_trained_them(model: str):
    """The recipe's command builds the registered model, and has the settings and the length of the run's record."""
    run = train_shipped.RUNS[model]
    recipe = recipes.get_recipe(run.recipe, epochs=run.epochs, **run.settings)
    assert zoo.model_info(recipe.stages[-1].build(10, (32, 32, 3))) == zoo.model_info(zoo.load(model))
    chosen = {key: recipe.settings[key] for key in ("epochs", *run.settings)}
    for record in (results.record_of(row) for row in results.results() if row.model == model):
        assert chosen.items() <= record["settings"].items()
        assert (record["recipe"], record["precision"], record["seed"]) == (run.recipe, run.precision, 1)


@pytest.mark.parametrize("row", results.results(), ids=lambda row: row.model)
def test_a_command_repeats_its_run(row: zoo.Weights):
    """What is not in it, the recipe has by itself."""
    onebit, train, recipe, *words = row.recipe.split()
    assert (onebit, train) == ("onebit", "train")
    options = list(zip(words[::2], words[1::2], strict=True))
    given = dict(value.split("=") for name, value in options if name == "--set")
    record = results.record_of(row)
    assert recipes.get_recipe(recipe, **given).settings.items() >= record["settings"].items()
    assert {("--precision", record["precision"]), ("--seed", str(record["seed"]))} <= set(options)
    assert register.command(record) == row.recipe
    # Registered figures are float32's, a record's those of the run's precision.
    rounding = 0.005 if record["precision"] == "float32" else 0.5
    assert row.metrics["top1"] == pytest.approx(record["test"]["top1"], abs=rounding)


def test_a_model_with_weights_has_a_row_for_each():
    rows = [line for line in report.models_table(zoo.recorded_counts()).splitlines() if "`wide_resnet_20_10`" in line]
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
