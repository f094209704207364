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


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        ("WideResNet", {"depth": 20, "width": 10, "padding": "symmetric"}, "wide_resnet_20_10"),
        ("WideResNet", {}, "wide_resnet_20_10"),
        ("WideResNet", {"width": 10.0}, "wide_resnet_20_10"),
        ("WideResNet", {"width": 3}, None),
        ("WideResNet", {"width": 15}, None),  # the registered one has learned_norm
        ("IRNetResNet20", {"activation_bits": 32}, "irnet_resnet20_1w32a"),  # the structure follows
        ("IRNetResNet20", {"activation_bits": 32, "quantized": False}, "irnet_resnet20_real"),
        ("IRNetResNet20", {"activation_bits": 32, "structure": "bireal"}, None),
    ],
)
def test_entry_of(function, arguments, name):
    found = registry.entry_of(getattr(zoo, function), arguments)
    assert (found and found.name) == name


@pytest.fixture
def no_entries(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", {})


@pytest.mark.parametrize("order", [("narrow", "wide", "deep"), ("deep", "wide", "narrow")])
def test_entries_do_not_depend_on_the_order_of_registration(order, no_entries):
    rows = {"narrow": {"width": 1}, "wide": {"width": 2}, "deep": {"width": 1, "depth": 26}}
    for name in order:
        registry.register(name, zoo.entry, **rows[name])(zoo.WideResNet)
    for name, arguments in rows.items():
        assert registry.entry_of(zoo.WideResNet, arguments).name == name
    assert registry.entry_of(zoo.WideResNet, {"width": 1, "depth": 20}).name == "narrow"
    with pytest.raises(ValueError, match="narrow"):
        registry.register("same", zoo.entry, width=1, depth=20)(zoo.WideResNet)
    with pytest.raises(ValueError, match="nonsense"):
        registry.register("other", zoo.entry, nonsense=1)(zoo.WideResNet)


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
    assert registry.entry_of(entry.build, entry.arguments).name == name
