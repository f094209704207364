"""Packed files: exact for every quantizer, small, complete or absent."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from pathlib import Path

import keras
import larq as lq
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from safetensors import safe_open

from onebit import zoo
from onebit.quantizers import EDE, AdaBinKernel, LibraPB, McDonnellSign, RSign, ScaledSign
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.quantizers.models import KERNELS

QUANTIZERS = [*KERNELS, lq.quantizers.SteSign, lq.quantizers.SwishSign]
POLICIES = ["float32", "float64", "mixed_bfloat16"]


def use(policy):
    if policy == "float64":
        tf.keras.backend.set_floatx("float64")
    tf.keras.mixed_precision.set_global_policy(policy)


def every_layer(quantizer):
    """Return a model from (7, 7, 8) to 5 outputs with every kind of binary kernel."""
    two = {"depthwise_quantizer": quantizer(), "pointwise_quantizer": quantizer()}
    depthwise = {"input_quantizer": RSign(), "depthwise_quantizer": quantizer(), "depth_multiplier": 2}
    layers = [
        lq.layers.QuantConv2D(16, 3, input_quantizer=RSign(), kernel_quantizer=quantizer(), name="conv"),
        zoo.BinaryConv2D(12, 1, groups=2, input_quantizer=EDE(k=1, t=2), kernel_quantizer=quantizer(), name="grouped"),
        lq.layers.QuantDepthwiseConv2D(3, **depthwise, name="depthwise"),
        lq.layers.QuantSeparableConv2D(10, 2, input_quantizer="ste_sign", **two, name="separable"),
        lq.layers.QuantConv2DTranspose(6, 3, input_quantizer=RSign(), kernel_quantizer=quantizer(), name="transposed"),
        tf.keras.layers.Flatten(),
        lq.layers.QuantDense(5, input_quantizer=EDE(), kernel_quantizer=quantizer(), name="dense"),
    ]
    x = image = tf.keras.Input((7, 7, 8))
    for i, layer in enumerate(layers):
        x = tf.keras.layers.BatchNormalization(name=f"bn{i}")(layer(x))
    return tf.keras.Model(image, x, name="every_layer")


def set_random(model, seed=0):
    """Give a model weights such as training leaves, and some that it does not."""
    rng = np.random.default_rng(seed)
    binary = binary_kernels(model)
    for name, variable in named_variables(model).items():
        shape = variable.shape
        if name in binary:
            value = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 0.5, shape[-2:])
            heavy, first = rng.standard_t(1.5, shape[:-1]), value[..., 0]
            for channel, filters in enumerate((first, heavy, 0.37, 0.0, np.abs(first))[: shape[-1]]):
                value[..., channel] = filters
            value.flat[::7] = 0
            variable.assign(value)
        elif ("input_quantizer" in name and shape.rank) or name.endswith(("beta", "moving_mean", "bias")):
            variable.assign(0.3 * rng.standard_normal(shape))
        else:
            variable.assign(rng.uniform(0.5, 1.5, shape))
    return model


def predict(model):
    """Return a model's outputs for a few random images."""
    shape = [n or 16 for n in model.input_shape[1:]]
    x = 2 * np.random.default_rng(1).standard_normal((3, *shape)).astype(tf.keras.backend.floatx())
    return np.asarray(model(x, training=False), np.float64)


