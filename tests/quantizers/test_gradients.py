"""Values and gradients against formulas written down in NumPy, filter by filter and channel by channel."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import (
    EDE,
    ApproxSign,
    FPReLU,
    LeakyClip,
    LibraPB,
    MagnitudeAwareSign,
    McDonnellSign,
    RPReLU,
    RSign,
    ScaledSign,
    ShiftedReLU,
)
from tests.helpers import assert_golden, value_and_gradients
from tests.quantizers.models import ACTIVATIONS, FILTERWISE, INPUTS, KERNELS

K, T = 3.0, 0.7
# Zeros of both signs, the ends of the clip, their neighbours, and values beyond it.
EDGES = np.array([0.0, -0.0, 1.0, -1.0, np.nextafter(1, 2), -np.nextafter(1, 2), 0.5, -0.5, 1e-300, -1e-300, 4.0, -4.0])


def sign(x):
    return np.where(x < 0, -1.0, 1.0)


def draw(*shape, scale=1.0):
    """Return normal numbers with the edge values in front."""
    x = scale * np.random.default_rng(0).standard_normal(shape)
    count = min(x.size, EDGES.size)
    x.flat[:count] = EDGES[:count]
    return x


def cotangent(shape):
    return np.random.default_rng(1).standard_normal(shape)


def modes(layer):
    """Return the layer as it is and as it is in training, where it is compiled."""
    return layer, functools.partial(layer, training=True)


def tent(x):
    return np.maximum(0, 2 - 2 * np.abs(x))


def narrow(x, k, t):
    return k * t * (1 - np.tanh(t * x) ** 2)


ELEMENTWISE = {
    "ApproxSign": (ApproxSign, sign, tent),
    "EDE": (lambda: EDE(k=K, t=T), sign, lambda x: narrow(x, K, T)),
    "EDE, defaults": (EDE, sign, lambda x: narrow(x, 10, 0.1)),
    "ShiftedReLU": (ShiftedReLU, lambda x: np.maximum(-1, x), lambda x: x > -1),
    "LeakyClip": (
        LeakyClip,
        lambda x: np.where(np.abs(x) <= 1, x, 0.1 * x + 0.9 * sign(x)),
        lambda x: np.where(np.abs(x) <= 1, 1, 0.1),
    ),
    "LeakyClip(0)": (lambda: LeakyClip(slope=0.0), lambda x: np.clip(x, -1, 1), lambda x: np.abs(x) <= 1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name, float64):
    make, value, slope = ELEMENTWISE[name]
    x = draw(3, 20)
    g = cotangent(x.shape)
    layer = make()
    for mode in modes(layer):
        y, dx, _ = value_and_gradients(mode, x, g)
        assert_golden(y, value(x))
        assert_golden(dx, g * slope(x))


# Filter by filter: (quantizer, value of a filter, gradient of a filter).


def _scaled(w, g):
    return np.mean(np.abs(w)) * sign(w), g * (np.abs(w) <= 1)


def _magnitude_aware(w, g):
    return np.mean(np.abs(w)) * sign(w), g * (np.abs(w) <= 1) * np.mean(np.abs(w))


def _mcdonnell(gain):
    return lambda w, g: (gain / np.sqrt(w.size) * sign(w), g)


def _libra(w, g):
    deviation = np.std(w, ddof=1)
    z = (w - np.mean(w)) / deviation
    scale = 2 ** np.round(np.log2(np.mean(np.abs(z))))
    dz = g * scale * narrow(z, K, T)
    # The Jacobian of the standardisation: neither a shift nor a stretch of the filter changes z.
    return scale * sign(z), (dz - np.mean(dz) - z * np.sum(dz * z) / (w.size - 1)) / deviation


FILTER_FORMULAS = {
    "ScaledSign": (ScaledSign, _scaled),
    "MagnitudeAwareSign": (MagnitudeAwareSign, _magnitude_aware),
    "McDonnellSign": (McDonnellSign, _mcdonnell(np.sqrt(2))),
    "McDonnellSign, gain 2": (lambda **kwargs: McDonnellSign(gain=2.0, **kwargs), _mcdonnell(2.0)),
    "LibraPB": (lambda **kwargs: LibraPB(k=K, t=T, **kwargs), _libra),
}


def filter_by_filter(formula, w, g, axes):
    """Apply the formula to each filter of ``w`` on its own; ``axes`` number the filters."""
    value, gradient = np.empty_like(w), np.empty_like(w)
    for at in np.ndindex(*(w.shape[axis] for axis in axes)):
        filter_ = tuple(at[axes.index(i)] if i in axes else slice(None) for i in range(w.ndim))
        value[filter_], gradient[filter_] = formula(w[filter_], g[filter_])
    return value, gradient


@pytest.mark.parametrize("shape", [(7, 3), (3, 4, 3), (3, 3, 2, 4), (2, 2, 2, 2, 3)])
@pytest.mark.parametrize("name", FILTER_FORMULAS)
def test_filterwise(name, shape, float64):
    make, formula = FILTER_FORMULAS[name]
    # Filters of unlike size and offset, so that a scale over the wrong axes shows.
    w = draw(*shape, scale=0.7) * np.linspace(0.5, 2, shape[-1]) + np.linspace(0, 0.2, shape[-1])
    g = cotangent(shape)
    value, gradient = filter_by_filter(formula, w, g, [len(shape) - 1])
    y, dw, _ = value_and_gradients(make(), w, g)
    assert_golden(y, value)
    assert_golden(dw, gradient)


@pytest.mark.parametrize(("channel_axis", "axes"), [(0, [0]), (-2, [2]), ((-2, -1), [2, 3]), ([0, -1], [0, 3])])
@pytest.mark.parametrize("name", [name for name in FILTER_FORMULAS if name != "MagnitudeAwareSign"])
def test_channel_axis(name, channel_axis, axes, float64):
    make, formula = FILTER_FORMULAS[name]
    w = draw(3, 2, 4, 5)
    g = cotangent(w.shape)
    value, gradient = filter_by_filter(formula, w, g, axes)
    quantizer = make(channel_axis=channel_axis)
    copy = type(quantizer).from_config(quantizer.get_config())
    for q in (quantizer, copy):
        y, dw, _ = value_and_gradients(q, w, g)
        assert_golden(y, value)
        assert_golden(dw, gradient)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e-3, 700.0])
def test_libra_pb_of_equal_weights(constant, dtype):
    """0.1 is no binary number: the mean of 27 of them is off by a rounding error."""
    varied = np.random.default_rng(0).standard_normal((3, 3, 3))
    w = tf.cast(np.stack([np.full((3, 3, 3), constant), varied], axis=-1), dtype)
    y, dw, _ = value_and_gradients(LibraPB(k=K, t=T), w, tf.cast(cotangent(w.shape), dtype))
    assert np.all(y[..., 0] == 1)
    assert np.all(dw[..., 0] == 0)
    assert np.all(np.isfinite(dw.astype("float64"))) and np.any(dw[..., 1] != 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_libra_pb_of_its_own_output(dtype):
    """Such as weights that were saved in Larq's quantized scope: it is kept, with a gradient."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 3, 8, 64)) * 10 ** rng.uniform(-2, 1, 64)
    w[0, 0, 0] = np.geomspace(1, 1e4, 64)  # which lowers the scale
    once = LibraPB()(tf.cast(w, dtype))
    assert len(np.unique(np.abs(once))) > 2
    twice, gradient, _ = value_and_gradients(LibraPB(), once, tf.ones_like(once))
    np.testing.assert_array_equal(twice, once)
    assert np.isfinite(gradient.astype("float64")).all() and gradient.any()


