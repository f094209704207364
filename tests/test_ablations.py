"""`benchmarks/ablations.py`: what each variant trains, and how it goes on after a stop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import ablations
import pytest
import variants

from onebit import recipes

SCALED, LIBRA = "ScaledSign", "LibraPB"
# Of each variant, in its order: the quantizers of inputs and of kernels, and the non-linearity.
MADE_OF = [
    *[("SteSign", "SteSign", None), ("SteSign", "LibraSTE", None), ("EDE", "EDE", None), ("EDE", LIBRA, None)],
    *[("SteSign", LIBRA, None), ("ApproxSign", LIBRA, None), ("EDE", LIBRA, None)],
    *[("ApproxSign", SCALED, "PReLU"), ("RSign", SCALED, "PReLU"), *[("RSign", SCALED, "RPReLU")] * 2],
    *[("ApproxSign", SCALED, name) for name in (None, "ReLU", "PReLU", "FPReLU")],
]


def recipe_of(variant: variants.Variant) -> recipes.Recipe:
    return recipes.get_recipe(variant.recipe, **variant.settings)


def test_every_study_has_its_variants():
    """Every change is used by a variant, and distillation is the first with a teacher."""
    studies = [variant.study for variant in variants.VARIANTS]
    assert [studies.count(study) for study in dict.fromkeys(studies)] == [4, 3, 4, 4]
    assert {variant.change for variant in variants.VARIANTS} - {None} == set(variants.changes())
    teachers = [stage.teacher for variant in variants.VARIANTS for stage in recipe_of(variant).stages[:1]]
    assert [teacher is not None for teacher in teachers].index(True) == 10


@pytest.mark.parametrize("number", range(len(MADE_OF)))
def test_a_variant_differs_in_what_it_is_named_for(number: int):
    variant = variants.VARIANTS[number]
    recipe = recipe_of(variant)
    if variant.change:
        recipe = variants.changed(recipe, variant.change)
    model = recipe.stages[-1].build(10, (32, 32, 3))
    convolutions = [layer for layer in model.layers if getattr(layer, "input_quantizer", None)]
    made_of = {(type(each.input_quantizer).__name__, type(each.kernel_quantizer).__name__) for each in convolutions}
    nonlinearities = {type(layer).__name__ for layer in model.layers} & {"ReLU", "PReLU", "RPReLU", "FPReLU"}
    assert len(convolutions) == 18
    assert [(*each, *(nonlinearities or [None])) for each in made_of] == [MADE_OF[number]]


def test_goes_on_where_it_was(tmp_path, monkeypatch):
    """Stopped after two runs, one of which failed, and started again: what has a record is not run again."""
    started: list[str] = []

    def run_two(commands: Mapping[str, list[str]], jobs: int, folder: Path) -> Iterator[tuple[str, bool]]:
        for name in list(commands)[:2]:
            started.append(name)
            if started.count(name) == 1 and len(started) == 2:
                yield name, False
                continue
            (folder / name).mkdir(parents=True)
            run = {"test": {"top1": 50.0 + len(started)}, "seconds": 1.0}
            (folder / name / "record.json").write_text(json.dumps(run))
            yield name, True

    monkeypatch.setattr(ablations, "FILE", tmp_path / "ablations.json")
    monkeypatch.setattr(ablations, "run_all", run_two)
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--output", str(tmp_path), "--epochs", "4", "--only", "IR-Net"])
    with pytest.raises(SystemExit, match="1 runs failed"):
        ablations.main()
    rows = json.loads(ablations.FILE.read_text())
    assert [(row["variant"], row["top1"], row["epochs"]) for row in rows] == [("neither", 51.0, 4)]
    with pytest.raises(SystemExit) as ended:
        ablations.main()
    assert not ended.value.code
    names = [f"irnet-{change}-4x-seed1" for change in ("ste_ste", "libra_ste", "libra_ste", "ede_ede")]
    assert started == names
    assert [row["top1"] for row in json.loads(ablations.FILE.read_text())] == [51.0, 53.0, 54.0]
    before = ablations.FILE.read_text()
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--output", str(tmp_path), "--only", "nothing"])
    with pytest.raises(SystemExit):
        ablations.main()
    assert ablations.FILE.read_text() == before, "of the length that is there"
    for epochs in ("20", "3", "0"):
        monkeypatch.setattr(sys, "argv", ["ablations.py", "--output", str(tmp_path), "--epochs", epochs])
        with pytest.raises(SystemExit, match="2"):
            ablations.main()
    assert ablations.FILE.read_text() == before


def test_the_stages_of_a_run_share_its_epochs(tmp_path, monkeypatch):
    trained: list[recipes.Recipe] = []
    monkeypatch.setattr(recipes, "train", lambda recipe, *_, **__: trained.append(recipe))
    for variant in variants.VARIANTS:
        ablations.train(variant, tmp_path, None, 4, 1, None)
    assert [sum(stage.epochs for stage in recipe.stages) for recipe in trained] == [4] * len(variants.VARIANTS)
    assert {len(recipe.stages) for recipe in trained} == {1, 2}


def test_what_two_studies_share_is_trained_once(tmp_path):
    names = [ablations.folder_of(tmp_path, variant, 3, 1, None).name for variant in variants.VARIANTS]
    assert names[3] == names[6] and len(set(names)) == len(names) - 1
