"""AdaBin: what its recorded ResNet-20 does not show, and the authors' weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers.adabin import AdaBinActivation, AdaBinKernel
from onebit.zoo import adabin
from onebit.zoo.building import CIFAR_20, Block, average_pool
from onebit.zoo.checkpoints.pytorch import load_state_dict
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import GOLDENS, assert_golden, shared, value_and_gradients
from tests.zoo.parity import TOLERANCE, transcription_errors


@pytest.mark.parametrize("size", [7, 8])
def test_average_of_the_shortcuts(size, float64):
    """An odd last row or column is averaged by itself."""
    arrays = np.load(GOLDENS / "adabin_units.npz")
    x, g, y, dx = (np.moveaxis(arrays[f"adabin_average_pool/{size}/{name}"], 1, -1) for name in ("x", "g", "y", "dx"))
    inputs = tf.keras.Input(x.shape[1:])
    actual, gradient, _ = value_and_gradients(tf.keras.Model(inputs, average_pool(inputs, "pool")), x, g)
    assert_golden(actual, y)
    assert_golden(gradient, dx)


def network(state, x, training, imagenet):
    """Return the logits of the official ResNet-18 for CIFAR-10 or ImageNet, in our PyTorch transcription."""
    import torch.nn.functional as F  # noqa: N812
    from torch_networks import ApproxSign, Net, ede_sign, walk

    net = Net(state, training)

    def kernel(w):
        beta = w.mean((1, 2, 3), keepdim=True)
        alpha = (w - beta).square().mean((1, 2, 3), keepdim=True).sqrt()
        return alpha * ede_sign((w - beta) / alpha) + beta

    def unit(x, name):
        p, q = (net.tensor(f"{name}.{key}_scale", x.shape[1:2], start) for key, start in (("pos", 1.0), ("neg", 0.25)))
        return p.reshape(1, -1, 1, 1) * F.relu(x) - q.reshape(1, -1, 1, 1) * F.relu(-x)

    def conv(x, name, width, stride=1):
        alpha, beta = (
            net.tensor(f"{name}.binary_a.{key}_a", (), start) for key, start in (("alpha", 1.0), ("beta", 0.0))
        )
        y = alpha * (ApproxSign.apply((x - beta) / alpha) + beta)
        return net.conv(y, f"{name}.weight", width, 3, stride, kernel)

    x = net.stem(x, 64, imagenet, lambda x: unit(x, "nonlinear1"))
    for name, width, stride in walk((2, 2, 2, 2), 64):
        residual = x
        if stride == 2:
            down, index = (f"{name}.downsample", 1) if imagenet else (f"{name}.shortcut", 0)
            x_or_mean = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) if imagenet else x
            residual = net.conv(x_or_mean, f"{down}.{index}.weight", width, 1, 1 if imagenet else 2)
            residual = net.bn(residual, f"{down}.{index + 1}")
        for i in (1, 2):
            x = net.bn(conv(x, f"{name}.conv{i}", width, stride if i == 1 else 1), f"{name}.bn{i}") + residual
            residual = x = unit(x, f"{name}.nonlinear{i}")
    return net.linear(net.bn(x.mean((2, 3)), "bn2"), "fc" if imagenet else "linear", 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adabin_resnet18_cifar", "adabin_resnet18"])
def test_our_pytorch_transcription(name, float64):
    pytest.importorskip("torch", reason="the transcription needs PyTorch")
    errors = transcription_errors(name, functools.partial(network, imagenet=name == "adabin_resnet18"))
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.slow
def test_unused_tensors_of_the_imagenet_networks_are_ignored():
    """The slopes before the classifier are; those of a block would not be."""
    model = zoo.AdaBinResNet18(input_shape=(32, 32, 3))
    layout = zoo.AdaBinResNet18.state_dicts[0]
    places, variables = layout.tensors(), named_variables(model)
    conv = {4: (3, 2, 0, 1), 2: (1, 0)}
    state = {}
    for name, place in places.items():
        value = variables[place.variable].numpy()
        state[name] = value.transpose(conv[value.ndim]) if value.ndim in conv else value
    unused = {"bn3.weight": np.ones(1000), "bn3.num_batches_tracked": np.array(1), "nonlinear2.pos_scale": np.ones(512)}
    load_state_dict(model, state | unused, layout, "a state dict")
    with pytest.raises(ValueError, match=r"layer1\.0\.nonlinear3"):
        load_state_dict(model, state | {"layer1.0.nonlinear3.pos_scale": np.ones(64)}, layout, "a state dict")


@pytest.mark.slow
def test_quantizers_follow_from_the_argument():
    kernels, none = (binary_kernels(zoo.AdaBinResNet20(quantized=quantized)) for quantized in (True, False))
    assert len(kernels) == 18 and not none
    assert all(isinstance(kernel.quantizer, AdaBinKernel) for kernel in kernels.values())
    assert all(isinstance(kernel.layer.input_quantizer, AdaBinActivation) for kernel in kernels.values())


@pytest.mark.parametrize("averages", [False, True])
def test_shortcut_of_20_layers(averages):
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 4)).astype(np.float32)
    inputs = tf.keras.Input(x.shape[1:])
    y = tf.keras.Model(inputs, adabin._shortcut(inputs, Block("b", 8, 2), CIFAR_20, averages))(x).numpy()
    assert y.shape == (2, 3, 3, 8) and not y[..., :2].any() and not y[..., 6:].any()
    expected = x[:, ::2, ::2]
    if averages:
        expected = np.stack([x[:, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2, 4) for j in (0, 2, 4)], 1)
    np.testing.assert_allclose(y[..., 2:6], expected.reshape(2, 3, 3, 4), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("adabin_resnet20", "fan_in"), ("adabin_resnet18", "fan_out")])
def test_convolutions_start_as_in_the_official_code(name, mode):
    """He's normal distribution, for the downsampling shortcuts' as well."""
    for layer in zoo.load(name).layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            height, width, channels, filters = layer.kernel.shape
            fan = height * width * (filters if mode == "fan_out" else channels)
            assert np.std(layer.kernel) == pytest.approx((2 / fan) ** 0.5, rel=0.1), layer.name


@pytest.mark.slow
def test_authors_file_and_shipped_file_agree_bit_for_bit():
    pytest.importorskip("torch", reason="PyTorch reads the authors' file")
    path = shared("official_weights", "adabin", "resnet20_1w1a.th")
    x = zoo.get_preprocessing("imagenet")(zoo.sample_images().images[:250].astype(np.float32))
    ours, theirs = (zoo.AdaBinResNet20(weights=weights) for weights in ("cifar10", path))
    np.testing.assert_array_equal(ours(x), theirs(x))


@pytest.mark.slow
def test_the_authors_latent_weights_can_be_trained_further(monkeypatch, tmp_path):
    """They are the file's, as fetched, with more than the two values of each filter."""
    pytest.importorskip("torch", reason="PyTorch reads the authors' file")
    monkeypatch.setenv("ONEBIT_CACHE_DIR", str(tmp_path))
    path = shared("official_weights", "adabin", "resnet20_1w1a.th")
    (tmp_path / zoo.get_weights("adabin_resnet20", "cifar10_latent").file).symlink_to(path)
    fetched, given = (zoo.AdaBinResNet20(weights=weights) for weights in ("cifar10_latent", path))
    for ours, value in zip(fetched.weights, given.weights, strict=True):
        np.testing.assert_array_equal(ours, value)
    for kernel in binary_kernels(fetched).values():
        assert len(np.unique(kernel.variable[..., 0])) > 2
