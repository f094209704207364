"""Every quantizer by object and by name, in every precision, in graphs, in one replica and in two."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import (
    EDE,
    ApproxSign,
    EDESchedule,
    FPReLU,
    RPReLU,
    RSign,
    ScaledSign,
    binary_activation,
    ede_schedule,
)
from tests.helpers import start_python, value_and_gradients
from tests.quantizers.models import ACTIVATIONS, FILTERWISE, INPUTS, KERNELS, every_quantizer, move_state

ALL = list(dict.fromkeys([*INPUTS, *KERNELS, *ACTIVATIONS]))
OURS = [each for each in ALL if each.__module__.startswith("onebit")]
POLICIES = {"float32": 1e-6, "float64": 1e-12, "mixed_bfloat16": 2e-2, "mixed_float16": 2e-3}
ROLES = [*(("input_quantizer", each) for each in INPUTS), *(("kernel_quantizer", each) for each in KERNELS)]


@pytest.mark.parametrize(("role", "cls"), ROLES)
def test_by_name(role, cls):
    names = [name for name, each in tf.keras.utils.get_custom_objects().items() if each is cls]
    assert names
    x = tf.random.stateless_normal((2, 5, 5, 4), (0, 1))
    outputs = []
    for identifier in (cls(), *names):
        layer = lq.layers.QuantConv2D(3, 2, **{role: identifier})
        assert type(getattr(layer, role)) is cls
        layer(x)
        layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (2, 3)))
        outputs.append(layer(x).numpy())
        np.testing.assert_array_equal(outputs[0], outputs[-1])


@pytest.mark.slow
def test_names_of_larq_stay_those_of_larq():
    """Whatever is imported: in a process of its own."""
    script = """
        import onebit
        import larq, tensorflow as tf
        before = dict(tf.keras.utils.get_custom_objects())
        from onebit import quantizers, recipes, zoo
        after = tf.keras.utils.get_custom_objects()
        assert all(after[name] is each for name, each in before.items())
        assert type(larq.quantizers.get("approx_sign")) is larq.quantizers.ApproxSign
    """
    process = start_python(script)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.mark.parametrize(
    "policy", [pytest.param(name, marks=pytest.mark.slow if "16" in name else ()) for name in POLICIES]
)
@pytest.mark.parametrize("cls", ALL)
def test_precision(cls, policy):
    """The values and gradients of float64, to the policy's precision, in its compute dtype."""
    # Multiples of 1/64 below 2 are exact in all dtypes, so no sign flips; the last axis is the channel and the filter.
    rng = np.random.default_rng(0)
    x, g = rng.integers(-127, 128, (2, 3, 3, 4)) / 64, rng.integers(-8, 9, (2, 3, 3, 4)) / 8

    def run(policy):
        tf.keras.mixed_precision.set_global_policy(policy)
        layer = cls()
        dtype = layer.compute_dtype
        layer.build(x.shape)
        return value_and_gradients(layer, tf.cast(x, dtype), tf.cast(g, dtype), layer.trainable_weights)

    expected_y, expected_dx, expected = run("float64")
    y, dx, gradients = run(policy)
    assert y.dtype == dx.dtype == tf.as_dtype(policy.removeprefix("mixed_")).as_numpy_dtype
    for actual, reference in zip([y, dx, *gradients], [expected_y, expected_dx, *expected], strict=True):
        error = np.max(np.abs(actual.astype("float64") - reference))
        assert error <= POLICIES[policy] * np.max(np.abs(reference))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("cls", [RSign, RPReLU, FPReLU])