def test_libra_pb_of_one_weight(float64):
    y, dw, _ = value_and_gradients(LibraPB(), -np.ones((1, 1, 1, 3)), np.ones((1, 1, 1, 3)))
    assert np.all(y == 1) and np.all(dw == 0)


@pytest.mark.parametrize(("axis", "shape"), [(-1, (2, 4, 4, 3)), (1, (2, 3, 4, 4)), (-1, (6, 3)), (2, (2, 5, 3))])
@pytest.mark.parametrize("layer", [RSign, RPReLU, FPReLU])
def test_channelwise(layer, axis, shape, float64):
    layer = layer(axis=axis)
    layer.build(shape)
    rng = np.random.default_rng(2)
    parameters = [rng.uniform(-0.5, 0.5, 3) for _ in layer.trainable_weights]
    column = [1] * len(shape)
    column[axis] = 3
    wide = [p.reshape(column) for p in parameters]
    for variable, p in zip(layer.trainable_weights, parameters, strict=True):
        variable.assign(p.reshape(variable.shape))

    x, g = draw(*shape), cotangent(shape)
    if isinstance(layer, RSign):
        (alpha,) = wide
        value, dx = sign(x - alpha), g * tent(x - alpha)
        expected = [-dx]
    elif isinstance(layer, RPReLU):
        a, slope, b = wide
        up = x + a > 0
        value, dx = np.where(up, x + a, slope * (x + a)) + b, g * np.where(up, 1, slope)
        expected = [dx, g * np.where(up, 0, x + a), g]
    else:
        p, q = wide
        value, dx = np.where(x > 0, p * x, q * x), g * np.where(x > 0, p, q)
        expected = [g * np.where(x > 0, x, 0), g * np.where(x > 0, 0, x)]

    others = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    for mode in modes(layer):
        y, actual_dx, gradients = value_and_gradients(mode, x, g, layer.trainable_weights)
        assert_golden(y, value)
        assert_golden(actual_dx, dx)
        for gradient, full in zip(gradients, expected, strict=True):
            assert_golden(gradient.reshape(-1), full.sum(axis=others))


