"""The zoo's layers: PyTorch's figures, formulas, and round trips."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import ApproxSign, HardTanh, RSign, ScaledSign
from onebit.zoo.building.layers import BinaryConv2D, DuplicateChannels, PadChannels, ShuffleChannels
from onebit.zoo.building.torch_layers import (
    ExactBatchNormalization,
    SymmetricMaxPool2D,
    UnbiasedBatchNormalization,
)
from tests.helpers import assert_golden, start_python, value_and_gradients


@pytest.fixture(scope="module")
def units(goldens):
    """The golden vectors of a building block, NHWC: {array: value}."""
    arrays = np.load(goldens / "units.npz")

    def read(unit):
        found = {k.split("/")[1]: arrays[k] for k in arrays.files if k.startswith(f"{unit}/")}
        return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in found.items()}

    return read


def norm(**kwargs):
    return UnbiasedBatchNormalization(epsilon=1e-5, momentum=0.9, **kwargs)


@pytest.mark.parametrize("rank", [4, 2])
def test_batch_normalisation_agrees_with_pytorch(rank, units, float64):
    u = units("batch_norm")
    shaped = (lambda v: v) if rank == 4 else (lambda v: v.reshape(-1, 4))
    layer = norm()
    layer.build(shaped(u["x"]).shape)
    layer.set_weights([u["gamma"], u["beta"], u["mean"], u["var"]])
    assert_golden(layer(shaped(u["x"]), training=False), shaped(u["y_eval"]))
    y, dx, (dgamma, dbeta) = value_and_gradients(
        lambda x: layer(x, training=True), shaped(u["x"]), shaped(u["g"]), [layer.gamma, layer.beta]
    )
    for actual, name in ((y, "y"), (dx, "dx")):
        assert_golden(actual, shaped(u[name]))
    assert_golden(dgamma, u["dgamma"])
    assert_golden(dbeta, u["dbeta"])
    assert_golden(layer.moving_mean, u["mean_after"])
    assert_golden(layer.moving_variance, u["var_after"])


@pytest.mark.parametrize("layer", [ExactBatchNormalization, UnbiasedBatchNormalization])
def test_synchronised_batch_normalisation_remembers_what_the_fused_kernel_does(layer):
    """So that it does not depend on the number of replicas; of few values, where it shows."""
    x = np.random.default_rng(0).normal(2, 3, (2, 2, 2, 3)).astype(np.float32)
    remembered = []
    for several in (False, True):
        norm = layer(momentum=0.0, fused=not several)
        norm.synchronized = several
        norm(x, training=True)
        remembered.append(norm.moving_variance)
    np.testing.assert_allclose(remembered[1], remembered[0], rtol=1e-4)
    np.testing.assert_allclose(remembered[0], x.var((0, 1, 2), ddof=1), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 5, 5, 3), (12, 3)], ids=["fused", "vectors"])
def test_batch_normalisation_in_fit(shape):
    """In a graph, in float32: the statistics that NumPy's unbiased estimate gives; frozen, none."""
    x = np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)
    model = tf.keras.Sequential([norm(input_shape=shape[1:])])
    model.compile("sgd", "mse")
    model.fit(x, x, batch_size=len(x), verbose=0)
    axes = tuple(range(len(shape) - 1))
    mean, variance = model.layers[0].get_weights()[2:]
    np.testing.assert_allclose(mean, 0.1 * x.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * x.var(axes, ddof=1), rtol=1e-5)

    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[3], variance)


def test_batch_normalisation_of_one_value_is_finite(float64):
    layer = norm()
    layer(np.ones((1, 3)), training=True)
    assert np.isfinite(layer.moving_variance).all()


def test_max_pooling_agrees_with_pytorch(units, float64):
    u = units("stem_max_pool")
    layer = SymmetricMaxPool2D(3, 2)
    y, dx, _ = value_and_gradients(layer, u["x"], u["g"])
    assert_golden(y, u["y"])
    assert_golden(dx, u["dx"])


