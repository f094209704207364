"""FTBNN: every choice does what it says, and has an effect."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import FPReLU
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import assert_golden

ORDERS = {
    "bn_act_add": ["conv", "bn", "fprelu", "add"],
    "bn_add_act": ["conv", "bn", "add", "fprelu"],
    "act_bn_add": ["conv", "fprelu", "bn", "add"],
}


pytestmark = pytest.mark.usefixtures("shallow")


def small(**arguments):
    return zoo.FTBNN20(input_shape=(8, 8, 3), classifier_activation=None, **arguments)


def drawn(model, seed=0):
    """Give a model's variables values that depend on their names alone."""
    for index, (_, variable) in enumerate(sorted(named_variables(model).items())):
        value = np.random.default_rng([seed, index]).uniform(0.2, 1.2, variable.shape)
        variable.assign(value - 0.7 if variable.shape.rank > 1 else value)
    return model


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, 8, 8, 3))


@pytest.mark.slow
def test_every_order_computes_another_function(x, float64):
    """All three have the same variables, so that equal values show the order's effect on the forward pass."""
    models = {order: drawn(small(order=order)) for order in ORDERS}
    names = [list(named_variables(model)) for model in models.values()]
    assert sorted(names[0]) == sorted(names[1]) == sorted(names[2])
    outputs = [model(x).numpy() for model in models.values()]
    assert all(np.max(np.abs(outputs[a] - outputs[b])) > 1e-2 for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_default_order_is_not_lost_in_the_next_sign(order, x, float64):
    """Slopes that keep every sign would be without effect if no addition came before the next sign."""
    model = drawn(small(order=order))
    before = model(x).numpy()
    for layer in model.layers:
        if isinstance(layer, FPReLU):
            layer.negative_slope.assign(layer.negative_slope * 0.5)
    assert np.max(np.abs(model(x) - before)) > 1e-2
    layers = [layer.name.split("_")[-1] for layer in model.layers if layer.name.startswith("stage1_block2_")]
    assert layers == ORDERS[order]


def test_the_default_order():
    assert zoo.model_info(small()).arguments["order"] == "bn_act_add"


def test_a_block_by_its_formula(x, float64):
    model = drawn(small(width=2, groups=4))
    tensors = tf.keras.Model(
        model.input, [model.get_layer(name).output for name in ("stage1_block1_add", "stage1_block2_add")]
    )
    a, b = (each.numpy() for each in tensors(x))
    v = {name.removeprefix("stage1_block2_"): each.numpy() for name, each in named_variables(model).items()}
    kernel = np.abs(v["conv/kernel"]).mean((0, 1, 2)) * np.where(v["conv/kernel"] < 0, -1.0, 1.0)
    assert kernel.shape == (3, 3, 8, 32)
    signs = np.pad(np.where(a < 0, -1.0, 1.0), [(0, 0), (1, 1), (1, 1), (0, 0)])
    y = np.zeros((2, 8, 8, 32))
    for g in range(4):
        for i in range(3):
            for j in range(3):
                window = signs[:, i : i + 8, j : j + 8, 8 * g : 8 * g + 8]
                y[..., 8 * g : 8 * g + 8] += window @ kernel[i, j, :, 8 * g : 8 * g + 8]
    y = (y - v["bn/moving_mean"]) / np.sqrt(v["bn/moving_variance"] + 1e-5) * v["bn/gamma"] + v["bn/beta"]
    y = y * np.where(y > 0, v["fprelu/positive_slope"], v["fprelu/negative_slope"])
    # Shuffled: the first channels of all groups, then the second ones.
    y = y.reshape(2, 8, 8, 4, 8).swapaxes(-1, -2).reshape(2, 8, 8, 32)
    assert_golden(b, a + y)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["average_duplicate", "average_pad", "binary_conv", "grouped_conv", "real_conv"])
