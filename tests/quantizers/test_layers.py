"""Each Larq layer gives the quantizer its filters along the right axes: the table in `KernelQuantizer`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, LibraPB, McDonnellSign, RSign, ScaledSign
from tests.helpers import assert_golden
from tests.quantizers.models import FILTERWISE, INPUTS, KERNELS

# Layer, arguments, input shape, and for each kernel the axes that lie inside one filter.
LAYERS = {
    "QuantDense": ((3,), {}, (5,), [(0,)]),
    "QuantConv1D": ((3, 2), {}, (5, 4), [(0, 1)]),
    "QuantConv2D": ((3, 2), {}, (5, 5, 4), [(0, 1, 2)]),
    "QuantConv2D, groups": ((6, 2), {"groups": 2}, (5, 5, 4), [(0, 1, 2)]),
    "QuantConv3D": ((3, 2), {}, (4, 4, 4, 2), [(0, 1, 2, 3)]),
    "QuantDepthwiseConv2D": ((3,), {}, (5, 5, 4), [(0, 1)]),
    "QuantDepthwiseConv2D, multiplier": ((3,), {"depth_multiplier": 2}, (5, 5, 4), [(0, 1)]),
    "QuantSeparableConv1D": ((3, 3), {"depth_multiplier": 2}, (5, 4), [(0,), (0, 1)]),
    "QuantSeparableConv2D": ((3, 3), {"depth_multiplier": 2}, (5, 5, 4), [(0, 1), (0, 1, 2)]),
    "QuantConv2DTranspose": ((3, 2), {}, (4, 4, 5), [(0, 1, 3)]),
    "QuantConv3DTranspose": ((3, 2), {}, (3, 3, 3, 4), [(0, 1, 2, 4)]),
}


def scaled_sign(w, axes):
    return np.mean(np.abs(w), axis=axes, keepdims=True) * np.where(w < 0, -1.0, 1.0)


def mcdonnell_sign(w, axes):
    return np.sqrt(2 / np.prod([w.shape[axis] for axis in axes])) * np.where(w < 0, -1.0, 1.0)


def libra_pb(w, axes):
    z = (w - w.mean(axis=axes, keepdims=True)) / w.std(axis=axes, keepdims=True, ddof=1)
    return 2 ** np.round(np.log2(np.abs(z).mean(axis=axes, keepdims=True))) * np.where(z < 0, -1.0, 1.0)


FORMULAS = {ScaledSign: scaled_sign, McDonnellSign: mcdonnell_sign, LibraPB: libra_pb}


def quantizers(case, make):
    """Return the layer's quantizer arguments, an object of its own for each."""
    if "Separable" in case:
        return {"depthwise_quantizer": make(), "pointwise_quantizer": make()}
    return {"depthwise_quantizer" if "Depthwise" in case else "kernel_quantizer": make()}


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("make", FORMULAS)
def test_filters(case, make, float64):
    """The layer computes what Keras' own computes with the kernel quantized by hand; a rebuilt copy does as well."""
    args, kwargs, shape, axes = LAYERS[case]
    name = case.split(",")[0]
    layer = getattr(lq.layers, name)(*args, **kwargs, **quantizers(case, make))
    plain = getattr(tf.keras.layers, name.removeprefix("Quant"))(*args, **kwargs)
    copy = type(layer).from_config(layer.get_config())
    x = np.random.default_rng(0).standard_normal((2, *shape))
    for each in (layer, plain, copy):
        each(x)

    rng = np.random.default_rng(1)
    kernels = [w for w in plain.get_weights() if w.ndim > 1]
    # All scales along all axes differ.
    latent = [rng.standard_normal(w.shape) * rng.uniform(0.2, 5, w.shape) + rng.uniform(-1, 1) for w in kernels]
    quantized = [FORMULAS[make](w, a) for w, a in zip(latent, axes, strict=True)]
    bias = [rng.standard_normal(plain.bias.shape)]
    plain.set_weights(quantized + bias)
    for each in (layer, copy):
        state = each.get_weights()[len(kernels) + 1 :]
        each.set_weights(latent + bias + state)
        assert_golden(each(x), plain(x).numpy())
        with lq.context.quantized_scope(True):
            for variable, expected in zip([w for w in each.weights if w.shape.rank > 1], quantized, strict=True):
                assert_golden(tf.convert_to_tensor(variable), expected)


