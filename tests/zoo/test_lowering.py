"""The lowered graph computes what Keras computes, by itself in NumPy and as the TensorFlow function that converts."""

from __future__ import annotations

import itertools

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import (
    EDE,
    BinaryActivation,
    FPReLU,
    HardTanh,
    LeakyClip,
    LibraPB,
    RPReLU,
    RSign,
    ScaledSign,
    ShiftedReLU,
)
from onebit.util import operations as ops
from onebit.zoo.building.layers import DuplicateChannels, PadChannels, ShuffleChannels
from onebit.zoo.building.torch_layers import SymmetricMaxPool2D
from onebit.zoo.export.lowering import lower
from onebit.zoo.export.tflite import as_function
from tests.zoo.exact_weights import assign_exact_weights, exact_images

K = tf.keras.layers


def randomise(model: tf.keras.Model) -> tf.keras.Model:
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variance = "variance" in variable.name
        variable.assign(rng.uniform(0.5, 2, variable.shape) if variance else rng.standard_normal(variable.shape))
    return model


def assert_same(model: tf.keras.Model, batch: int = 2, tolerance: float = 1e-5) -> ops.Graph:
    graph = lower(model)
    x = np.random.default_rng(1).standard_normal((batch, *model.input_shape[1:])).astype(np.float32)
    expected = model(x, training=False).numpy()
    assert graph.output.shape == expected.shape[1:]
    np.testing.assert_allclose(graph.run(x), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(as_function(graph)(tf.constant(x)), expected, rtol=tolerance, atol=tolerance)
    return graph


def sequence(*layers: K.Layer, shape: tuple[int, ...] = (6, 7, 8)) -> tf.keras.Model:
    image = x = tf.keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return randomise(tf.keras.Model(image, x))


def convolution(filters: int = 8, kernel_size: int = 3, **options) -> K.Layer:
    options = {"input_quantizer": RSign(), "kernel_quantizer": ScaledSign(), "padding": "same", **options}
    return zoo.BinaryConv2D(filters, kernel_size, name="conv", **options)


def tiny_shape(name: str) -> tuple[int, int, int]:
    return (12, 12, 3) if zoo.entry(name).native_shape[0] == 32 else (48, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_architecture(name: str):
    model = zoo.load(name, input_shape=tiny_shape(name), classifier_activation=None)
    assign_exact_weights(model)
    graph, x = lower(model), exact_images(2, model.input_shape[1:])
    expected = model(x, training=False).numpy()
    assert np.abs(graph.run(x) - expected).max() <= 1e-4 * np.abs(expected).max() and np.ptp(expected) > 0
    assert not any(isinstance(node.operation, ops.Opaque) for node in graph.nodes)
    convolutions = [layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
    binary = [layer.name for layer in convolutions if layer.input_quantizer and layer.kernel_quantizer]
    assert list(graph.binary_layers) == binary and not graph.float_layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["larq/quicknet", "larq/birealnet", "larq/binary_densenet28", "larq/real_to_binary_net"]
)
def test_larq_zoo(name: str):
    model = zoo.load(name, input_shape=(64, 64, 3))
    assign_exact_weights(model)
    graph, x = lower(model), exact_images(1, (64, 64, 3))
    np.testing.assert_allclose(graph.run(x), model(x, training=False), rtol=1e-3, atol=1e-4)
    assert graph.binary_layers and not graph.float_layers


@pytest.mark.parametrize(("strides", "kernel_size"), itertools.product((1, 2, 3), (1, 3, 5)))
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"pad_values": 1.0}], ids=["symmetric", "same", "one"])
def test_padding(strides: int, kernel_size: int, options: dict):
    for size in ((8, 9), (7, 10)):
        layer = convolution(kernel_size=kernel_size, strides=strides, **options)
        assert not assert_same(sequence(layer, shape=(*size, 8))).float_layers


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 4, "strides": 2, "symmetric": True},
        {"groups": 2, "pad_values": 1.0},
        {"padding": "valid", "strides": 2},
        {"dilation_rate": 2, "pad_values": 1.0},
        {"use_bias": True, "activation": "relu"},
        {"kernel_quantizer": LibraPB(), "input_quantizer": EDE()},
    ],
    ids=lambda options: ",".join(options),
)
def test_other_binary_convolutions(options: dict):
    assert not assert_same(sequence(convolution(**options))).float_layers