def changed_by_one_step(model):
    """Fit one batch; return the names of the variables that it changed."""
    before = {name: variable.numpy() for name, variable in named_variables(model).items()}
    x = np.random.default_rng(2).standard_normal((4, *[n or 16 for n in model.input_shape[1:]]))
    y = np.eye(model.output_shape[-1])[np.arange(4) % model.output_shape[-1]]
    model.compile(tf.keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    assert np.isfinite(model.fit(x, y, batch_size=4, verbose=0).history["loss"][0])
    after = {name: variable.numpy() for name, variable in named_variables(model).items()}
    assert all(np.isfinite(value).all() for value in after.values())
    return {name for name in after if not np.array_equal(before[name], after[name])}


def header(path):
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["onebit"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_every_quantizer_in_every_layer(quantizer, policy, tmp_path, caplog):
    use(policy)
    model, loaded = set_random(every_layer(quantizer)), every_layer(quantizer)
    path = zoo.save_packed(model, tmp_path / "model.onebit")
    if (quantizer, policy) != (AdaBinKernel, "float64"):  # the one whose last digit may differ
        assert "unpacked" not in caplog.text, "all of them can be packed"
        assert header(path)["kernels"].keys() == binary_kernels(model).keys()
    assert len(binary_kernels(model)) == 7
    zoo.load_weights(loaded, path)
    expected = predict(model)
    assert np.isfinite(expected).all() and expected.std() > 0
    np.testing.assert_array_equal(predict(loaded), expected)
    if policy == "float32":
        np.testing.assert_array_equal(*(each.predict(np.ones((1, 7, 7, 8)), verbose=0) for each in (loaded, model)))
        assert zoo.save_packed(loaded, tmp_path / "again.onebit").read_bytes() == path.read_bytes()
        assert changed_by_one_step(loaded) >= {f"{name}/kernel" for name in ("conv", "grouped", "dense")}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_every_quantizer(quantizer, policy, tmp_path):
    use(policy)

    def build():
        conv = zoo.BinaryConv2D(8, 3, groups=2, input_quantizer=RSign(), kernel_quantizer=quantizer(), name="conv")
        return tf.keras.Sequential([tf.keras.layers.Input((5, 5, 4)), conv])

    model, loaded = set_random(build()), build()
    zoo.load_weights(loaded, zoo.save_packed(model, tmp_path / "grouped.onebit"))
    np.testing.assert_array_equal(predict(loaded), predict(model))


@pytest.mark.parametrize(
    "policy", ["float32", *(pytest.param(policy, marks=pytest.mark.slow) for policy in ("float64", "mixed_bfloat16"))]
)
def test_zoo_model(policy, tmp_path):
    use(policy)
    model = set_random(zoo.WideResNet(depth=8, width=1, num_classes=7, input_shape=(None, 16, 3), padding="symmetric"))
    path = zoo.save_packed(model, tmp_path / "wrn.onebit", source="a test", metrics={"top1": 12.5})
    for loaded in (zoo.load_packed(path), zoo.WideResNet(weights=path), zoo.WideResNet(weights=str(path), depth=8)):
        np.testing.assert_array_equal(predict(loaded), predict(model))
        assert zoo.model_info(loaded) == zoo.model_info(model)
    assert "stem_conv/kernel" in changed_by_one_step(loaded)
    said = header(path)
    assert (said["format"], said["source"], said["metrics"]) == (2, "a test", {"top1": 12.5})
    assert (said["function"], said["arguments"]["depth"]) == ("WideResNet", 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"include_top": False},
        {"include_top": False, "pooling": "max"},
        {"classifier_activation": None},
        {"classifier_activation": "sigmoid", "num_classes": 1},
        {"activation": "shifted_relu", "temperature": 25.0},
        {"learned_norm": True, "input_relu": True},
        {"quantized": False},
    ],
)
def test_zoo_arguments_are_kept(arguments, tmp_path):
    model = set_random(zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3), **arguments))
    path = zoo.save_packed(model, tmp_path / "wrn.onebit")
    for loaded in (zoo.load_packed(path), zoo.WideResNet(weights=path, include_top=arguments.get("include_top", True))):
        assert loaded.output_shape == model.output_shape
        assert zoo.model_info(loaded).arguments == zoo.model_info(model).arguments
        np.testing.assert_array_equal(predict(loaded), predict(model))


@pytest.mark.slow
def test_another_head_on_a_packed_body(tmp_path, caplog):
    path = zoo.save_packed(set_random(zoo.WideResNet(depth=8, width=1)), tmp_path / "wrn.onebit")
    assert zoo.WideResNet(weights=path, num_classes=1000).output_shape == (None, 1000)
    assert "starts anew" in caplog.text
    caplog.clear()
    headless = zoo.save_packed(zoo.WideResNet(weights=path, include_top=False), tmp_path / "body.onebit")
    assert zoo.WideResNet(weights=headless, num_classes=3).output_shape == (None, 3)
    assert "no classifier" in caplog.text
    with pytest.raises(ValueError, match="num_classes"):
        zoo.WideResNet(weights=headless)