@pytest.mark.parametrize("size", [7, 8, 9])
def test_max_pooling_of_negative_values(size):
    """The padding never wins."""
    x = -1 - np.random.default_rng(0).random((2, size, size + 1, 3)).astype(np.float32)
    layer = SymmetricMaxPool2D(3, 2)
    y = layer(x)
    assert y.shape == layer.compute_output_shape(x.shape) and np.max(y) < -1
    np.testing.assert_array_equal(y[:, 0, 0], x[:, :2, :2].max((1, 2)))


@pytest.mark.parametrize("training", [False, True])
def test_hardtanh(training):
    x = np.float32([-2, -1, -0.5, 0, 0.5, 1, 2])
    y, dx, _ = value_and_gradients(lambda x: HardTanh()(x, training=training), x, np.float32(1))
    np.testing.assert_array_equal(y, [-1, -1, -0.5, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(dx, [0, 0, 1, 1, 1, 0, 0])


def test_channels():
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6)
    assert DuplicateChannels(12)(x).numpy().ravel().tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert DuplicateChannels(9)(x).numpy().ravel().tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert ShuffleChannels(2)(x).numpy().ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert ShuffleChannels(3)(x).numpy().ravel().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("size", [7, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("strides", "padding"), [(1, "symmetric"), (2, "symmetric"), (2, "same"), (2, "same_one")])
def test_groups_are_separate_convolutions(strides, padding, size, float64):
    """Values and gradients in eager and graph mode, against one convolution without groups for each group."""
    pad_values = 1.0 if padding == "same_one" else 0.0
    options = {"symmetric": padding == "symmetric", "pad_values": pad_values, "padding": "same", "strides": strides}
    options |= {"use_bias": False}
    grouped = BinaryConv2D(6, 3, groups=2, input_quantizer=ApproxSign(), kernel_quantizer=ScaledSign(), **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, size, 4))
    shape = grouped(x).shape
    g = rng.standard_normal(shape)
    parts = []
    for i in (0, 1):
        part = BinaryConv2D(3, 3, input_quantizer=ApproxSign(), kernel_quantizer=ScaledSign(), **options)
        part.build((None, size, size, 2))
        part.set_weights([np.split(grouped.get_weights()[0], 2, axis=-1)[i]])
        half = np.split(x, 2, axis=-1)[i]
        parts.append(value_and_gradients(part, half, np.split(g, 2, axis=-1)[i], part.trainable_variables))
    expected = [np.concatenate(each, axis=-1) for each in zip(*[(y, dx, dw[0]) for y, dx, dw in parts], strict=True)]
    for call in (grouped, tf.function(grouped)):
        y, dx, (dw,) = value_and_gradients(call, x, g, grouped.trainable_variables)
        for actual, golden in zip((y, dx, dw), expected, strict=True):
            assert_golden(actual, golden)


def test_padding_without_meaning():
    for options in ({"padding": "valid"}, {"padding": "same", "pad_values": 1.0}):
        with pytest.raises(
            ValueError, match="symmetric padding needs a kernel of odd size, padding='same', pad_values=0"
        ):
            BinaryConv2D(4, 3, symmetric=True, **options)
    for options in ({"activation_bits": 32}, {"quantized": False}):
        with pytest.raises(ValueError, match="padding='same_one' is for binary activations"):
            zoo.load("irnet_resnet20", padding="same_one", **options)


CONVOLUTIONS = {
    "symmetric": {"padding": "same", "symmetric": True, "strides": 2},
    "ones": {"padding": "same", "pad_values": 1.0, "strides": 2},
    "groups": {"padding": "same", "symmetric": True, "strides": 2, "groups": 2},
    "dilated": {"padding": "valid", "dilation_rate": 2},
    "dilated groups": {"padding": "same", "dilation_rate": 2, "groups": 2},
}


def convolution(name, **options):
    quantizers = {"input_quantizer": RSign(), "kernel_quantizer": ScaledSign()}
    return BinaryConv2D(8, 3, **CONVOLUTIONS[name], **quantizers, **options)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_those_of_larq(name):
    """With the padding put there by hand, where it is symmetric; eagerly, in a graph, and of images of any size."""
    layer = convolution(name, activation="relu")
    x = np.random.default_rng(0).standard_normal((2, 9, 6, 4)).astype(np.float32)
    stated = layer(tf.keras.Input((None, None, 4)))
    assert stated.shape.as_list() == [None, None, None, 8]
    layer.bias.assign(np.linspace(-1, 1, 8))
    options = {key: value for key, value in CONVOLUTIONS[name].items() if key != "symmetric"}
    images = layer.input_quantizer(x)
    if "symmetric" in CONVOLUTIONS[name]:
        options["padding"], images = "valid", tf.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    larqs = lq.layers.QuantConv2D(8, 3, kernel_quantizer=ScaledSign(), activation="relu", **options)
    larqs.build(images.shape)
    larqs.set_weights(layer.get_weights()[:2])
    expected = larqs(images)
    for y in (layer(x), tf.function(layer)(x)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape(x.shape) == expected.shape


@pytest.mark.parametrize("name", ["symmetric", "ones", "groups"])
def test_a_failed_call_changes_nothing(name, monkeypatch):
    layer = convolution(name)
    with pytest.raises(ValueError):
        layer.build((None, 9, 9, None))
    x = np.random.default_rng(0).standard_normal((2, 9, 9, 4)).astype(np.float32)
    expected, config = layer(x), layer.get_config()

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    for broken in ("pad", "nn.bias_add"):
        with monkeypatch.context() as patch:
            patch.setattr(f"tensorflow.{broken}", fail)
            with pytest.raises(KeyboardInterrupt):
                layer(x)
        assert not lq.context.should_quantize()
    assert layer.get_config() == config
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("onednn", ["1", pytest.param("0", marks=pytest.mark.slow)])
def test_threads(onednn):
    """Eager calls at once, of layers of different sizes: in a process of its own, which TensorFlow might end."""
    script = """
        import concurrent.futures
        import numpy as np
        from onebit import zoo
        model = zoo.load("ftbnn20_grouped", weights="cifar10")
        images = zoo.preprocessing_of(model)(zoo.sample_images().images[:8])
        expected = model(images, training=False).numpy()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: model(images, training=False).numpy(), range(24)))
        assert all(np.array_equal(each, expected) for each in found)
        # Groups and their normalisation are one operation, where TensorFlow has it.
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    """
    process = start_python(script, TF_ENABLE_ONEDNN_OPTS=onednn)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def test_groups_are_not_compiled():
    """Keras would compile the convolution with XLA, which took several times as long on a CPU."""
    layer = BinaryConv2D(4, 3, groups=2, padding="same", kernel_quantizer=ScaledSign())
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 8, 8, 4))).graph
    assert [op.outputs[0].shape[-1] for op in graph.get_operations() if op.type == "Conv2D"] == [4]