def test_shortcuts(shortcut, x, float64):
    model = drawn(small(shortcut=shortcut))
    name = "stage2_block1_shortcut"
    a = tf.keras.Model(model.input, model.get_layer("stage1_block2_add").output)(x).numpy()
    last = [layer for layer in model.layers if layer.name.startswith(name)][-1]
    b = tf.keras.Model(model.input, last.output)(x).numpy()
    pooled = a.reshape(2, 4, 2, 4, 2, 16).mean((2, 4))
    v = {n: each.numpy() for n, each in named_variables(model).items() if n.startswith(name)}
    if shortcut == "average_duplicate":
        expected = np.concatenate([pooled, pooled], axis=-1)
    elif shortcut == "average_pad":
        expected = np.concatenate([pooled, np.zeros_like(pooled)], axis=-1)
    else:
        kernel = v[f"{name}_conv/kernel"][0, 0]
        if shortcut == "binary_conv":
            pooled = np.where(pooled < 0, -1.0, 1.0)
            kernel = np.abs(kernel).mean(0) * np.where(kernel < 0, -1.0, 1.0)
        groups = 4 if shortcut == "grouped_conv" else 1
        parts = zip(np.split(pooled, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
        expected = np.concatenate([part @ k for part, k in parts], axis=-1)
        bn = {n.split("/")[1]: each for n, each in v.items() if "_bn/" in n}
        scale = bn["gamma"] / np.sqrt(bn["moving_variance"] + 1e-5)
        expected = (expected - bn["moving_mean"]) * scale + bn["beta"]
    assert bool(v) == ("conv" in shortcut)
    assert len(binary_kernels(model)) == (8 if shortcut == "binary_conv" else 6)
    assert_golden(b, expected)


@pytest.mark.parametrize("nonlinearity", ["fprelu", "prelu", "relu", "none"])
def test_nonlinearities(nonlinearity, x, float64):
    model = drawn(small(nonlinearity=nonlinearity))
    names = {layer.name for layer in model.layers}
    assert ("stage1_block1_fprelu" in names) == (nonlinearity == "fprelu")
    bn = tf.keras.Model(model.input, model.get_layer("stage1_block1_bn").output)(x).numpy()
    add = tf.keras.Model(model.input, model.get_layer("stage1_block1_add").output)(x).numpy()
    stem = tf.keras.Model(model.input, model.get_layer("stem_bn").output)(x).numpy()
    v = {name: each.numpy() for name, each in named_variables(model).items()}
    p, q = {
        "fprelu": lambda: (v["stage1_block1_fprelu/positive_slope"], v["stage1_block1_fprelu/negative_slope"]),
        "prelu": lambda: (1, v["stage1_block1_prelu/alpha"]),
        "relu": lambda: (1, 0),
        "none": lambda: (1, 1),
    }[nonlinearity]()
    assert_golden(add, stem + bn * np.where(bn > 0, p, q))


@pytest.mark.slow
def test_without_a_shuffle_groups_stay_apart(float64):
    """A change of one group's input reaches the other groups only where channels are shuffled."""
    for shuffle in (True, False):
        body = drawn(small(width=2, groups=4, shuffle=shuffle, include_top=False))
        stage = tf.keras.Model(body.get_layer("stem_duplicate").output, zoo.stage_outputs(body)["stage1"])
        x = np.random.default_rng(2).standard_normal((1, 8, 8, 32))
        y = x.copy()
        y[..., :8] *= -1
        changed = np.abs(stage(x) - stage(y)).max((0, 1, 2)) > 0
        assert changed[:8].all() and changed[8:].any() == shuffle


@pytest.mark.slow
def test_groups_train():
    """TensorFlow has no gradient of grouped convolutions on CPUs: ours is used in graphs too."""
    model = small(width=2, groups=4, shortcut="grouped_conv")
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    x = np.random.default_rng(0).standard_normal((8, 8, 8, 3)).astype(np.float32)
    model.fit(x, np.arange(8) % 4, batch_size=8, verbose=0)
    moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved) and all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0.5}, r"width must be a number of at least 1 .*16 \* width, not 0.5"),
        ({"width": 1.01}, "whole number of channels"),
        ({"groups": 3}, "groups must be a divisor of the 16 channels of the first stage, not 3"),
        ({"groups": 0}, "groups must be a divisor"),
        ({"width": 1.125, "shortcut": "grouped_conv"}, "4 groups, which do not divide 18 channels"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)
