"""The official code's building blocks: every case of the ``units`` golden vectors that is a quantizer or its layer.

The official sign(0) is 0 and ours is +1. Each quantizer's own values are compared as they are, with that one
substitution (`one_at_zero`); whole convolutions, where a zero spreads, run with the official sign (`official_sign`).
"""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import (
    EDE,
    ApproxSign,
    LeakyClip,
    LibraPB,
    McDonnellSign,
    RPReLU,
    RSign,
    ScaledSign,
    ShiftedReLU,
    ede_schedule,
)
from tests.helpers import assert_golden, value_and_gradients

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def units(goldens):
    return np.load(goldens / "units.npz")


@pytest.fixture
def case(units):
    """Read the arrays of one case as a dictionary."""

    def read(name):
        return {key[len(name) + 1 :]: units[key] for key in units.files if key.startswith(name + "/")}

    return read


@pytest.fixture
def official_sign(monkeypatch):
    """Let sign(0) be 0, as in the official code."""
    monkeypatch.setattr(lq.math, "sign", tf.sign)


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


def hwio(w):
    return w.transpose(2, 3, 1, 0)


def one_at_zero(golden, magnitude=1.0):
    """Return the official forward values with +magnitude in place of the 0 of torch.sign(0)."""
    assert (golden == 0).any(), "the case is meant to contain a zero"
    return np.where(golden == 0, magnitude, golden)


def check_conv(c, layer, dx, dw, padding=0):
    """Compare a convolution's output and its gradients, all in Keras layout; the zeros are put there after the sign."""
    # A tf.pad after the sign needs the sign out of Larq's layer, which then sees quantized inputs.
    quantizer, layer.input_quantizer = layer.input_quantizer, None
    edges = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    layer.build(c["x"].shape)
    layer.kernel.assign(c["w"])

    def convolve(x):
        return layer(tf.pad(quantizer(x) if quantizer else x, edges))

    y, actual_dx, (actual_dw,) = value_and_gradients(convolve, c["x"], c["g"], [layer.kernel])
    assert_golden(y, c["y"])
    assert_golden(actual_dx, dx)
    assert_golden(actual_dw, dw)


def keras_layout(c):
    """Return a case of a PyTorch convolution in Keras layout; gradients of several settings keep their first axis."""
    to = {
        "x": nhwc,
        "y": nhwc,
        "g": nhwc,
        "dx": nhwc,
        "w": hwio,
        "dw": hwio,
        "wb": hwio,
        "gw": hwio,
        "dw_from_gw": hwio,
    }
    return {
        key: np.stack([to[key](v) for v in value]) if value.ndim == 5 else to[key](value) if key in to else value
        for key, value in c.items()
    }


def test_approx_sign(case):
    c = case("approx_sign")
    y, dx, _ = value_and_gradients(ApproxSign(), c["x"], c["g"])
    assert_golden(y, one_at_zero(c["y"]))
    assert_golden(dx, c["dx"])


@pytest.mark.parametrize("number", range(4))
def test_hard_binary_conv(case, number, official_sign):
    c = keras_layout(case(f"hard_binary_conv/{number}"))
    size, stride, padding = c["w"].shape[0], int(c["stride"]), int(c["padding"])
    layer = lq.layers.QuantConv2D(6, size, stride, use_bias=False, kernel_quantizer=ScaledSign())
    check_conv(c, layer, c["dx"], c["dw"], padding)


@pytest.mark.parametrize("number", range(4))
def test_hard_binary_conv_kernel(case, number):
    c = keras_layout(case(f"hard_binary_conv/{number}"))
    wb, dw, _ = value_and_gradients(ScaledSign(), c["w"], c["gw"])
    assert_golden(wb, one_at_zero(c["wb"], np.abs(c["w"]).mean(axis=(0, 1, 2))))
    assert_golden(dw, c["dw_from_gw"])


@pytest.mark.parametrize("axis", [-1, 1])
def test_rsign(case, axis):
    c = case("rsign")
    layout = nhwc if axis == -1 else np.asarray
    quantizer, x = RSign(axis=axis), layout(c["x"])
    quantizer.build(x.shape)
    quantizer.alpha.assign(-c["bias"].reshape(quantizer.alpha.shape))
    y, dx, (dalpha,) = value_and_gradients(quantizer, x, layout(c["g"]), [quantizer.alpha])
    assert_golden(y, one_at_zero(layout(c["y"])))
    assert_golden(dx, layout(c["dx"]))
    assert_golden(dalpha.reshape(-1), -c["dbias"])