def test_layers_are_saved_with_what_they_are_made_of(tmp_path):
    x = inputs = tf.keras.Input((8, 8, 4))
    x = norm(name="norm")(x)
    for layer in (SymmetricMaxPool2D(3, 2), HardTanh(), DuplicateChannels(8), ShuffleChannels(2), PadChannels(1, 2)):
        x = layer(x)
        assert x.shape == layer.compute_output_shape(layer.input_shape)
    model = tf.keras.Model(inputs, x)
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype(np.float32)
    for path in (tmp_path / "model.keras", tmp_path / "model.h5"):
        model.save(path)
        np.testing.assert_array_equal(tf.keras.models.load_model(path)(images), model(images))


@pytest.mark.slow
def test_stage_outputs(tmp_path):
    model = zoo.WideResNet(depth=8, width=1, input_shape=(16, 16, 3))
    outputs = zoo.stage_outputs(model)
    assert {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()} == {
        "stage1": (16, 16, 16),
        "stage2": (8, 8, 32),
        "stage3": (4, 4, 64),
    }
    assert outputs["stage3"] is model.get_layer("stage3_block1_add").output
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    for name, tensor in zoo.stage_outputs(loaded).items():
        theirs = tf.keras.Model(loaded.input, tensor)(x)
        np.testing.assert_array_equal(theirs, tf.keras.Model(model.input, outputs[name])(x))
    with pytest.raises(ValueError, match="no layers of named stages"):
        zoo.stage_outputs(tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))]))
