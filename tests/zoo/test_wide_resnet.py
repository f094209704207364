"""The 1-bit Wide ResNet: the paper's weight counts, its choices, and the authors' published weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.io import loadmat, savemat

from onebit import zoo
from onebit.recipes.data.tfds import load_arrays
from onebit.zoo.checkpoints.mcdonnell_mat import conv_names, norm_names
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import shared

MAT = {
    "cifar10": "CIFAR10_allparams.mat",
    "cifar100": "CIFAR100_allparams.mat",
    "cifar10_matlab": "TrainedWideResNet20-10_CIFAR10_1-bit-per-weight-4MB.mat",
    "cifar100_matlab": "TrainedWideResNet20-10_CIFAR100_1-bit-per-weight-4MB.mat",
}


def official(tag):
    return shared("official_weights", "mcdonnell", MAT[tag])


# --- Structure ------------------------------------------------------------------------------------------------------


def weights_of_convolutions(build, **arguments):
    """Count without allocating: in a graph a variable is only a node."""
    with tf.Graph().as_default():
        kernels = binary_kernels(build(**arguments))
    return sum(math.prod(kernel.variable.shape) for kernel in kernels.values()), len(kernels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "width", "classes", "weights"),
    [
        (20, 4, 10, 4_280_512),
        pytest.param(20, 4, 100, 4_303_552, marks=pytest.mark.slow),
        pytest.param(20, 10, 10, 26_737_120, marks=pytest.mark.slow),
        pytest.param(20, 10, 100, 26_794_720, marks=pytest.mark.slow),
        pytest.param(26, 10, 10, 36_413_920, marks=pytest.mark.slow),
        pytest.param(26, 10, 100, 36_471_520, marks=pytest.mark.slow),
        pytest.param(20, 20, 100, 107_042_240, marks=pytest.mark.slow),
    ],
)
def test_weight_counts_of_the_paper(depth, width, classes, weights):
    counted = weights_of_convolutions(zoo.WideResNet, depth=depth, width=width, num_classes=classes)
    assert counted == (weights, depth)


@pytest.mark.slow
def test_weight_count_of_the_imagenet_network():
    assert weights_of_convolutions(zoo.WideResNetImageNet) == (69_962_720, 18)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "parameters", "trainable"),
    # 20 convolutions, and two moments for each channel of 21 normalisations; the input's learns scale and offset.
    [({}, 26_737_120 + 6 + 2 * (3 + 7 * 160 + 6 * 320 + 6 * 640 + 10), 26_737_120 + 6)],
)
def test_parameters_of_the_official_keras_model(arguments, parameters, trainable):
    with tf.Graph().as_default():
        model = zoo.WideResNet(depth=20, width=10, **arguments)
        assert sum(math.prod(v.shape) for v in model.trainable_weights) == trainable
        assert model.count_params() == parameters == 26_750_912


def test_scales_and_learned_norms():
    model = zoo.WideResNet(depth=8, width=1, learned_norm=True)
    norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    assert len(norms) == 9
    assert all(len(layer.trainable_weights) == 2 for layer in norms)
    assert [model.get_layer(f"stage{s}_block1_add").output.shape[1:] for s in (1, 2, 3)] == [
        (32, 32, 16),
        (16, 16, 32),
        (8, 8, 64),
    ]


def test_full_precision_network_has_no_binary_kernel():
    assert not binary_kernels(zoo.WideResNet(depth=8, width=1, quantized=False))


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_shortcut_halves_with_an_average_that_leaves_the_padding_out(padding):
    model = zoo.WideResNet(depth=8, width=1, padding=padding, input_shape=(8, 8, 3))
    source, target = model.get_layer("stage1_block1_add").output, model.get_layer("stage2_block1_shortcut_pad").output
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype(np.float32)
    y = tf.keras.Model(source, target)(x).numpy()
    start = -1 if padding == "symmetric" else 0
    for i, j in np.ndindex(4, 4):
        rows, columns = (slice(max(0, 2 * n + start), 2 * n + start + 3) for n in (i, j))
        np.testing.assert_allclose(y[0, i, j, :16], x[0, rows, columns].mean(axis=(0, 1)), rtol=1e-5)
    assert not y[..., 16:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 21}, r"depth must be 6n \+ 2 .* not 21"),
        ({"depth": 2}, r"depth must be 6n \+ 2"),
        ({"depth": "20"}, "depth must be"),
        ({"width": 0}, "width must be a positive number"),
        ({"width": 1.03}, "whole number of channels"),
        ({"width": float("inf")}, "width must be"),
        ({"width": "wide"}, "width must be"),
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"num_classes": 0}, "num_classes must be a positive integer"),
        ({"num_classes": True}, "num_classes must be a positive integer"),
        ({"input_shape": (32, 32)}, r"input_shape of WideResNet must be \(height, width, channels\)"),
        ({"input_shape": (2, 32, 3)}, "at least 4"),
        ({"input_shape": (32, 32, None)}, "at least one channel"),
        ({"pooling": "avg"}, "give include_top=False"),
        ({"pooling": "sum", "include_top": False}, "pooling must be one of None, 'avg', 'max'"),
        ({"input_tensor": np.zeros((1, 32, 32, 3))}, "input_tensor must be a Keras tensor"),
        ({"weights": 3}, "weights must be None"),
        ({"weights": "imagnet"}, "no weights 'imagnet'"),
    ],
)
def test_argument_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.WideResNet(**{"depth": 8, "width": 1, **arguments})


def test_imagenet_depth():
    with pytest.raises(ValueError, match=r"depth must be 8n \+ 2"):
        zoo.WideResNetImageNet(depth=20)


# --- The authors' published weights -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tag", [pytest.param(tag, marks=() if tag == "cifar10" else pytest.mark.slow) for tag in MAT])
def test_every_array_lands_where_it_should(tag):
    arrays = loadmat(official(tag))
    model = zoo.WideResNet(weights=official(tag))
    variables = named_variables(model)
    matlab, classes = tag.endswith("matlab"), 100 if "100" in tag else 10

    arguments = zoo.model_info(model).arguments
    assert arguments["num_classes"] == model.output_shape[-1] == classes
    assert (arguments["depth"], arguments["width"]) == (20, 10)
    assert (arguments["padding"], arguments["input_relu"]) == (("symmetric", True) if matlab else ("same", False))
    assert any(layer.name == "input_relu" for layer in model.layers) == matlab

    if matlab:
        bits = list(arrays["BinaryWeights"].ravel())
        moments = [cell.astype(np.float32).T for cell in arrays["Moments"].ravel()]
        moments = [(mean, deviation**2 - 1e-5) for mean, deviation in moments]
        scale, offset = (arrays[name].ravel()[0].ravel() for name in ("BNG", "BNB"))
    else:
        bits = [value[0] for name, value in arrays.items() if name.startswith("conv")]
        rows = [value for name, value in arrays.items() if name.startswith("batch")]
        scale, offset = rows[0][:2]
        moments = [tuple(row[-2:]) for row in rows]
    assert (len(bits), len(moments)) == (20, 21)

    np.testing.assert_allclose(variables.pop("input_bn/gamma"), scale, rtol=1e-6)
    np.testing.assert_allclose(variables.pop("input_bn/beta"), offset, rtol=1e-6)
    kernels = binary_kernels(model)
    for name, layer_bits in zip(conv_names(20), bits, strict=True):
        expected = (2.0 * layer_bits - 1) * math.sqrt(2 / math.prod(layer_bits.shape[:3]))
        kernel = kernels[f"{name}/kernel"]
        np.testing.assert_allclose(kernel.quantized(kernel.variable.numpy()), expected, rtol=1e-6)
        np.testing.assert_allclose(variables.pop(f"{name}/kernel"), expected, rtol=1e-6)
    for name, (mean, variance) in zip(norm_names(20), moments, strict=True):
        np.testing.assert_allclose(variables.pop(f"{name}/moving_mean"), mean, rtol=1e-6)
        np.testing.assert_allclose(variables.pop(f"{name}/moving_variance"), variance, rtol=1e-5)
    assert not variables


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["cifar10", "cifar10_matlab"])
def test_published_weights_recognise_real_images(tag):
    images, labels = load_arrays("cifar10", "test[:100]", shared("tfds"))
    model = zoo.WideResNet(depth=20, width=10, weights=official(tag))
    right = model.predict(images.astype(np.float32), batch_size=50, verbose=0).argmax(axis=1) == labels
    assert right.mean() >= 0.93


@pytest.mark.slow
def test_packed_official_weights_are_small_and_exact(tmp_path):
    model = zoo.WideResNet(weights=official("cifar10"))
    path = zoo.save_packed(model, tmp_path / "wrn.onebit")
    assert path.stat().st_size <= 3.5e6
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(zoo.load_packed(path).predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.fixture(scope="module")
def small_mat(tmp_path_factory):
    """A file in the layout of the official Keras set, of depth 8 and width 1: (path, bits)."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        model = zoo.WideResNet(depth=8, width=1)
        shapes = [kernel.variable.shape for kernel in binary_kernels(model).values()]
    bits = [rng.integers(0, 2, shape).astype(np.uint8) for shape in shapes]
    arrays = {"batch_normalization_7": rng.uniform(0.5, 1.5, (4, 3)).astype(np.float32)}
    for i, kernel in enumerate(bits):
        arrays[f"conv2d_{i}"] = kernel[None]
        following = bits[i + 1].shape[2] if i + 1 < len(bits) else 10
        arrays[f"batch_normalization_{i + 8}"] = rng.uniform(0.5, 1.5, (2, following)).astype(np.float32)
    path = tmp_path_factory.mktemp("mat") / "small.mat"
    savemat(path, arrays)
    return path, bits