@pytest.mark.slow
def test_pooled_features_get_a_classifier(tmp_path):
    pooled = set_random(zoo.WideResNet(depth=8, width=1, include_top=False, pooling="avg"))
    path = zoo.save_packed(pooled, tmp_path / "pooled.onebit")
    assert zoo.WideResNet(weights=path, num_classes=3).output_shape == (None, 3)
    assert zoo.WideResNet(weights=path, include_top=False, pooling=None).output_shape == (None, None, None, 64)


@pytest.mark.slow
def test_class_names_are_kept(tmp_path, tiny):
    path = tmp_path / "wrn.onebit"
    model = zoo.WideResNet(depth=8, width=1, num_classes=2)
    assert zoo.model_info(zoo.load_packed(zoo.save_packed(model, path))).class_names is None
    zoo.save_packed(model, path, class_names=["cat", "dog"])
    loaded = zoo.WideResNet(weights=path)
    assert zoo.model_info(loaded).class_names == ("cat", "dog")
    assert zoo.model_info(zoo.load_packed(zoo.save_packed(loaded, path))).class_names == ("cat", "dog"), "handed on"
    for other in ({"num_classes": 3}, {"include_top": False}):
        assert zoo.model_info(zoo.WideResNet(weights=path, **other)).class_names is None
    for bad in ("abc", ["cat", "d\x1bog"]):
        with pytest.raises(ValueError, match="class_names"):
            zoo.save_packed(model, path, class_names=bad)
    assert zoo.model_info(zoo.load_packed(zoo.save_packed(loaded, path, class_names=()))).class_names is None
    assert zoo.model_info(zoo.load("birealnet20", weights="cifar10")).class_names == zoo.class_names("cifar10")


@pytest.mark.slow
def test_weights_bring_what_they_say_of_themselves(tmp_path):
    """Names and preprocessing are those of the weights that were loaded last."""
    for name, classes, preprocessing in (("first", "cat dog", "cifar"), ("second", "ham eggs", "imagenet")):
        model = zoo.WideResNet(depth=8, width=1, num_classes=2)
        path = tmp_path / f"{name}.onebit"
        zoo.save_packed(model, path, class_names=classes.split(), preprocessing=preprocessing)
    model = zoo.load_packed(tmp_path / "first.onebit")
    zoo.load_weights(model, path)
    assert (zoo.preprocessing_of(model).name, zoo.model_info(model).class_names) == ("imagenet", ("ham", "eggs"))
    body = zoo.WideResNet(depth=8, width=1, include_top=False, pooling="avg")
    zoo.load_weights(body, tmp_path / "first.onebit")
    assert (zoo.preprocessing_of(body).name, zoo.model_info(body).class_names) == ("cifar", None)
    model.save_weights(tmp_path / "silent.weights.h5")
    zoo.load_weights(model, tmp_path / "silent.weights.h5")
    assert zoo.model_info(model).class_names == ("ham", "eggs")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"input_relu": True}, {"padding": "symmetric"}])
def test_weights_of_another_computation_are_refused(arguments, tmp_path):
    """They have the same variables."""
    path = zoo.save_packed(zoo.WideResNet(depth=8, width=1), tmp_path / "wrn.onebit")
    model = zoo.WideResNet(depth=8, width=1, **arguments)
    before = model.get_weights()
    with pytest.raises(ValueError, match=next(iter(arguments))):
        zoo.load_weights(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("order", [1, -1])
def test_one_quantizer_for_kernels_of_two_kinds(order, tmp_path):
    """Their filters lie along other axes."""
    quantizer = ScaledSign()

    def build():
        depthwise = lq.layers.QuantDepthwiseConv2D(3, padding="same", depthwise_quantizer=quantizer, name="depthwise")
        conv = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=quantizer, name="conv")
        return tf.keras.Sequential([tf.keras.layers.Input((5, 5, 4)), *(depthwise, conv)[::order]])

    model = set_random(build())
    path, expected = zoo.save_packed(model, tmp_path / "two.onebit"), predict(model)
    loaded = build()
    zoo.load_weights(loaded, path)
    np.testing.assert_array_equal(predict(loaded), expected)


