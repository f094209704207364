"""Models by name."""

from __future__ import annotations

import pytest

from onebit import zoo
from onebit.zoo import registry


def test_list_models_is_sorted_and_takes_patterns():
    names = zoo.list_models()
    assert names == sorted(names)
    assert {"wide_resnet_20_1", "wide_resnet_20_10", "wide_resnet_imagenet_18_2.5"} <= set(names)
    assert zoo.list_models("wide_resnet_2*_10") == ["wide_resnet_20_10", "wide_resnet_26_10"]
    assert zoo.list_models("nothing*") == []


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"no model 'wide_resnet_20_01'\. Did you mean .*'wide_resnet_20_1'"):
        zoo.load("wide_resnet_20_01")
    with pytest.raises(ValueError, match=r"no model 'zzz'\. There are: .*'wide_resnet_20_1'"):
        zoo.entry("zzz")


def test_load_passes_options_on_and_lets_them_win():
    model = zoo.load("wide_resnet_20_1", depth=8, num_classes=3, input_shape=(8, 8, 1))
    assert model.output_shape == (None, 3)
    assert dict(zoo.model_info(model).arguments) | {"depth": 8, "width": 1, "num_classes": 3} == dict(
        zoo.model_info(model).arguments
    )
    with pytest.raises(TypeError, match="no argument 'classes'"):
        zoo.load("wide_resnet_20_1", classes=3)


def test_entry_of():
    arguments = {"depth": 20, "width": 10, "padding": "same"}
    assert registry.entry_of("WideResNet", arguments).name == "wide_resnet_20_10"
    assert registry.entry_of("WideResNet", {"depth": 20}) is None
    assert registry.entry_of("Nothing", arguments) is None


def test_names_cannot_be_taken_twice():
    entry = zoo.entry("wide_resnet_20_1")
    with pytest.raises(ValueError, match="'wide_resnet_20_1' is registered twice"):
        registry.register("wide_resnet_20_1", entry.paper)(entry.build)


def test_function():
    assert registry.function("WideResNet") is zoo.WideResNet
    with pytest.raises(ValueError, match=r"no function 'WideResnet'\. Did you mean 'WideResNet'"):
        registry.function("WideResnet")


@pytest.mark.parametrize("name", zoo.list_models())
def test_entry(name):
    entry = zoo.entry(name)
    assert entry.name == name
    assert len(entry.native_shape) == 3
    assert entry.paper.title
    assert entry.paper.venue
    assert entry.build is registry.function(entry.build.__name__)
    assert entry.build is getattr(zoo, entry.build.__name__)
    # The name is found again from the arguments, so that weights of a tag are.
    assert registry.entry_of(entry.build.__name__, entry.arguments).name == name