@pytest.mark.parametrize("change", ["LayerTypes", "LayerWeights"])
def test_other_networks_in_the_matlab_layout(change, tmp_path):
    """The repository has plain ones, without shortcuts and with other constants, whose arrays have the same shapes."""
    path = shared("official_weights", "mcdonnell", zoo.get_weights("wide_resnet_20_10", "cifar10_matlab").file)
    arrays = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    if change == "LayerTypes":
        kinds = [kind for kind in arrays[change].ravel() if kind.item() != "Residual_sum"]
        arrays[change] = np.empty((1, len(kinds)), object)
        arrays[change][0, :] = kinds
    else:
        arrays[change] = arrays[change] * np.sqrt(2)
    savemat(tmp_path / "plain.mat", arrays)
    with pytest.raises(ValueError, match=r"plain\.mat is not .*: it is another network"):
        zoo.WideResNet(weights=tmp_path / "plain.mat")


@pytest.mark.slow
def test_mat_file_decides_what_the_call_leaves_open(small_mat):
    path, bits = small_mat
    model = zoo.WideResNet(weights=path)
    arguments = zoo.model_info(model).arguments
    assert (arguments["depth"], arguments["width"], arguments["num_classes"]) == (8, 1, 10)
    np.testing.assert_array_equal(named_variables(model)["stem_conv/kernel"].numpy() > 0, bits[0] == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 14}, "depth=14 of WideResNet does not suit the weights, which have 8"),
        ({"width": 2}, "width=2 of WideResNet does not suit the weights, which have 1"),
        ({"padding": "symmetric"}, "padding='symmetric' .* 'same'"),
        ({"activation": "shifted_relu"}, "activation='shifted_relu'"),
        ({"input_shape": (32, 32, 1)}, "does not fit the model .* misshaped: "),
    ],
)
def test_arguments_that_do_not_suit_the_weights(small_mat, arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.WideResNet(weights=small_mat[0], **arguments)


def test_other_number_of_classes_keeps_the_body_and_says_so(small_mat, caplog):
    path, _ = small_mat
    body, other = (named_variables(zoo.WideResNet(weights=path, num_classes=n)) for n in (None, 7))
    assert "the body is loaded, and the classifier starts anew" in caplog.text
    for name, variable in other.items():
        if name.startswith("logits"):
            assert variable.shape[-1] == 7
        else:
            np.testing.assert_array_equal(variable.numpy(), body[name].numpy())


def test_body_alone(small_mat):
    path, _ = small_mat
    whole, body = zoo.WideResNet(weights=path), zoo.WideResNet(weights=path, include_top=False, pooling="avg")
    assert body.output_shape == (None, 64)
    features = tf.keras.Model(whole.input, whole.get_layer("head_relu").output)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(body(x), features(x).numpy().mean(axis=(1, 2)), rtol=1e-5)


def test_mat_file_is_for_the_cifar_network_only(small_mat):
    with pytest.raises(ValueError, match="MATLAB file, which only WideResNet has; WideResNetImageNet cannot"):
        zoo.WideResNetImageNet(weights=small_mat[0])


@pytest.mark.parametrize("kept", [20, 130, 400, 0.5, 0.9])
def test_truncated_mat_file(small_mat, tmp_path, kept):
    content = small_mat[0].read_bytes()
    path = tmp_path / "damaged.mat"
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=r"damaged\.mat is not one of McDonnell's weight files, or is damaged"):
        zoo.WideResNet(weights=path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.eye(3)},
        {"BinaryWeights": np.eye(3)},
        {"BinaryWeights": np.empty((1, 20), object), "Moments": np.eye(4)},
        {f"conv{i}": np.full((1, 3, 3, 16, 16), 2, np.uint8) for i in range(8)},
        {f"conv{i}": np.ones((1, 3, 3, 16, 16), np.uint8) for i in range(8)},
        {f"conv{i}": np.ones((1, 3, 3, 16, 16), np.uint8) for i in range(8)}
        | {f"b{i}": np.ones((2, 16)) for i in range(9)},
    ],
)
def test_other_mat_files(tmp_path, arrays):
    for array in arrays.values():
        if array.dtype == object:
            array[...] = [[np.ones((3, 3, 16, 16))] * array.size]
    savemat(tmp_path / "other.mat", arrays)
    with pytest.raises(ValueError, match=r"other\.mat is not one of McDonnell's weight files"):
        zoo.WideResNet(weights=tmp_path / "other.mat")


def test_a_mat_file_cannot_claim_a_larger_network_than_it_holds(tmp_path):
    """Compressed, it is as small as one likes."""
    sizes = [(3, 3, 3, 32_000), *[(1, 1, 1, 1)] * 6, (1, 1, 1, 10)]
    arrays = {f"conv2d_{i}": np.ones((1, *size), np.uint8) for i, size in enumerate(sizes)}
    arrays |= {f"batch_normalization_{i}": np.ones((4 if not i else 2, 3), np.float32) for i in range(9)}
    savemat(tmp_path / "large.mat", arrays, do_compression=True)
    assert (tmp_path / "large.mat").stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"large\.mat"):
        zoo.WideResNet(weights=tmp_path / "large.mat")
