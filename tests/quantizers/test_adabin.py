"""AdaBin's quantizers against the official code, where their definition ends, and back from values to weights."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import FPReLU, ede_schedule
from onebit.quantizers.adabin import AdaBinActivation, AdaBinKernel
from onebit.zoo.building.layers import BinaryConv2D
from tests.helpers import GOLDENS, assert_golden, value_and_gradients


@pytest.fixture(scope="module")
def units():
    return np.load(GOLDENS / "adabin_units.npz")


@pytest.fixture
def case(units):
    """Read the arrays of one case as a dictionary."""

    def read(name):
        return {key[len(name) + 1 :]: units[key] for key in units.files if key.startswith(name + "/")}

    return read


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


def hwio(w):
    return w.transpose(2, 3, 1, 0)


def activation(alpha, beta):
    quantizer = AdaBinActivation(alpha_initializer=float(alpha), beta_initializer=float(beta))
    quantizer.build((None, 4))
    return quantizer


@pytest.mark.parametrize("size", ["3x3", "1x1"])
@pytest.mark.parametrize("setting", range(6))
def test_kernel(case, size, setting, float64, monkeypatch):
    """Filter by filter. Weights that are the mean itself have an official sign of 0: with that sign all agree."""
    c = case(f"adabin_weight/{size}")
    quantizer = AdaBinKernel(k=c["k"][setting], t=c["t"][setting])
    w, g = hwio(c["w"]), hwio(c["gw"])
    y = quantizer(w).numpy()
    is_mean = hwio(c["wb"]) == w.mean(axis=(0, 1, 2))
    assert is_mean.any() == (size == "3x3")
    expected = np.where(is_mean, c["high"], hwio(c["wb"]))
    for i in range(w.shape[-1]):
        assert_golden(y[..., i], expected[..., i])
    monkeypatch.setattr(lq.math, "sign", tf.sign)
    y, dw, _ = value_and_gradients(quantizer, w, g)
    for i in range(w.shape[-1]):
        assert_golden(y[..., i], hwio(c["wb"])[..., i])
        assert_golden(dw[..., i], hwio(c["dw"][setting])[..., i])


@pytest.mark.parametrize("training", [False, True])
def test_activation(case, training, float64):
    """Official zeros, which are at the threshold, are the higher value here, and the gradient of alpha says so."""
    c = case("adabin_activation/edges")
    for i, (alpha, beta) in enumerate(zip(c["alpha"], c["beta"], strict=True)):
        quantizer = activation(alpha, beta)
        x, g = c["x"][i], c["g"][i]
        at = x == beta
        assert at.any()
        y, dx, (dalpha, dbeta) = value_and_gradients(
            lambda x, q=quantizer: q(x, training=training), x, g, quantizer.trainable_weights
        )
        assert_golden(y, np.where(at, alpha * beta + abs(alpha), c["y"][i]))
        assert_golden(dx, c["dx"][i])
        assert_golden(dalpha, c["dalpha"][i] + np.sign(alpha) * g[at].sum())
        assert_golden(dbeta, c["dbeta"][i])
    assert (c["alpha"] < 0).any() and (c["alpha"][0], c["beta"][0]) == (1, 0)


def test_activation_of_a_tensor(case, float64):
    c = case("adabin_activation/tensor")
    quantizer = activation(c["alpha"], c["beta"])
    y, dx, gradients = value_and_gradients(quantizer, nhwc(c["x"]), nhwc(c["g"]), quantizer.trainable_weights)
    assert_golden(y, nhwc(c["y"]))
    assert_golden(dx, nhwc(c["dx"]))
    for gradient, name in zip(gradients, ("dalpha", "dbeta"), strict=True):
        assert_golden(gradient, c[name])


def test_activation_starts_as_in_the_official_code():
    quantizer = AdaBinActivation()
    quantizer.build((None, 3))
    assert quantizer.get_weights() == [1, 0]


def test_two_slope_unit_is_fprelu(case, float64):
    """But for its slope at 0, which is 0 officially and here that of negative values."""
    c = case("adabin_maxout")
    layer, x, g = FPReLU(), nhwc(c["x"]), nhwc(c["g"])
    layer.build(x.shape)
    for start, ours in zip(("initial_pos_scale", "initial_neg_scale"), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, c[start])
    layer.set_weights([c["pos_scale"], c["neg_scale"]])
    y, dx, gradients = value_and_gradients(layer, x, g, layer.trainable_weights)
    assert_golden(y, nhwc(c["y"]))
    assert (x == 0).any()
    assert_golden(np.where(x == 0, 0, dx), nhwc(c["dx"]))
    for gradient, name in zip(gradients, ("dpos_scale", "dneg_scale"), strict=True):
        assert_golden(gradient, c[name])


@pytest.mark.parametrize("number", range(4))
def test_convolution(case, number, float64):
    """Zeros around the image are put there after the input is binarised, though neither of its values is 0."""
    c = case(f"adabin_conv/{number}")
    x, g = nhwc(c["x"]), nhwc(c["g"])
    for setting, (k, t) in enumerate(zip(c["k"], c["t"], strict=True)):
        layer = BinaryConv2D(
            6,
            c["w"].shape[-1],
            strides=int(c["stride"]),
            padding="same",
            symmetric=True,
            use_bias=False,
            input_quantizer=activation(c["alpha"], c["beta"]),
            kernel_quantizer=AdaBinKernel(k=k, t=t),
        )
        layer.build(x.shape)
        layer.kernel.assign(hwio(c["w"]))
        variables = [layer.kernel, *layer.input_quantizer.trainable_weights]
        y, dx, (dw, dalpha, dbeta) = value_and_gradients(layer, x, g, variables)
        assert_golden(y, nhwc(c["y"]))
        assert_golden(dx, nhwc(c["dx"]))
        assert_golden(dw, hwio(c["dw"][setting]))
        assert_golden(dalpha, c["dalpha"])
        assert_golden(dbeta, c["dbeta"])


@pytest.mark.parametrize(("name", "epochs"), [("cifar", 400), ("imagenet", 120)])
def test_ede_schedule(case, name, epochs):
    c = case(f"adabin_ede_schedule/{name}")
    k, t = np.transpose([ede_schedule(epoch, epochs=epochs, t_min=1e-3) for epoch in c["epoch"]])
    np.testing.assert_allclose(k, c["k"], rtol=1e-9)
    np.testing.assert_allclose(t, c["t"], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e-3, 700.0])
def test_equal_weights_are_both_values(constant, dtype):
    """0.1 is no binary number: the mean of 27 of them is off by a rounding error."""
    varied = np.random.default_rng(0).standard_normal((3, 3, 3))
    w = tf.cast(np.stack([np.full((3, 3, 3), constant), varied], axis=-1), dtype)
    y, dw, _ = value_and_gradients(AdaBinKernel(), w, tf.ones_like(w))
    np.testing.assert_array_equal(y[..., 0], w[..., 0])
    np.testing.assert_array_equal(dw[..., 0], np.ones((3, 3, 3)))
    assert len(np.unique(y[..., 1])) == 2


def test_single_weights_pass():
    w = tf.constant([[0.3, -2.0, 0.0]])
    y, dw, _ = value_and_gradients(AdaBinKernel(), w, tf.constant([[1.0, 2.0, 3.0]]))
    np.testing.assert_array_equal(y, w)
    np.testing.assert_array_equal(dw, [[1, 2, 3]])


def test_nan_stays_nan():
    """A training that has diverged shows it: in the filter of the weight, and at the activation."""
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    w[1, 2] = np.nan
    y = AdaBinKernel()(w).numpy()
    assert np.isnan(y[:, 2]).all() and np.isfinite(y[:, :2]).all()
    for training in (False, True):
        x = tf.constant([np.nan, 2.0, -2.0])
        np.testing.assert_array_equal(activation(0.5, 1)(x, training=training), [np.nan, 1, 0])


@pytest.mark.parametrize("alpha", [0.0, 1e-30])
def test_gradients_without_a_distance_are_finite(alpha):
    quantizer = activation(alpha, 0.5)
    x = tf.constant([0.5, 0.7, -3.0])
    y, dx, gradients = value_and_gradients(
        lambda x: quantizer(x, training=True), x, tf.ones(3), quantizer.trainable_weights
    )
    assert np.isfinite([*y, *dx, *gradients]).all()


def random_filters(n, dtype="float32"):
    """Return filters of n weights with many shapes, sizes and offsets, (n, 200)."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((n, 200))
    w[:, 20:40] **= 3  # heavy tails
    w[:, 40:60] = rng.standard_cauchy((n, 20))
    w[:, 60:80] = rng.choice([-1.0, 1.0], (n, 20))
    w *= 10.0 ** rng.uniform(-20, 20, 200) if dtype == "float32" else 0.05
    # The means of trained filters are up to three quarters of their deviations.
    w += w.std(axis=0) * rng.uniform(-0.75, 0.75, 200)
    w[:, 120], w[:, 121] = 0, 3.25
    return tf.cast(w, dtype)


