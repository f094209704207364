"""The export form computes what the layers it replaces compute, for every geometry."""

from __future__ import annotations

import itertools

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import EDE, FPReLU, LibraPB, RPReLU, RSign, ScaledSign
from onebit.zoo.build.layers import ShuffleChannels
from onebit.zoo.export.layers import BinaryConvolution
from onebit.zoo.export.lowering import binary_kernel, export_form, sign_threshold


def network(size, filters=8, kernel_size=3, **options) -> tf.keras.Model:
    options = {"input_quantizer": RSign(), "kernel_quantizer": ScaledSign(), "padding": "same", **options}
    image = tf.keras.Input((*size, 8))
    model = tf.keras.Model(image, zoo.BinaryConv2D(filters, kernel_size, name="conv", **options)(image))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape))
    return model


def assert_same(model: tf.keras.Model) -> None:
    form = export_form(model)
    assert isinstance(form.get_layer("conv"), BinaryConvolution)
    x = np.random.default_rng(1).standard_normal((1, *model.input_shape[1:])).astype(np.float32)
    expected = model(x, training=False)
    assert form.output_shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(form(x, training=False), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("strides", "kernel_size"), itertools.product((1, 2, 3), (1, 3, 5)))
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"pad_values": 1.0}], ids=["symmetric", "same", "one"])
def test_padding(strides: int, kernel_size: int, options: dict):
    for size in ((8, 9), (7, 10)):
        assert_same(network(size, kernel_size=kernel_size, strides=strides, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 4, "strides": 2, "symmetric": True},
        {"groups": 2, "pad_values": 1.0},
        {"padding": "valid", "strides": 2},
        {"dilation_rate": 2, "pad_values": 1.0},
        {"use_bias": True, "bias_initializer": "ones", "activation": "relu"},
        {"kernel_quantizer": LibraPB(), "input_quantizer": EDE()},
        {"kernel_quantizer": "dorefa_quantizer", "input_quantizer": "approx_sign"},
    ],
    ids=lambda options: ",".join(options),
)
def test_other_options(options: dict):
    if options.get("kernel_quantizer") == "dorefa_quantizer":
        assert binary_kernel(network((8, 8), **options).get_layer("conv")) is None
        return
    assert_same(network((8, 8), **options))


def test_rprelu_is_the_same_bit_for_bit():
    image = tf.keras.Input((4, 4, 6))
    model = tf.keras.Model(image, RPReLU(name="act")(image))
    rng = np.random.default_rng(0)
    model.set_weights([rng.standard_normal(value.shape) for value in model.get_weights()])
    x = rng.standard_normal((1, 4, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(export_form(model)(x), model(x))


@pytest.mark.parametrize("positive", [0.5, -0.5])
@pytest.mark.parametrize("outputs", ["act", "act and norm", "norm"])
def test_what_is_behind_groups_becomes_theirs(positive: float, outputs: str):
    """Batch normalisation and FPReLU, with a bias before them; not where something else sees what is between."""
    image = tf.keras.Input((8, 8, 8))
    conv = zoo.BinaryConv2D(
        12,
        3,
        groups=2,
        padding="same",
        use_bias=True,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        name="conv",
    )(image)
    norm = tf.keras.layers.BatchNormalization(name="norm")(conv)
    act = FPReLU(positive_initializer=positive, name="act")(norm)
    shuffled = ShuffleChannels(2)(act)
    model = tf.keras.Model(image, {"act": shuffled, "act and norm": shuffled + norm, "norm": norm}[outputs])
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "slope" not in variable.name:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    form = export_form(model)
    assert isinstance(form.get_layer("norm"), tf.keras.layers.Activation)
    if outputs != "norm":
        assert (type(form.get_layer("act")) is FPReLU) == (positive < 0)
    x = rng.standard_normal((1, 8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(form(x, training=False), model(x, training=False), rtol=1e-5, atol=1e-4)


def test_the_model_stays_as_it_was(shallow):
    model = zoo.load("reactnet20", input_shape=(16, 16, 3))
    weights = model.get_weights()
    export_form(model)
    assert all(layer.output is not None for layer in model.layers)  # an error for a layer that was called again
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_a_sign():
    assert sign_threshold(lq.quantizers.SteSign()) == 0
    assert sign_threshold(lq.quantizers.SwishSign()) == 0
    assert sign_threshold(EDE()) == 0
    assert sign_threshold(None) is None
    assert sign_threshold(lq.quantizers.SteHeaviside()) is None
    assert sign_threshold(lq.quantizers.DoReFa(2)) is None