@pytest.mark.parametrize(
    ("reason", "layer"),
    [
        (None, lambda: convolution(kernel_quantizer="dorefa_quantizer")),  # which Larq does not count as 1-bit
        ("input_quantizer", lambda: convolution(input_quantizer="ste_heaviside")),
        ("input_quantizer", lambda: convolution(input_quantizer=RSign(axis=1))),
        ("QuantDense", lambda: lq.layers.QuantDense(4, input_quantizer="ste_sign", kernel_quantizer="ste_sign")),
        (
            "QuantDepthwiseConv2D",
            lambda: lq.layers.QuantDepthwiseConv2D(3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign"),
        ),
    ],
)
def test_what_has_no_binary_operation_is_named_and_right(reason: str | None, layer):
    model = sequence(layer())
    graph = assert_same(model)
    assert list(graph.float_layers) == ([model.layers[-1].name] if reason else [])
    assert all(reason in given for given in graph.float_layers.values())
    assert not any(isinstance(node.operation, ops.BinaryConv) for node in graph.nodes)


class Sets(lq.quantizers.Quantizer):
    """A quantizer to two values: of activations at a threshold, of kernels around each filter's mean."""

    precision = 1

    def __init__(self, kernel: bool = False, shift: float = 0.3, scale: float = 0.7):
        super().__init__()
        self.kernel, self.shift, self.scale = kernel, shift, scale

    def call(self, x):
        if self.kernel:
            mean = tf.reduce_mean(x, [0, 1, 2])
            return mean + tf.math.reduce_std(x, [0, 1, 2]) * lq.math.sign(x - mean)
        return self.scale * (lq.math.sign(x - self.shift) + self.shift)

    def binary_activation(self):
        middle, half = self.scale * self.shift, self.scale
        return BinaryActivation(*np.float32((self.shift, middle - half, middle + half)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", [{"symmetric": True}, {}, {"pad_values": 1.0}, {"padding": "valid"}])
@pytest.mark.parametrize(("kernel", "activation"), [(True, True), (True, False), (False, True)])
def test_sets_of_two_values(size, strides, padding, kernel, activation):
    """Sets such as AdaBin's {b - a, b + a}: one convolution of signs, a box sum, and a constant of the border."""
    options = {"kernel_quantizer": Sets(kernel=True)} if kernel else {}
    options |= {"input_quantizer": Sets()} if activation else {}
    for groups in (1, 2):
        graph = assert_same(
            sequence(convolution(strides=strides, groups=groups, **padding, **options), shape=(*size, 8))
        )
        assert not graph.float_layers and graph.binary_layers
        for node in graph.nodes:
            if isinstance(node.operation, ops.TapBias):
                table, rows, columns = node.operation.table(size)
                zeros, image = np.zeros((1, *node.shape)), np.zeros((1, *size, 8))
                np.testing.assert_allclose(table[rows][:, columns], node.operation.compute(zeros, image)[0], atol=1e-5)
        kinds = [type(node.operation) for node in graph.nodes]
        assert kinds.count(ops.BinaryConv) == 1 + kernel


def test_a_border_of_the_high_value_is_the_sign_own_border():
    activation = Sets(shift=0.25, scale=0.8)  # whose high value is 1
    graph = assert_same(sequence(convolution(input_quantizer=activation, pad_values=1.0)))
    (binary,) = (node.operation for node in graph.nodes if isinstance(node.operation, ops.BinaryConv))
    assert binary.border == 1 and not any(isinstance(node.operation, ops.TapBias) for node in graph.nodes)


LAYERS = {
    "conv": lambda: [K.ZeroPadding2D(((1, 2), (0, 1))), K.Conv2D(4, 3, 2, "same", dilation_rate=1, activation="relu")],
    "grouped": lambda: [K.Conv2D(8, 3, groups=4), K.DepthwiseConv2D(3, padding="same", depth_multiplier=2)],
    "pad": lambda: [K.ZeroPadding2D(1), K.MaxPooling2D(3, 2), K.ZeroPadding2D(1), K.AveragePooling2D(2, 2)],
    "pools": lambda: [K.MaxPooling2D(3, 2, "same"), K.AveragePooling2D(2, 2, "same"), K.GlobalAveragePooling2D()],
    "symmetric pool": lambda: [SymmetricMaxPool2D(3, 2, "same"), K.Flatten(), K.Dense(5, "sigmoid"), K.Softmax()],
    "norms": lambda: [K.BatchNormalization(), K.BatchNormalization(scale=False, center=False), K.Rescaling(0.5, 1)],
    "relus": lambda: [K.ReLU(6), K.LeakyReLU(), K.PReLU(shared_axes=[1, 2]), K.Activation("relu"), HardTanh()],
    "own": lambda: [RPReLU(), FPReLU(), LeakyClip(), ShiftedReLU()],
    "channels": lambda: [PadChannels(1, 3), DuplicateChannels(18), ShuffleChannels(3), DuplicateChannels(36)],
    "shapes": lambda: [K.Reshape((7, 6, 8)), K.GlobalAveragePooling2D(keepdims=True), K.Dense(3, "softmax")],
    "training only": lambda: [K.Dropout(0.5), K.RandomFlip(), K.GaussianNoise(1.0)],
    "opaque": lambda: [K.Conv2D(3, 2, activation="softplus"), K.Cropping2D(1), K.PReLU(), K.ReLU(threshold=0.3)],
    "operators": lambda: [lambda x: (tf.nn.relu(x) + x) * x, lambda x: (x - 1) / 2.0 + tf.sin(x)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_other_layers(name: str):
    assert_same(sequence(*LAYERS[name](), shape=(6, 7, 8)))


def test_the_slopes_of_a_leaky_clip_are_exact_inside():
    model, x = sequence(LeakyClip(), shape=(4, 4, 2)), np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 4, 4, 2)
    np.testing.assert_array_equal(lower(model).run(x), x)


@pytest.mark.slow
def test_models_among_the_layers_are_taken_apart():
    """As Keras' guide to transfer learning builds them, with augmentation before and a classifier behind."""
    body = zoo.load("birealnet20", input_shape=(12, 12, 3), include_top=False, pooling="avg")
    image = tf.keras.Input((12, 12, 3), dtype="uint8")
    x = K.Rescaling(1 / 127.5, -1)(tf.keras.Sequential([K.RandomFlip()])(tf.cast(image, tf.float32)))
    model = tf.keras.Model(image, tf.keras.Sequential([body, K.Dense(3)])(x))
    graph = lower(model)
    assert len(graph.binary_layers) == 18 and graph.dtype == "uint8"
    assert all(name.count("/") == 2 for name in graph.binary_layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)
    np.testing.assert_allclose(graph.run(images), model(images, training=False), rtol=1e-4, atol=1e-5)


def test_a_shared_layer_and_several_outputs():
    image, dense = tf.keras.Input((4,)), K.Dense(4)
    first, second = K.Lambda(lambda x: tf.split(x, 2, -1))(dense(dense(image)))
    assert_same(randomise(tf.keras.Model(image, K.Concatenate()([second, first]))))


def test_a_layer_that_computes_something_else_is_not_taken_for_its_base():
    class Twice(K.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Same(K.Conv2D):
        pass

    graph = assert_same(sequence(Twice(3, 2), Same(3, 2)))
    assert [type(node.operation) for node in graph.nodes[1:3]] == [ops.Opaque, ops.Conv]


@pytest.mark.parametrize("positive", [0.5, -0.5])
@pytest.mark.parametrize("outputs", ["act", "act and norm", "norm"])
def test_what_is_behind_groups_becomes_theirs(positive: float, outputs: str):
    """Batch normalisation and FPReLU, with a bias before them; not where something else sees what is between."""
    image = tf.keras.Input((8, 8, 8))
    norm = K.BatchNormalization()(convolution(12, groups=2, use_bias=True)(image))
    act = ShuffleChannels(2)(FPReLU(name="act")(norm))
    model = randomise(tf.keras.Model(image, {"act": act, "act and norm": act + norm, "norm": norm}[outputs]))
    if outputs != "norm":
        model.get_layer("act").positive_slope.assign([positive] * 12)
    assert_same(model)


def test_the_model_stays_as_it_was(shallow):
    model = zoo.load("reactnet20", input_shape=(16, 16, 3))
    weights = model.get_weights()
    lower(model)
    assert all(layer.output is not None for layer in model.layers)  # an error for a layer that was called again
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_scope_that_larq_left_open_does_not_matter():
    model = sequence(convolution(kernel_quantizer=LibraPB(), input_quantizer="ste_sign"))
    x = np.random.default_rng(0).standard_normal((1, 6, 7, 8)).astype(np.float32)
    expected = lower(model).run(x)
    with lq.context.quantized_scope(True):
        np.testing.assert_array_equal(lower(model).run(x), expected)
