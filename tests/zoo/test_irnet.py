"""IR-Net: its choices, and what they change."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import EDE, LibraPB
from onebit.zoo import irnet
from onebit.zoo.building import CIFAR_20, Block
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import assert_golden, value_and_gradients


def test_option_a_shortcut_agrees_with_pytorch(goldens, float64):
    arrays = np.load(goldens / "units.npz")
    x, g, y, dx = (np.moveaxis(arrays[f"option_a_shortcut/{name}"], 1, -1) for name in ("x", "g", "y", "dx"))
    inputs = tf.keras.Input(x.shape[1:])
    block = Block("stage2_block1", y.shape[-1], x.shape[1] // y.shape[1])
    actual, gradient, _ = value_and_gradients(tf.keras.Model(inputs, irnet._shortcut(inputs, block, CIFAR_20)), x, g)
    assert_golden(actual, y)
    assert_golden(gradient, dx)


@pytest.mark.slow
def test_structure_and_quantizers_follow_from_the_arguments(shallow):
    count = sum(shallow)
    models = [zoo.IRNetResNet20(), zoo.IRNetResNet20(activation_bits=32), zoo.IRNetResNet20(quantized=False)]
    additions = [sum(isinstance(x, tf.keras.layers.Add) for x in model.layers) for model in models]
    signs = [sum(isinstance(getattr(x, "input_quantizer", None), EDE) for x in model.layers) for model in models]
    kernels = [binary_kernels(model) for model in models]
    assert additions == [count, count // 2, count]
    assert signs == [count, 0, 0]
    assert [len(each) for each in kernels] == [count, count, 0]
    assert all(isinstance(kernel.quantizer, LibraPB) for each in kernels for kernel in each.values())
    structures = [zoo.model_info(model).arguments["structure"] for model in models]
    assert structures == ["bireal", "normal", "bireal"]
    names = [set(named_variables(model)) for model in models]
    state = {name for name in names[0] if name.endswith(("/k_bias", "/t_bias"))}
    assert len(state) == 2 * 2 * count and names[2] == names[0] - state


@pytest.mark.slow
def test_vgg_small_without_a_known_size():
    with pytest.raises(ValueError, match=r"IRNetVGGSmall with its top must have a known height and width, not \(None"):
        zoo.IRNetVGGSmall(input_shape=(None, None, 3))
    body = zoo.IRNetVGGSmall(include_top=False, pooling="avg")
    assert body(np.zeros((1, 19, 16, 3), np.float32)).shape == (1, 512)


@pytest.mark.slow
@pytest.mark.parametrize(("function", "mode"), [("IRNetResNet18", "fan_out"), ("IRNetResNet20", "fan_in")])
def test_convolutions_start_as_in_the_official_code(function, mode):
    """He's normal distribution, for the downsampling shortcuts' as well."""
    model = getattr(zoo, function)()
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            height, width, channels, filters = layer.kernel.shape
            fan = height * width * (filters if mode == "fan_out" else channels)
            assert np.std(layer.kernel) == pytest.approx((2 / fan) ** 0.5, rel=0.1), layer.name