def test_gradients_of_parameters_are_summed_in_32_bits(cls, dtype):
    """Each adds little to what thousands of positions have added up to."""
    tf.keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    x = tf.ones((8, 64, 64, 1), dtype) / 2
    layer = cls()
    layer.build(x.shape)
    _, dx, gradients = value_and_gradients(layer, x, tf.ones_like(x) / 64, layer.trainable_weights)
    count = 8 * 64 * 64
    expected = {"alpha_bias": -dx.flat[0] * count, "positive_slope": count / 128, "negative_slope": 0, "slope": 0}
    for variable, gradient in zip(layer.trainable_weights, gradients, strict=True):
        wanted = expected.get(variable.name.split("/")[-1].split(":")[0], count / 64)
        np.testing.assert_allclose(float(gradient[0].item()), float(wanted), rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("cls", [each for each in OURS if each not in ACTIVATIONS])
def test_the_dtype_of_the_input_under_any_policy(cls, dtype):
    """So that a quantizer also fits a layer with a dtype of its own."""
    role = "kernel_quantizer" if cls in FILTERWISE else "input_quantizer"
    for policy in ("float32", "mixed_bfloat16"):
        tf.keras.mixed_precision.set_global_policy(policy)
        assert cls()(tf.ones((2, 3), dtype)).dtype == dtype
        layer = lq.layers.QuantDense(2, dtype=dtype, **{role: cls()})
        assert layer(tf.ones((2, 3), dtype)).dtype == dtype


@pytest.mark.parametrize("cls", INPUTS)
def test_a_threshold_keeps_its_bits_in_a_layer_of_more_than_the_policy(cls):
    x = tf.constant([[0.19998], [0.20002]])
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        quantizer = cls(dtype=policy)
        quantizer.build(x.shape)
        for variable in quantizer.trainable_weights[-1:]:
            variable.assign(tf.fill(variable.shape, 0.2))
        threshold = binary_activation(quantizer).threshold
        for training in (False, True):
            y = quantizer(x, training=training).numpy()
            assert (y[0] != y[1]) == (np.max(threshold) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cls", OURS)
def test_tf_function(cls, xla):
    rng = np.random.default_rng(0)
    x, g = (tf.constant(rng.standard_normal((3, 4, 5)), tf.float32) for _ in range(2))
    layer = cls()
    layer(x)

    @tf.function(jit_compile=xla)
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, *layer.trainable_weights], g)

    for _ in range(2):
        y, dx, gradients = value_and_gradients(layer, x, g, layer.trainable_weights)
        actual_y, actual = compiled(x)
        np.testing.assert_allclose(actual_y, y, rtol=1e-6)
        for a, b in zip(actual, [dx, *gradients], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        # The graph reads the state anew at each call.
        move_state(layer)


def _data(count=8):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 5, 5, 4)), rng.standard_normal((count, 2))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_fit(policy):
    """One step, which moves every variable; for float64 see `test_two_replicas_take_the_step_of_one`."""
    tf.keras.mixed_precision.set_global_policy(policy)
    model = every_quantizer()
    optimizer = tf.keras.optimizers.SGD(1e-3)
    if policy == "mixed_float16":
        # Keras' own start is so large that the first steps overflow and are left out.
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False, initial_scale=8)
    model.compile(optimizer, "mse", run_eagerly=policy != "float32")
    before = model.get_weights()
    history = model.fit(*_data(), batch_size=8, epochs=1, verbose=0, callbacks=[EDESchedule(10, t_min=0.3)])
    assert np.isfinite(history.history["loss"][0])
    for variable, old, new in zip(model.weights, before, model.get_weights(), strict=True):
        assert np.all(np.isfinite(new))
        assert variable.dtype == "float32"
        assert np.any(old != new), variable.name


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(strategy, float64):
    """A fit of 2 epochs over 2 replicas ends in the weights, thresholds and state of a fit on one device."""
    single = every_quantizer()
    move_state(single)
    with strategy.scope():
        double = every_quantizer()
    double.set_weights(single.get_weights())
    for model, scope in ((single, tf.distribute.get_strategy()), (double, strategy)):
        with scope.scope():
            model.compile(tf.keras.optimizers.SGD(1e-3), "mse", run_eagerly=model is single)
        model.fit(*_data(), batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[EDESchedule(3)])
    for variable, one, two in zip(single.weights, single.get_weights(), double.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12, err_msg=variable.name)
    k, t = ede_schedule(1, epochs=3)
    states = [layer.input_quantizer for layer in double.layers if isinstance(getattr(layer, "input_quantizer", 0), EDE)]
    assert states and all((q.k.numpy(), q.t.numpy()) == pytest.approx((k, t)) for q in states)


@pytest.mark.parametrize("cls", [each for each in KERNELS if each in OURS])
def test_metrics_of_larq(cls):
    """Its scope counts the weights that change in kernels; the metric's own state is no weight of the model."""
    plain = lq.layers.QuantDense(2, kernel_quantizer=cls())
    plain(np.ones((1, 3)))
    with lq.context.metrics_scope(["flip_ratio"]):
        dense = lq.layers.QuantDense(2, kernel_quantizer=cls(), input_shape=(3,))
        model = tf.keras.Sequential([dense])
    assert len(model.weights) == len(plain.weights)
    kernel = np.array([[1.0, -1], [-2, 3], [1.2, -2.2]], np.float32) / 100  # below 1, where Larq's own would see zeros
    for each in (kernel, kernel * [1, -1], kernel * [1, -1]):
        dense.kernel.assign(each)
        model(np.ones((1, 3)))
    assert float(dense.kernel_quantizer.flip_ratio.result()) == pytest.approx(1 / 4), "a half, and then none"
    assert lq.quantizers.get_kernel_quantizer(ScaledSign())._custom_metrics == []


def test_explicit_metrics():
    quantizer = ApproxSign(metrics=["flip_ratio"])
    quantizer(tf.ones((2, 2)))
    assert [metric.name for metric in quantizer.metrics] == [f"flip_ratio/{quantizer.name}"]
