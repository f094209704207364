"""IR-Net: the official code's figures."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import EDE, LibraPB
from onebit.zoo import irnet
from onebit.zoo.build.resnet import CIFAR_20, Block
from onebit.zoo.checkpoints.state_dicts import OFFICIAL
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.conftest import assert_golden, value_and_gradients
from tests.zoo.official_check import drawn_state, golden_errors, torch_errors

TOLERANCE = 1e-9
K, T = 10.0, 0.1


@pytest.mark.parametrize(
    ("function", "name", "arrays"),
    [
        ("IRNetResNet20", "irnet_resnet20_1w1a", 54),
        pytest.param("IRNetResNet18", "irnet_resnet18_imagenet_1w1a", 60, marks=pytest.mark.slow),
    ],
)
def test_agrees_with_the_official_code(function, name, arrays, goldens, reference, float64):
    model = getattr(zoo, function)(classifier_activation=None)
    code = OFFICIAL[function]
    errors = golden_errors(model, name, code.names(), goldens, reference, code.ignored)
    assert len(errors) == arrays and max(errors.values()) < TOLERANCE, errors


def test_option_a_shortcut_agrees_with_pytorch(goldens, float64):
    arrays = np.load(goldens / "units.npz")
    x, g, y, dx = (np.moveaxis(arrays[f"option_a_shortcut/{name}"], 1, -1) for name in ("x", "g", "y", "dx"))
    inputs = tf.keras.Input(x.shape[1:])
    block = Block("stage2_block1", y.shape[-1], x.shape[1] // y.shape[1])
    actual, gradient, _ = value_and_gradients(tf.keras.Model(inputs, irnet._shortcut(inputs, block, CIFAR_20)), x, g)
    assert_golden(actual, y)
    assert_golden(gradient, dx)


CASES = {
    "resnet20_normal": ("IRNetResNet20", {"structure": "normal"}, ((3, 3, 3), "cifar20", 1, K, T, False)),
    "resnet20_1w32a": ("IRNetResNet20", {"activation_bits": 32}, ((3, 3, 3), "cifar20", 32, K, T)),
    "resnet20_1w32a_bireal": (
        "IRNetResNet20",
        {"activation_bits": 32, "structure": "bireal"},
        ((3, 3, 3), "cifar20", 32, K, T, True),
    ),
    "resnet18_cifar": ("IRNetResNet18CIFAR", {}, ((2, 2, 2, 2), "cifar18", 1, K, T)),
    "resnet18_1w32a": ("IRNetResNet18", {"activation_bits": 32}, ((2, 2, 2, 2), "imagenet", 32, K, T)),
    "resnet34": ("IRNetResNet34", {}, ((3, 4, 6, 3), "imagenet", 1, K, T)),
    "resnet34_1w32a": ("IRNetResNet34", {"activation_bits": 32}, ((3, 4, 6, 3), "imagenet", 32, K, T)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_other_resnets_agree_with_pytorch(case, torch_networks, reference, float64):
    function, arguments, network_arguments = CASES[case]
    assert_agreement(function, arguments, network_arguments, torch_networks, reference)


@pytest.mark.parametrize("case", ["resnet20_normal", "resnet20_1w32a"])
def test_shallow_ones_agree_with_pytorch(case, shallow, torch_networks, reference, float64):
    function, arguments, (_, *rest) = CASES[case]
    assert_agreement(function, arguments, ([n // 2 for n in shallow], *rest), torch_networks, reference)


def assert_agreement(function, arguments, network_arguments, torch_networks, reference):
    size = 64 if network_arguments[1] == "imagenet" else 32
    model = getattr(zoo, function)(**arguments, input_shape=(size, size, 3), num_classes=10, classifier_activation=None)
    places = OFFICIAL[function].names()

    def network(*args):
        return torch_networks.irnet_resnet(*args, *network_arguments)

    x = np.random.default_rng(3).standard_normal((4, size, size, 3))
    state = drawn_state(model, places, reference, statistics=300)
    errors = torch_errors(model, places, network, x, state)
    assert len(errors) == len(places) + 2 and max(errors.values()) < TOLERANCE, errors


def test_vgg_small_agrees_with_pytorch(torch_networks, reference, float64):
    """Its pooling windows tie, because they hold whole numbers: the gradient goes to the first maximum."""
    model = zoo.IRNetVGGSmall(classifier_activation=None)
    places = OFFICIAL["IRNetVGGSmall"].names()
    x = np.random.default_rng(3).standard_normal((2, 32, 32, 3))
    state = drawn_state(model, places, reference, statistics=1000)
    errors = torch_errors(model, places, lambda *args: torch_networks.irnet_vgg_small(*args, K, T), x, state)
    assert len(errors) == len(places) + 2 and max(errors.values()) < TOLERANCE, errors
    before = tf.keras.Model(model.input, model.get_layer("stage1_block1_conv").output)(x).numpy()
    windows = np.sort(before.reshape(2, 16, 2, 16, 2, 128).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4))
    assert np.mean(windows[:, 3] == windows[:, 2]) > 0.01


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


def test_vgg_small_without_a_known_size():
    with pytest.raises(ValueError, match=r"IRNetVGGSmall with its top must have a known height and width, not \(None"):
        zoo.IRNetVGGSmall(input_shape=(None, None, 3))
    body = zoo.IRNetVGGSmall(input_shape=(None, None, 3), include_top=False, pooling="avg")
    assert body(np.zeros((1, 19, 16, 3), np.float32)).shape == (1, 512)


def test_wrong_arguments_are_named():
    for argument, value in {"activation_bits": 2, "structure": "plain", "quantized": "no"}.items():
        with pytest.raises(ValueError, match=f"{argument} must be one of .*not {value!r}"):
            zoo.IRNetResNet20(**{argument: value})


@pytest.mark.parametrize(("function", "mode"), [("IRNetResNet18", "fan_out"), ("IRNetResNet20", "fan_in")])
def test_convolutions_start_as_in_the_official_code(function, mode):
    """He's normal distribution, for the downsampling shortcuts' as well."""
    model = getattr(zoo, function)()
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            height, width, channels, filters = layer.kernel.shape
            fan = height * width * (filters if mode == "fan_out" else channels)
            assert np.std(layer.kernel) == pytest.approx((2 / fan) ** 0.5, rel=0.1), layer.name
