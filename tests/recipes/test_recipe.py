"""The registered recipes and their settings."""

from __future__ import annotations

import math

import pytest

from onebit import recipes


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe .irnett.\. Did you mean .irnet."):
        recipes.get_recipe("irnett")
    with pytest.raises(ValueError, match=r"no setting .epoch.\. Did you mean .epochs."):
        recipes.get_recipe("irnet", epoch=3)


def test_settings_given_as_text_are_read_as_the_default_s_type():
    settings = recipes.get_recipe("mcdonnell", epochs="30", cutout="false", lr_max="1", width="2").settings
    assert (settings["epochs"], settings["cutout"], settings["lr_max"], settings["width"]) == (30, False, 1.0, 2.0)
    for name, value in (("epochs", "many"), ("epochs", 1.5), ("lr", "true"), ("model", 3)):
        with pytest.raises(ValueError, match=rf"setting {name} must be (int|float|str), such as .*, not {value!r}"):
            recipes.get_recipe("ftbnn", **{name: value})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", math.inf])
def test_settings_are_finite(value):
    with pytest.raises(ValueError, match=f"lr must be float, such as 0.8, not {value!r}"):
        recipes.get_recipe("irnet_imagenet", lr=value)


def test_settings_that_may_be_none():
    for text, value in (("none", 7), ("3", 3)):
        settings = recipes.get_recipe("birealnet_staged", epochs=7, pretraining_epochs=text).settings
        assert settings["pretraining_epochs"] == value
    with pytest.raises(ValueError, match="pretraining_epochs must be int or None, not 'ten'"):
        recipes.get_recipe("birealnet_staged", pretraining_epochs="ten")
