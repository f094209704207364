"""The registered recipes and their settings."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

from onebit import recipes
from onebit.recipes.recipe import Same, register

BASE = {"epochs": 4, "shape": "small", "rest": Same("epochs")}
TABLE = {
    "default": BASE,
    "shape=large*": {"epochs": 9, "batch": 7},
    "shape=larger epochs=9": {"epochs": 10},
}


@pytest.fixture
def table(monkeypatch):
    """A recipe that is its settings."""
    monkeypatch.setattr("onebit.recipes.recipe._RECIPES", {})

    @register(TABLE)
    def of_table(*, epochs: int, shape: str, rest: int, batch: int) -> recipes.Recipe:
        return recipes.Recipe(f"{epochs}", shape, batch, "0_255", [])

    return lambda **given: recipes.get_recipe("of_table", **given)


def test_what_is_given_comes_first_then_the_conditions_in_their_order(table):
    assert table(batch=1).settings == {"epochs": 4, "shape": "small", "rest": 4, "batch": 1}
    assert table(shape="large").settings == {"epochs": 9, "shape": "large", "rest": 9, "batch": 7}
    assert table(shape="larger").settings == {"epochs": 10, "shape": "larger", "rest": 10, "batch": 7}
    assert table(shape="larger", epochs=2).settings == {"epochs": 2, "shape": "larger", "rest": 2, "batch": 7}
    recipe = table(shape="large", rest=1)
    assert (recipe.settings["rest"], recipe.batch_size, recipe.given) == (1, 7, {"shape", "rest"})


def test_what_no_condition_has_must_be_given(table):
    with pytest.raises(ValueError, match="batch"):
        table()
    with pytest.raises(ValueError, match="teacher"):
        recipes.recipe.register({"default": {"teacher": 1}})(table)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_settings_are_complete_and_of_the_types_that_they_may_be_given_in(name):
    recipe = recipes.get_recipe(name)
    assert (recipe.name, recipe.given) == (name, frozenset())
    again = recipes.get_recipe(name, **recipe.settings)
    as_text = recipes.get_recipe(name, **{key: str(value) for key, value in recipe.settings.items()})
    assert again.settings == as_text.settings == recipe.settings


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"irnett.*irnet\b"):
        recipes.get_recipe("irnett")
    with pytest.raises(ValueError, match=r"epoch\b.*epochs"):
        recipes.get_recipe("irnet", epoch=3)
    with pytest.raises(ValueError, match=r"irnet_resnet2\b.*irnet_resnet20\b"):
        recipes.get_recipe("irnet", model="irnet_resnet2")


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", "many"), ("epochs", 1.5), ("lr", "true"), ("model", 3), ("lr", np.array([1.0, 2.0]))]
)
def test_settings_have_types(name, value):
    with pytest.raises(ValueError, match=name):
        recipes.get_recipe("ftbnn", **{name: value})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", math.inf, np.float32("nan")])
def test_settings_are_finite(value):
    with pytest.raises(ValueError, match="lr"):
        recipes.get_recipe("irnet_imagenet", lr=value)


def test_settings_may_be_numbers_of_numpy():
    settings = recipes.get_recipe("mcdonnell", epochs=np.int64(3), lr_max=np.float64(0.5), cutout=np.bool_(0)).settings
    assert [(type(settings[name]), settings[name]) for name in ("epochs", "lr_max", "cutout")] == [
        (int, 3),
        (float, 0.5),
        (bool, False),
    ]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda recipe: pickle.loads(pickle.dumps(recipe))])
def test_copies(copied):
    """A registered recipe goes to another process; one of other stages can be copied."""
    recipe = dataclasses.replace(recipes.get_recipe("irnet", epochs=3), batch_size=7)
    again = copied(recipe)
    for name in ("name", "dataset", "batch_size", "settings", "given", "is_changed"):
        assert getattr(again, name) == getattr(recipe, name)
    assert [stage.epochs for stage in again.stages] == [3]
    own = dataclasses.replace(recipe, stages=[dataclasses.replace(recipe.stages[0], name="own")])
    assert copy.deepcopy(own).is_changed