@pytest.mark.slow
def test_variables_of_bfloat16(tmp_path):
    """NumPy has no such numbers; in float32 they are the same."""
    use("bfloat16")
    model = set_random(zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3)))
    loaded = zoo.load_packed(zoo.save_packed(model, tmp_path / "model.onebit"))
    np.testing.assert_array_equal(predict(loaded), predict(model))


@pytest.mark.slow
def test_nested_models_and_saved_sessions(tmp_path):
    """The weights of a model that is not the zoo's pack, too, under the nested names."""
    body = set_random(zoo.WideResNet(depth=8, width=1, include_top=False, pooling="avg", input_shape=(16, 16, 3)))
    head = lq.layers.QuantDense(3, kernel_quantizer=ScaledSign(), name="dense")
    model = tf.keras.Sequential([body, head])
    model.build((None, 16, 16, 3))
    path = zoo.save_packed(model, tmp_path / "nested.onebit")
    expected = predict(model)
    model.save(tmp_path / "nested.keras")
    again = tf.keras.models.load_model(tmp_path / "nested.keras")
    again.set_weights([np.ones_like(value) for value in again.get_weights()])
    zoo.load_weights(again, path)
    np.testing.assert_array_equal(predict(again), expected)
    with pytest.raises(ValueError, match=path.name):
        zoo.load_packed(path)


def one_layer(quantizer, filters=8, size=3, image=(5, 5, 4)):
    conv = lq.layers.QuantConv2D(filters, size, kernel_quantizer=quantizer, name="conv")
    return tf.keras.Sequential([tf.keras.layers.Input(image), conv])


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_what_cannot_be_packed_is_kept_as_it_is(quantizer, tmp_path, caplog):
    """A kernel that is no longer finite."""
    model, loaded = set_random(one_layer(quantizer())), one_layer(quantizer())
    kernel = named_variables(model)["conv/kernel"]
    kernel.assign(tf.where(kernel > 1, np.nan, kernel))
    zoo.load_weights(loaded, zoo.save_packed(model, tmp_path / "model.onebit"))
    assert "conv/kernel" in caplog.text
    for name, variable in named_variables(model).items():
        np.testing.assert_array_equal(named_variables(loaded)[name].numpy(), variable.numpy())


def test_filters_on_the_brink_of_two_scales(tmp_path):
    """Two standardised weights are plus and minus the root of 1/2, which Libra-PB rounds either way."""
    model, loaded = (one_layer(LibraPB(), 200, 1, (3, 3, 2)) for _ in range(2))
    zoo.load_weights(loaded, zoo.save_packed(model, tmp_path / "model.onebit"))
    np.testing.assert_array_equal(predict(loaded), predict(model))


@pytest.mark.parametrize("quantizer", [McDonnellSign, LibraPB, ScaledSign], ids=lambda q: q.__name__)
def test_size(quantizer, tmp_path):
    model = one_layer(quantizer(), 1024, 3, (8, 8, 128))
    binary = 3 * 3 * 128 * 1024
    size = zoo.save_packed(model, tmp_path / "model.onebit").stat().st_size
    assert binary / 8 < size <= 1.05 * binary / 8 + 4 * (model.count_params() - binary) + 8192


# --- Writing is all or nothing ----------------------------------------------------------------------------------------


@pytest.fixture
def tiny():
    return set_random(one_layer(ScaledSign(), 3, 2, (4, 4, 5)))


def test_targets_that_are_no_file(tiny, tmp_path):
    target, link, pipe = tmp_path / "target.onebit", tmp_path / "link.onebit", tmp_path / "pipe"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        zoo.save_packed(tiny, tmp_path / "nowhere" / "model.onebit")
    assert not list(tmp_path.iterdir())
    link.symlink_to(target)
    zoo.save_packed(tiny, link)
    assert link.is_symlink() and target.is_file()
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match=path.name):
            zoo.save_packed(tiny, path)


