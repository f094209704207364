"""ReActNet: its choices, and what has no official code."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.zoo import reactnet
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import assert_golden


@pytest.mark.parametrize(
    ("function", "groups", "source"),
    [
        ("ReActNetB", 4, "sign"),
        pytest.param("ReActNetB", 4, "real", marks=pytest.mark.slow),
        pytest.param("ReActNetC", 1, "real", marks=pytest.mark.slow),
    ],
)
def test_real_convolutions_where_channels_double(function, groups, source, monkeypatch, float64):
    """The second half of a doubling block, by its formula."""
    monkeypatch.setattr(reactnet, "_BLOCKS", reactnet._BLOCKS[:3])
    model = getattr(zoo, function)(input_shape=(32, 32, 3), include_top=False, downsample_input=source)
    rng = np.random.default_rng(0)
    variables = {name: v for name, v in named_variables(model).items() if "stage2_block1_" in name}
    for name, variable in variables.items():
        low, high = (0.5, 1.5) if "variance" in name else (-0.5, 1)
        variable.assign(rng.uniform(low, high, variable.shape))
    variables = {name: v.numpy() for name, v in variables.items()}
    half = tf.keras.Model(model.input, [model.get_layer(f"stage2_block1_rprelu{i}").output for i in (1, 2)])
    y, z = (each.numpy() for each in half(rng.standard_normal((2, 32, 32, 3))))

    kernel = variables["stage2_block1_conv2/kernel"][0, 0]
    assert kernel.shape == (64 // groups, 128)
    seen = y
    if source == "sign":
        seen = np.where(y >= variables["stage2_block1_conv2/input_quantizer/alpha_bias"], 1.0, -1.0)
    parts = zip(np.split(seen, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
    x = np.concatenate([part @ k for part, k in parts], axis=-1)
    bn = {name.split("/")[1]: v for name, v in variables.items() if "bn2/" in name}
    x = (x - bn["moving_mean"]) / np.sqrt(bn["moving_variance"] + 1e-5) * bn["gamma"] + bn["beta"]
    x = x + np.concatenate([y, y], axis=-1) + variables["stage2_block1_rprelu2/shift_in"]
    x = np.where(x > 0, x, variables["stage2_block1_rprelu2/slope"] * x) + variables["stage2_block1_rprelu2/shift_out"]
    assert_golden(z, x)


@pytest.mark.slow
def test_steps_and_full_precision_share_their_variables(shallow):
    one, two, real = zoo.ReActNet20(step=1), zoo.ReActNet20(), zoo.ReActNet20(quantized=False)
    assert named_variables(one).keys() == named_variables(two).keys()
    assert (len(binary_kernels(one)), len(binary_kernels(two)), len(binary_kernels(real))) == (0, sum(shallow), 0)
    thresholds = {name for name in named_variables(two) if "input_quantizer" in name}
    assert len(thresholds) == sum(shallow)
    assert named_variables(real).keys() == named_variables(two).keys() - thresholds