@pytest.mark.parametrize("case", LAYERS)
def test_gradient_reaches_each_kernel(case):
    """In a graph compiled by XLA, which alone has the gradient of grouped convolutions on every device."""
    args, kwargs, shape, axes = LAYERS[case]
    layer = getattr(lq.layers, case.split(",")[0])(*args, **kwargs, **quantizers(case, ScaledSign))
    x = tf.constant(np.random.default_rng(0).standard_normal((2, *shape)), tf.float32)
    layer(x)

    @tf.function(jit_compile="groups" in case)
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, layer.trainable_weights)

    kernels = [g for g in gradients(x) if g.shape.rank > 1]
    assert len(kernels) == len(axes)
    assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in kernels)


@pytest.mark.slow
@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("make", FORMULAS)
def test_quantized_kernels_are_read_before_the_first_call(case, make):
    args, kwargs, shape, _ = LAYERS[case]
    layer = getattr(lq.layers, case.split(",")[0])(*args, **kwargs, **quantizers(case, make))
    layer.build((None, *shape))
    with lq.context.quantized_scope(True):
        before = layer.get_weights()
    layer(np.zeros((1, *shape)))
    with lq.context.quantized_scope(True):
        for early, late in zip(before, layer.get_weights(), strict=False):  # the quantizer's own are made in the call
            np.testing.assert_array_equal(early, late)


def test_one_object_in_layers_of_two_kinds_in_threads():
    """Each call has its own layer's filters."""
    shared = ScaledSign()
    layers = [
        lq.layers.QuantConv2D(4, 3, kernel_quantizer=shared),
        lq.layers.QuantConv2DTranspose(4, 3, kernel_quantizer=shared),
    ]
    x = tf.random.stateless_normal((1, 6, 6, 4), (0, 1))
    expected = [layer(x) for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: layers[i % 2].kernel_quantizer and layers[i % 2](x), range(200)))
    for i, y in enumerate(found):
        np.testing.assert_array_equal(y, expected[i % 2])


def test_unshared_filters():
    """The papers define no scale for them; a bare sign needs none."""
    outputs = lq.layers.QuantLocallyConnected2D(2, 2, kernel_quantizer=EDE())(tf.ones((1, 4, 4, 3)))
    assert np.all(outputs == np.round(outputs)) and outputs.shape == (1, 3, 3, 2)


REFUSED = [
    *(("QuantLocallyConnected2D", "kernel_quantizer", make) for make in FILTERWISE),
    *(("QuantConv2D", "input_quantizer", make) for make in FILTERWISE),
    ("QuantConv2D", "kernel_quantizer", RSign),
    ("QuantDepthwiseConv2D", "depthwise_quantizer", RSign),
    ("QuantSeparableConv2D", "pointwise_quantizer", RSign),
]


@pytest.mark.parametrize(("name", "role", "make"), REFUSED)
def test_layers_in_which_a_quantizer_has_no_meaning(name, role, make):
    args = (2,) if "Depthwise" in name else (3, 2)
    for inputs in (tf.ones((1, 4, 4, 3)), tf.keras.Input((4, 4, 3))):
        layer = getattr(lq.layers, name)(*args, **{role: make()}, name="conv")
        with pytest.raises(ValueError, match=rf"{make.__name__}.*{name} \(conv\)"):
            layer(inputs)


@pytest.mark.parametrize("make", FILTERWISE)
def test_one_object_for_both_kernels_of_a_separable_layer(make):
    one = make()
    layer = lq.layers.QuantSeparableConv2D(3, 2, depthwise_quantizer=one, pointwise_quantizer=one)
    with pytest.raises(ValueError, match=make.__name__):
        layer(tf.ones((1, 4, 4, 3)))


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("inputs", [*INPUTS, None])
def test_counts_as_one_bit(make, inputs):
    """Larq's summary: every weight of the kernel 1 bit, every multiplication of a binary input binary, none else."""
    layer = lq.layers.QuantConv2D(
        3, 2, use_bias=False, input_quantizer=inputs and inputs(), kernel_quantizer=make(), input_shape=(5, 5, 4)
    )
    model = tf.keras.Sequential([layer])
    profile = lq.models.ModelProfile(model)
    kernel, pixels = 2 * 2 * 4 * 3, 4 * 4
    assert profile.weight_count(1) == kernel
    assert profile.op_count("mac", 1) == (kernel * pixels if inputs else 0)
    assert profile.op_count("mac", 32) == (0 if inputs else kernel * pixels)
    assert profile.layer_profiles[0].input_precision == (1 if inputs else None)