@pytest.mark.parametrize("at", ["write", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "interrupt"]
)
def test_failed_writing_leaves_what_was_there(tiny, tmp_path, monkeypatch, at, error):
    path = tmp_path / "model.onebit"
    path.write_bytes(b"the file before")

    def fail(target, *_):
        if at == "write":
            with open(target, "wb") as file:
                file.write(b"half")
        raise error

    monkeypatch.setattr(*((Path, "write_bytes") if at == "write" else (os, "replace")), fail)
    with pytest.raises(type(error)):
        zoo.save_packed(tiny, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onebit"]
    assert path.read_bytes() == b"the file before"


@pytest.mark.parametrize(
    "activation", [tf.nn.log_softmax, lambda logits: logits, functools.partial(tf.nn.softmax, axis=-1)]
)
def test_what_could_not_be_read_is_not_written(activation, tmp_path):
    model = zoo.WideResNet(depth=8, width=1, classifier_activation=activation)
    with pytest.raises(ValueError, match="classifier_activation"):
        zoo.save_packed(model, tmp_path / "model.onebit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "metrics", [[1, 2], {"top1": np.float32(1)}, {"top1": float("nan")}, {1: {2}}, {("a", "b"): 1}]
)
def test_metrics_that_json_cannot_hold(tiny, tmp_path, metrics):
    with pytest.raises(ValueError, match="metrics"):
        zoo.save_packed(tiny, tmp_path / "model.onebit", metrics=metrics)
    assert not list(tmp_path.iterdir())


def test_variables_without_a_name_of_their_own(tmp_path):
    class Scaled(tf.keras.Model):
        def __init__(self, image):
            super().__init__(image, tf.keras.layers.Dense(2)(image))
            self.scale = self.add_weight("scale", (3,))

    twice = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(2, name="a")])
    twice.layers[0].add_weight("kernel", shape=(2,))
    for model, name in ((Scaled(tf.keras.Input((4,))), "scale"), (twice, "a/kernel")):
        with pytest.raises(ValueError, match=name):
            zoo.save_packed(model, tmp_path / "model.onebit")
    assert not list(tmp_path.iterdir())


def test_file_is_an_ordinary_one(tiny, tmp_path):
    usual = os.umask(0o027)
    try:
        path = zoo.save_packed(tiny, tmp_path / "model.onebit")
    finally:
        os.umask(usual)
    assert path.stat().st_mode & 0o777 == 0o640
    assert set(safetensors.numpy.load_file(path)) == {"conv/kernel", "conv/kernel:scale", "conv/bias"}


def mutated(model):
    model.get_layer("stage1_block1_conv1").kernel_quantizer = ScaledSign()
    return model


def replaced(model):
    return zoo.replace_layers(model, lambda layer: None)


@pytest.mark.slow
@pytest.mark.parametrize("change", [mutated, replaced])
def test_a_file_is_only_of_what_the_zoo_builds(change, tmp_path, caplog):
    """A packed file of a network whose layers were changed names no function, which is said in writing and reading."""
    model = zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3))
    model.trainable = False
    model.layers[-3].kernel_regularizer = tf.keras.regularizers.L2(1e-4)
    zoo.load_packed(zoo.save_packed(model, tmp_path / "own.onebit"))  # how it is trained is another matter
    assert not caplog.text
    path = zoo.save_packed(change(model), tmp_path / "changed.onebit")
    assert "changed.onebit" in caplog.text
    with pytest.raises(ValueError, match=r"changed\.onebit"):
        zoo.load_packed(path)
    caplog.clear()
    with contextlib.suppress(ValueError):  # the quantizer cannot make such values
        zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3), weights=path)
    assert "changed.onebit" in caplog.text


@pytest.mark.parametrize("options", [{}, {"use_bias": False}])
def test_layers_of_keras_3_are_refused(options, tmp_path):
    """Their variables are none of the model's."""
    body = zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3), include_top=False, pooling="avg")
    head = tf.keras.Model(body.input, keras.layers.Dense(3, **options)(body.output))
    whole = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    for model in (head, tf.keras.Sequential([head]), whole):
        for use in (lambda each: zoo.save_packed(each, tmp_path / "k3.onebit"), zoo.count):
            with pytest.raises(ValueError, match="Keras 3"):
                use(model)
    assert not list(tmp_path.iterdir())
