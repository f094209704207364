"""What every architecture has in common: signature, input, top, and the choice between given, weights' and default."""

from __future__ import annotations

import inspect
import re
from typing import Literal, get_args, get_origin, get_type_hints

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.zoo import registry
from onebit.zoo.building import ModelBuilder, ModelOptions

SHARED = list(get_type_hints(ModelOptions))
FUNCTIONS = sorted({zoo.entry(name).build.__name__ for name in zoo.list_models()})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_and_docstring(name):
    build = registry.function(name)
    parameters = inspect.signature(build).parameters
    assert list(parameters)[-7:] == SHARED
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    for parameter in parameters:
        # At the head of a line of arguments, which may be several.
        assert re.search(rf"^ +([\w, ]+, )?{parameter}(, [\w, ]+)?:", build.__doc__, re.M), (
            f"{parameter} is not documented"
        )
    with pytest.raises(TypeError):
        build(20)
    with pytest.raises(TypeError, match=r"'nonsense'.*weights"):
        build(nonsense=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.endswith("20")])
def test_what_a_model_records_has_the_defaults_of_the_signature(name, shallow):
    own = {n: p.default for n, p in inspect.signature(registry.function(name)).parameters.items() if n not in SHARED}
    arguments = zoo.model_info(registry.function(name)()).arguments
    # Where the signature has None, the default depends on another argument.
    assert {n: d for n, d in own.items() if d is not None}.items() <= arguments.items()
    assert all(arguments[n] is not None for n in own)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_choices_are_checked(name):
    """Where the signature lists what an argument may be, an error names it, what was given and what may be."""
    for parameter, hint in get_type_hints(registry.function(name)).items():
        choices = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
        if choices:
            with pytest.raises(ValueError, match=f"{parameter}.*{re.escape(repr(choices[-1]))}.*'nonsense'"):
                registry.function(name)(**{parameter: "nonsense"})


def test_none_leaves_an_argument_open():
    assert zoo.model_info(zoo.WideResNet(depth=8, width=1, padding=None)).arguments["padding"] == "same"


def build(**options):
    return zoo.WideResNet(depth=8, width=1, **options)


@pytest.mark.parametrize(
    "activation",
    [
        "softmax",
        pytest.param("sigmoid", marks=pytest.mark.slow),
        None,
        pytest.param(tf.nn.softmax, marks=pytest.mark.slow),
    ],
)
def test_classifier_activation_follows_the_logits(activation):
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    model, logits = build(classifier_activation=activation), build(classifier_activation=None)
    logits.set_weights(model.get_weights())
    expected = logits(x)
    if activation is not None:
        expected = tf.keras.activations.get(activation)(expected)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5)
    np.testing.assert_array_equal(tf.keras.Model(model.input, model.get_layer("logits").output)(x), logits(x))