@pytest.mark.parametrize(
    ("dtype", "n"),
    [("float32", n) for n in (1, 2, 3, 4, 9, 27, 144, 576, 4608)]
    + [(dtype, n) for dtype in ("bfloat16", "float16") for n in (64, 1152)],
)
def test_latent_weights_come_back_exactly(dtype, n):
    """Of values of 16 bits also by a layer that rounds its weights before they are quantized."""
    quantizer = AdaBinKernel()
    quantized = tf.cast(quantizer(random_filters(n, dtype)), tf.float32).numpy()
    low, high = quantized.min(axis=0), quantized.max(axis=0)
    signs = quantized == high
    latents = quantizer.latent_weights(signs.T, low, high)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(quantizer(latents.T), np.where(signs, high, low))
    again = tf.cast(quantizer(tf.cast(latents.T, dtype)), tf.float32)
    np.testing.assert_array_equal(again, np.where(signs, high, low))


def test_latent_weights_of_any_values():
    """Also of two that are equal, that change places, that have one sign, and of signs that all agree."""
    signs = np.random.default_rng(0).random((6, 100)) < 0.5
    signs[4], signs[5] = True, False
    low = np.array([-1, 0.5, 3, 0.1, -1, -1], np.float32)
    high = np.array([1, 0.5, 2, 0.3, 1, 1], np.float32)
    quantizer = AdaBinKernel()
    latents = quantizer.latent_weights(signs, low, high)
    np.testing.assert_array_equal(quantizer(latents.T).numpy().T, np.where(signs, high[:, None], low[:, None]))


@pytest.mark.parametrize("role", ["kernel_quantizer", "input_quantizer"])
def test_wrong_role_is_refused(role):
    make = AdaBinActivation if role == "kernel_quantizer" else AdaBinKernel
    layer = lq.layers.QuantConv2D(3, 2, **{role: make()}, name="conv")
    with pytest.raises(ValueError, match=role):
        layer(tf.ones((1, 4, 4, 3)))


def test_counts_as_one_bit():
    layer = lq.layers.QuantConv2D(
        3, 2, use_bias=False, input_quantizer="adabin_activation", kernel_quantizer="adabin_kernel"
    )
    model = tf.keras.Sequential([tf.keras.Input((5, 5, 4)), layer])
    profile = lq.models.ModelProfile(model)
    assert profile.weight_count(1) == 2 * 2 * 4 * 3
    assert profile.op_count("mac", 1) == 2 * 2 * 4 * 3 * 16 and profile.op_count("mac", 32) == 0