STARTS = [
    (RSign, {}, [0]),
    (RPReLU, {}, [0, 0.25, 0]),
    (FPReLU, {}, [1, 0.25]),
    (RPReLU, {"slope_initializer": 0.1}, [0, 0.1, 0]),
    (FPReLU, {"positive_initializer": 2}, [2, 0.25]),
]


@pytest.mark.parametrize(("layer", "arguments", "starts"), STARTS)
def test_start_values(layer, arguments, starts):
    layer = layer(**arguments)
    layer.build((None, 2))
    assert [float(w[0]) for w in layer.get_weights()] == pytest.approx(starts)


@pytest.mark.parametrize("make", [*INPUTS, *FILTERWISE, MagnitudeAwareSign])
def test_sign_of_zero_is_one(make):
    """Where the official PyTorch code has 0 (see test_units), and Larq's sign +1."""
    for mode in modes(make()):
        y = mode(tf.constant([[0.0], [-0.0], [1.0], [-1.0]])).numpy()[:, 0]
        np.testing.assert_array_equal(np.sign(y), [1, 1, 1, -1])


@pytest.mark.parametrize("cls", [*INPUTS, *KERNELS, *ACTIVATIONS])
@pytest.mark.parametrize("others", [(1.0, -1.0), (1.0, 1.0), (np.nan, np.nan)])
def test_nan_stays_nan(cls, others):
    """A training that has diverged shows it: in that place, or in its filter or channel, which is the last axis."""
    x = tf.constant([[np.nan, 0.5], [others[0], 0.5], [others[1], -0.5]], tf.float32)
    for mode in modes(cls()):
        y = np.asarray(mode(x))
        assert np.isnan(y[0, 0]) and not np.isnan(y[:, 1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("make", [ApproxSign, EDE, RSign, RPReLU, FPReLU])
def test_16_bits(make):
    """Inside a compiled formula nothing is rounded: values and gradients are those of float32, rounded once."""
    rng = np.random.default_rng(4)
    # Numbers of 8 bits, from which both dtypes start.
    x, g = (tf.cast(rng.standard_normal((50, 40)), tf.bfloat16) for _ in range(2))
    parameters = tf.cast(rng.uniform(0.1, 0.9, (3, 40)), tf.bfloat16)
    results = []
    for policy, dtype in (("mixed_bfloat16", tf.bfloat16), ("float32", tf.float32)):
        layer = make(dtype=policy)
        layer.build(x.shape)
        for variable, start in zip(layer.trainable_weights, tf.cast(parameters, tf.float32), strict=False):
            variable.assign(start)
        y, dx, _ = value_and_gradients(functools.partial(layer, training=True), tf.cast(x, dtype), tf.cast(g, dtype))
        assert y.dtype == dx.dtype == dtype
        results.append((y, dx))
    for narrow_one, wide_one in zip(*results, strict=True):
        np.testing.assert_array_equal(narrow_one, tf.cast(wide_one, tf.bfloat16))