def test_a_softmax_of_one_class_is_refused():
    for activation in ("softmax", tf.nn.softmax, tf.keras.activations.softmax):
        with pytest.raises(ValueError, match=r"num_classes.*'sigmoid'"):
            build(num_classes=1, classifier_activation=activation)
    assert build(num_classes=1, classifier_activation="sigmoid").output_shape == (None, 1)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling(pooling):
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    body, pooled = (build(include_top=False, input_shape=(32, 32, 3), pooling=each) for each in (None, pooling))
    pooled.set_weights(body.get_weights())
    assert body.output_shape == (None, 8, 8, 64)
    assert pooled.output_shape == (None, 64)
    reduce = {"avg": np.mean, "max": np.max}[pooling]
    np.testing.assert_allclose(pooled(x), reduce(body(x).numpy(), axis=(1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_input_tensor():
    image = tf.keras.Input((16, 16, 1), name="mine")
    model = build(input_tensor=image)
    assert model.input is image
    assert model.input_shape == (None, 16, 16, 1)
    scaled = tf.keras.layers.Rescaling(2.0)(image)
    model = build(input_tensor=scaled)
    assert model.input is image
    assert isinstance(model.layers[1], tf.keras.layers.Rescaling)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(16, 16, 1\)"):
        build(input_tensor=image, input_shape=(8, 8, 1))
    assert build(input_tensor=image, input_shape=(16, 16, 1)).input is image


@pytest.mark.slow
def test_grey_images_on_weights_for_colours():
    image = tf.keras.Input((32, 32, 1))
    with pytest.raises(ValueError, match="input_tensor"):
        zoo.load("birealnet20", weights="cifar10", input_shape=(32, 32, 1))
    model = zoo.load("birealnet20", "cifar10", input_tensor=tf.keras.layers.Concatenate()([image] * 3))
    grey = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    colour = zoo.load("birealnet20", "cifar10")
    np.testing.assert_allclose(model(grey), colour(np.repeat(grey, 3, axis=-1)), rtol=1e-5)


@pytest.mark.slow
def test_a_classifier_on_a_body_of_any_size(tmp_path):
    body = build(include_top=False)
    assert body.input_shape == (None, None, None, 3)
    path = zoo.save_packed(body, tmp_path / "body.onebit")
    assert zoo.load_packed(path).input_shape == (None, None, None, 3)
    assert build(weights=path, num_classes=3).input_shape == (None, 32, 32, 3)


@pytest.mark.slow
def test_a_network_behind_other_layers_is_not_taken_for_itself(tmp_path):
    """Its arguments do not say how to build those, so no file is written from which they would be gone."""
    image = tf.keras.Input((32, 32, 3))
    assert zoo.model_info(build(input_tensor=image)) is not None
    model = build(input_tensor=tf.keras.layers.Rescaling(1 / 255)(image))
    assert zoo.model_info(model) is None
    path = zoo.save_packed(model, tmp_path / "model.onebit")
    with pytest.raises(ValueError, match="load_weights"):
        zoo.load_packed(path)
    again = build(input_tensor=tf.keras.layers.Rescaling(1 / 255)(image))
    zoo.load_weights(again, path)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", ["wide_resnet_20_1", "birealnet20", "larq/quicknet_small"])
def test_channels_first_is_refused(name, monkeypatch):
    if name.startswith("larq/"):
        pytest.importorskip("larq_zoo")
    monkeypatch.setattr(tf.keras.backend, "image_data_format", lambda: "channels_first")
    with pytest.raises(ValueError, match="'channels_first'"):
        zoo.load(name)


@pytest.mark.slow
def test_numbers_of_numpy():
    numbers = {"depth": np.int32(8), "width": np.float32(2), "num_classes": np.int64(3), "learned_norm": np.bool_(True)}
    model = zoo.WideResNet(input_shape=tuple(np.array([16, 16, 3])), **numbers)
    same = {"depth": 8, "width": 2, "num_classes": 3, "learned_norm": True}
    assert zoo.model_info(model) == zoo.model_info(zoo.WideResNet(input_shape=(16, 16, 3), **same))


def test_any_size():
    model = build(input_shape=(None, None, 3))
    for size in (16, 33):
        assert model(np.zeros((1, size, size + 8, 3), np.float32)).shape == (1, 10)


def test_open_sizes_cannot_be_counted():
    with pytest.raises(ValueError, match=r"\(None, None, 3\).*input_shape"):
        zoo.count(build(input_shape=(None, None, 3)))


def test_include_top_is_a_truth_value():
    with pytest.raises(ValueError, match=r"include_top.*'yes'"):
        build(include_top="yes")


def test_probabilities_are_float32_under_a_16_bit_policy():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build()
    assert model.get_layer("logits").compute_dtype == "bfloat16"
    assert model.output.dtype == tf.float32


def test_model_info():
    info = zoo.model_info(build(num_classes=3, classifier_activation=tf.nn.sigmoid))
    assert info.function == "WideResNet"
    assert info.arguments["classifier_activation"] == "sigmoid"
    assert (info.arguments["num_classes"], info.arguments["input_shape"]) == (3, (32, 32, 3))
    assert zoo.model_info(tf.keras.Sequential()) is None
    again = registry.function(info.function)(**info.arguments)
    assert zoo.model_info(again) == info


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras", ".bin", "_weights.h5"])
@pytest.mark.parametrize("kind", ["weights", "legacy", "model.keras", "model.h5"])
def test_keras_files_are_recognised_by_content(tmp_path, kind, ending):
    model = build(input_shape=(16, 16, 3))
    written = tmp_path / {"weights": "a.weights.h5", "legacy": "a.h5"}.get(kind, kind)
    (model.save if kind.startswith("model") else model.save_weights)(written)
    path = written.rename(tmp_path / f"renamed{ending}")
    loaded = build(input_shape=(16, 16, 3), weights=path)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_variables_that_only_a_keras_file_has_are_missed(tmp_path, ending):
    """Keras itself looks only for those that the model has."""
    model = build(learned_norm=True)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    path = tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    zoo.load_weights(build(learned_norm=True), path)
    with pytest.raises(ValueError, match=path.name):
        zoo.load_weights(build(), path)


@pytest.mark.slow
def test_keras_file_of_another_architecture_leaves_the_model_alone(tmp_path):
    build(num_classes=7).save_weights(tmp_path / "other.weights.h5")
    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"other\.weights\.h5"):
        zoo.load_weights(model, tmp_path / "other.weights.h5")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_builder_alone_loads_no_weights():
    with pytest.raises(ValueError, match="architecture"):
        ModelBuilder(input_shape=(32, 32, 3), num_classes=10, weights="cifar10")


@pytest.mark.slow
def test_the_row_of_weights_itself(monkeypatch):
    """As well as its tag; not another network's."""
    row = zoo.get_weights("birealnet20", "cifar10")
    model = zoo.BiRealNet20(weights=row)
    assert zoo.model_info(model) == zoo.model_info(zoo.load("birealnet20", weights="cifar10"))
    with pytest.raises(ValueError, match=r"birealnet20.*FTBNN20"):
        zoo.FTBNN20(weights=row)


@pytest.mark.slow
def test_variables_are_watched_only_while_a_file_from_outside_is_loaded(tmp_path, monkeypatch):
    watched = []
    scope = tf.variable_creator_scope
    monkeypatch.setattr(tf, "variable_creator_scope", lambda creator: watched.append(creator) or scope(creator))
    zoo.load("wide_resnet_20_1", weights="cifar10")
    model = build()
    assert not watched
    build(weights=zoo.save_packed(model, tmp_path / "outside.onebit"))
    assert len(watched) == 1


@pytest.mark.slow
def test_layers_without_a_name_find_their_weights_again(tmp_path):
    """Keras numbers them in the order in which a session makes them."""

    def network():
        body = build(include_top=False, pooling="avg", input_shape=(16, 16, 3))
        hidden = lq.layers.QuantDense(8, kernel_quantizer="libra_pb", use_bias=False)(body.output)
        return tf.keras.Model(body.input, tf.keras.layers.Dense(3)(tf.keras.layers.Dense(4)(hidden)))

    first, second = network(), network()
    assert first.layers[-1].name != second.layers[-1].name
    zoo.load_weights(second, zoo.save_packed(first, tmp_path / "model.onebit"))
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_array_equal(second(x), first(x))
    zoo.save_packed(tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(4,))]), tmp_path / "other.onebit")
    with pytest.raises(ValueError, match="missing"):
        zoo.load_weights(second, tmp_path / "other.onebit")