@pytest.mark.parametrize("axis", [-1, 1])
def test_rprelu(case, axis):
    c = case("rprelu")
    layout = nhwc if axis == -1 else np.asarray
    layer, x = RPReLU(axis=axis), layout(c["x"])
    layer.build(x.shape)
    for name in ("shift_in", "slope", "shift_out"):
        variable = getattr(layer, name)
        variable.assign(c[name].reshape(variable.shape))
    variables = [layer.shift_in, layer.slope, layer.shift_out]
    y, dx, gradients = value_and_gradients(layer, x, layout(c["g"]), variables)
    assert_golden(y, layout(c["y"]))
    assert_golden(dx, layout(c["dx"]))
    for gradient, name in zip(gradients, ("dshift_in", "dslope", "dshift_out"), strict=True):
        assert_golden(gradient.reshape(-1), c[name])


@pytest.mark.parametrize("setting", range(6))
def test_irnet_weight(case, setting):
    c = keras_layout(case("irnet_weight"))
    quantizer = LibraPB(k=c["k"][setting], t=c["t"][setting])
    wb, dw, _ = value_and_gradients(quantizer, c["w"], c["gw"])
    assert_golden(wb, one_at_zero(c["wb"], c["sw"]))
    assert_golden(dw, c["dw"][setting])
    # Filter by filter as well: their gradients differ by orders of magnitude, and filter 3 has lost digits to its mean.
    for i in set(range(8)) - {3}:
        assert_golden(dw[..., i], c["dw"][setting][..., i])


@pytest.mark.parametrize("setting", range(6))
def test_irnet_conv(case, setting, official_sign):
    c = keras_layout(case("irnet_conv"))
    state = {"k": c["k"][setting], "t": c["t"][setting]}
    layer = lq.layers.QuantConv2D(
        8, 3, 2, use_bias=False, input_quantizer=EDE(**state), kernel_quantizer=LibraPB(**state)
    )
    check_conv(c, layer, c["dx"][setting], c["dw"][setting], padding=1)


def test_irnet_conv_1w32a(case, official_sign):
    c = keras_layout(case("irnet_conv_1w32a"))
    quantizer = LibraPB(k=float(c["k"]), t=float(c["t"]))
    layer = lq.layers.QuantConv2D(8, 3, 2, use_bias=False, kernel_quantizer=quantizer)
    check_conv(c, layer, c["dx"], c["dw"], padding=1)


@pytest.mark.parametrize("setting", range(6))
def test_ede(case, setting):
    c = case("ede")
    y, dx, _ = value_and_gradients(EDE(k=c["k"][setting], t=c["t"][setting]), c["x"], c["g"])
    assert_golden(y, one_at_zero(c["y"]))
    assert_golden(dx, c["dx"][setting])


@pytest.mark.parametrize(("name", "epochs", "t_min"), [("resnet20", 400, 1e-3), ("vgg_small", 300, 1e-1)])
def test_ede_schedule(case, name, epochs, t_min):
    c = case(f"ede_schedule/{name}")
    assert len(c["epoch"]) == epochs
    k, t = np.transpose([ede_schedule(epoch, epochs=epochs, t_min=t_min) for epoch in c["epoch"]])
    np.testing.assert_allclose(k, c["k"], rtol=1e-9)
    np.testing.assert_allclose(t, c["t"], rtol=1e-9)
    np.testing.assert_allclose(k, c["k_float32"], rtol=4e-6)
    np.testing.assert_allclose(t, c["t_float32"], rtol=4e-6)


@pytest.mark.parametrize("number", range(2))
def test_mcd_kernel(case, number):
    c = case(f"mcd_kernel/{number}")
    wb, dw, _ = value_and_gradients(McDonnellSign(), c["w"], c["g"])
    assert_golden(wb, one_at_zero(c["wb"], c["multiplier"]))
    assert_golden(dw, c["dw"])


@pytest.mark.parametrize("number", range(3))
def test_mcd_conv(case, number, official_sign):
    c = case(f"mcd_conv/{number}")
    layer = lq.layers.QuantConv2D(
        5, 3, int(c["stride"]), padding="same", use_bias=False, kernel_quantizer=McDonnellSign()
    )
    check_conv(c, layer, c["dx"], c["dw"])


@pytest.mark.parametrize("layer", [ShiftedReLU, LeakyClip])
def test_activation(case, layer):
    c = case({ShiftedReLU: "shifted_relu", LeakyClip: "leaky_clip"}[layer])
    y, dx, _ = value_and_gradients(layer(), c["x"], c["g"])
    assert_golden(y, c["y"])
    assert_golden(dx, c["dx"])
