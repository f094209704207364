"""The export: the file is the same network, bit by bit, and what is not the same network is refused."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exports import limit, recorded_exports

from onebit import zoo
from onebit.zoo.export import artifact
from onebit.zoo.export import export as tflite_export
from onebit.zoo.export.convert import convert_graph
from onebit.zoo.export.interpreter import open_interpreter
from onebit.zoo.export.lowering import lower
from onebit.zoo.export.verify import compare, float_fallbacks
from tests.zoo.exact_weights import assign_exact_weights, exact_images

SIZE = (16, 16, 3)
NETWORKS = [
    ("birealnet20", {"padding": "symmetric"}),
    ("reactnet20", {"padding": "same_one"}),
    ("irnet_resnet20", {"padding": "same"}),
    ("ftbnn20_grouped", {"padding": "symmetric"}),
    ("irnet_vgg_small", {"padding": "symmetric"}),
]
SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in NETWORKS[1:]]


@pytest.fixture(autouse=True)
def engine():
    """The Larq Compute Engine, where it is installed."""
    return pytest.importorskip("larq_compute_engine")


def exact(name: str, **options) -> tf.keras.Model:
    size = (12, 12, 3) if name == "irnet_vgg_small" else SIZE
    model = zoo.load(name, **{"input_shape": size, "classifier_activation": None, **options})
    assign_exact_weights(model)
    return model


def convolution_layer(filters: int = 32, **options) -> tf.keras.layers.Layer:
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "padding": "same", **options}
    return zoo.BinaryConv2D(filters, 3, **options)


def convolution() -> tf.keras.Model:
    """A network of one binary convolution."""
    image = tf.keras.Input((8, 8, 3))
    x = convolution_layer(name="conv")(image)
    return tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(x), name="one")


@pytest.mark.parametrize(("name", "options"), [NETWORKS[0], *SLOW])
def test_the_file_computes_what_keras_computes(name: str, options: dict, tmp_path: Path, shallow):
    model = exact(name, **options)
    path = tmp_path / "model.tflite"
    result = zoo.export(model, path, images=exact_images(20, model.input_shape[1:]))
    assert result.agreement.images == 20 and result.agreement.same_class == 100
    assert np.ptp(model(exact_images(20, model.input_shape[1:]), training=False)) > 1
    assert result.agreement.max_difference < 1e-5
    signs = [layer for layer in model.layers if getattr(layer, "input_quantizer", None) is not None]
    assert result.binary_layers == len(signs) and not result.float_layers
    # Each binary convolution is an operation of the engine, and each group of one.
    assert result.operations["LceBconv2d"] == result.binary_operations == sum(layer.groups for layer in signs)
    assert result.file_bytes == path.stat().st_size
    assert result.file_bytes <= 1.1 * result.memory + 32 * 1024
    assert result.memory == zoo.count(model).memory
    assert [each.name for each in tmp_path.iterdir()] == ["model.tflite"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 12, 3), (8, 12, 1)])
def test_default_images_have_the_shape_and_preprocessing_of_the_model(shape, shallow):
    model = zoo.load("birealnet20", input_shape=shape)
    images = tflite_export.default_images(model)
    assert images.shape == (200, *shape) and images.dtype == np.float32
    assert abs(images.mean()) < 0.5 < images.std() < 2  # ImageNet's preprocessing, not raw pixels


@pytest.mark.slow
def test_a_layer_that_would_be_float_is_named_and_refused(tmp_path: Path):
    image = tf.keras.Input((8, 8, 32))
    x = zoo.BinaryConv2D(32, 3, name="binary", input_quantizer="ste_sign", kernel_quantizer="ste_sign")(image)
    x = zoo.BinaryConv2D(8, 3, name="float", input_quantizer="ste_heaviside", kernel_quantizer="ste_sign")(x)
    model = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(x))
    images = np.random.default_rng(0).standard_normal((20, 8, 8, 32)).astype(np.float32)
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"1 of 2 binary layers.*float: "):
        zoo.export(model, path, images=images)
    assert not list(tmp_path.iterdir())
    result = zoo.export(model, path, images=images, strict=False)
    assert path.exists() and (result.binary_layers, result.binary_operations) == (2, 1)
    assert set(result.float_layers) == {"float"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birealnet18", "reactnet_a", "irnet_resnet18", "ftbnn18_grouped"])
def test_the_stem_of_networks_for_imagenet(name: str, tmp_path: Path):
    """Up to the end of the first stage, where sums are still exact."""
    model = exact(name, input_shape=(48, 64, 3))
    start = tf.keras.Model(model.input, zoo.stage_outputs(model)["stage1"])
    result = zoo.export(start, tmp_path / "model.tflite", images=exact_images(2, (48, 64, 3)))
    assert result.agreement.max_difference < 1e-5 and result.binary_operations >= result.binary_layers > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D])
def test_zeros_before_a_convolution_with_strides(kind: type, tmp_path: Path):
    """The converter takes them for 'same', and so begins at another pixel, unless they come in another form."""

    def network(pad: tf.keras.layers.Layer) -> tf.keras.Model:
        image = tf.keras.Input((16, 16, 8))
        x = zoo.BinaryConv2D(8, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", padding="same")(image)
        options = {"kernel_size": 3, "strides": 2} | ({"filters": 4} if kind is tf.keras.layers.Conv2D else {})
        x = kind(**options)(pad(x))
        return tf.keras.Model(image, kind(**options, padding="same")(x))

    images, path = np.random.default_rng(0).standard_normal((20, 16, 16, 8)).astype(np.float32), tmp_path / "a.tflite"
    result = zoo.export(network(tf.keras.layers.ZeroPadding2D(1)), path, images=images)
    assert result.agreement.max_difference < 1e-4 and result.misaligned == 0
    hidden = tf.keras.layers.Lambda(lambda x: tf.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]))
    with pytest.raises(ValueError, match="1 convolutions with strides begin at another pixel"):
        zoo.export(network(hidden), tmp_path / "b.tflite", images=images)
    result = zoo.export(network(hidden), path, images=images, strict=False)
    assert result.misaligned == 1 and result.agreement.max_difference > 1e-2


@pytest.mark.slow
def test_a_file_of_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shallow):
    model, other = exact("birealnet20"), exact("birealnet20")
    assign_exact_weights(other, seed=1)
    content = zoo.convert_to_tflite(other, "binary")
    monkeypatch.setattr(artifact, "convert_graph", lambda *_: content)
    with pytest.raises(ValueError, match="6 of 6 binary layers"):
        zoo.export(model, tmp_path / "model.tflite", images=exact_images(20, SIZE))
    # The same binary layers, but another classifier.
    for layer in model.layers:
        if hasattr(layer, "kernel_quantizer"):
            layer.set_weights(other.get_layer(layer.name).get_weights())
    with pytest.raises(ValueError, match="predicts Keras' class for"):
        zoo.export(model, tmp_path / "model.tflite", images=exact_images(20, SIZE))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["irnet_resnet20_normal", "reactnet18_cifar"])
def test_a_network_that_was_never_trained(name: str, tmp_path: Path, shallow):
    """Large kernels of equal signs are not spelled out in the file, and many inputs of signs are 0 but for rounding."""
    model = zoo.load(name, input_shape=(24, 24, 3))
    images = tflite_export.default_images(model, 10)
    result = zoo.export(model, tmp_path / "model.tflite", images=images)
    assert result.binary_operations == result.binary_layers and not result.float_layers
    assert result.agreement.same_class == 100 or result.ties.max_difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("initializer", ["ones", tf.keras.initializers.Constant(-0.5)])
def test_constant_and_equal_kernels(initializer, tmp_path: Path):
    image = tf.keras.Input((8, 8, 32))
    layers = [convolution_layer(filters=256, kernel_initializer=initializer) for _ in range(2)]
    x = tf.keras.layers.Add()([layer(image) for layer in layers])
    x = convolution_layer(filters=256, kernel_initializer=initializer)(x)
    model = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(x))
    images = np.random.default_rng(0).standard_normal((10, 8, 8, 32)).astype(np.float32)
    result = zoo.export(model, tmp_path / "model.tflite", images=images)
    assert not result.float_layers and result.agreement.max_difference < 1e-3


@pytest.mark.slow
def test_a_model_of_models_with_pixels_at_its_input(tmp_path: Path, shallow):
    body = zoo.load("birealnet20", input_shape=SIZE, include_top=False, pooling="avg")
    image = tf.keras.Input(SIZE, dtype="uint8")
    x = tf.keras.layers.Rescaling(1 / 127.5, -1)(image)
    model = tf.keras.Model(image, tf.keras.Sequential([body, tf.keras.layers.Dense(3)])(x))
    assign_exact_weights(body)
    images = np.random.default_rng(0).integers(0, 256, (10, *SIZE), np.uint8)
    result = zoo.export(model, tmp_path / "model.tflite", images=images)
    assert result.agreement.same_class == 100 and result.binary_layers == result.binary_operations == 6
    assert result.file_bytes <= 1.1 * result.memory + 32 * 1024


def test_one_wrong_sign_in_the_file_is_found():
    model = convolution()
    graph = lower(model)
    file = zoo.read_tflite(convert_graph(graph, "binary"))
    assert not float_fallbacks(graph, file)
    file.binary_kernels[0][3, 1, 2, 0] ^= True
    assert set(float_fallbacks(graph, file)) == {"conv"}


@pytest.mark.slow
def test_what_the_engine_gets_wrong_other_formats_get_right():
    model = zoo.load("irnet_resnet20", input_shape=(8, 8, 3))  # its last images have 2 x 2 pixels
    assert zoo.read_tflite(zoo.convert_to_tflite(model, "float32")).input_shape == (1, 8, 8, 3)
    with pytest.raises(ValueError, match="image of 2 x 2 pixels"):
        zoo.convert_to_tflite(model, "binary")


def test_damaged_files_are_an_error():
    content = zoo.convert_to_tflite(convolution(), "binary")
    for length in (8, 20, 100, len(content) // 2):
        with pytest.raises(ValueError, match="damaged"):
            zoo.read_tflite(content[:length])


@pytest.mark.skipif(tf.__version__ < "2.17", reason="ends in TensorFlow Lite 2.16; files run in their own process")
def test_a_file_of_damaged_structure_does_not_come_to_the_engine(monkeypatch):
    """It would crash: only TensorFlow Lite's interpreter checks what the offsets in a file lead to."""
    content, rng = zoo.convert_to_tflite(convolution(), "binary"), np.random.default_rng(0)
    monkeypatch.setattr("larq_compute_engine.tflite.python.interpreter.Interpreter", lambda *_, **__: None)
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content) // 2, 8):
            damaged[place] = rng.integers(256)
        try:
            zoo.read_tflite(bytes(damaged))
        except ValueError:
            continue
        with contextlib.suppress(ValueError):
            open_interpreter(bytes(damaged))
            continue
        with pytest.raises(ValueError, match="The file cannot be run"):
            open_interpreter(bytes(damaged))
        return
    pytest.fail("no damage was noticed")


@pytest.mark.slow
def test_real_activations_have_other_formats(tmp_path: Path):
    model = zoo.load("wide_resnet_20_1", weights="cifar10")
    with pytest.raises(ValueError, match=r"1-bit activations.*int8.*float16.*save_packed") as caught:
        zoo.export(model, tmp_path / "model.tflite")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    images = tflite_export.default_images(model)
    np.testing.assert_array_equal(images, zoo.sample_images().images[:200])
    result = zoo.export(model, tmp_path / "model.tflite", precision="int8", images=images[:50])
    assert result.agreement.images == 50 and result.agreement.same_class >= 96
    assert not any(name.startswith("Lce") for name in result.operations)
    assert result.file_bytes < 1.2 * model.count_params() + 32 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_binary_activations_in_other_formats(precision: str, tmp_path: Path):
    """Rounding real-valued weights changes signs behind them, but not most of the predictions."""
    model = zoo.load("birealnet20", weights="cifar10")
    images = tflite_export.default_images(model, 60)
    result = zoo.export(model, tmp_path / "model.tflite", precision=precision, images=images)
    assert 80 <= result.agreement.same_class <= 100 and result.file_bytes > 0


def test_agreement_of_one_output_and_of_none():
    """Which of one output is the largest is no question."""
    image = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(image))
    images = np.random.default_rng(0).standard_normal((40, 8, 8, 3)).astype(np.float32)
    for activation, wrong in (("sigmoid", lambda p: 1 - p), ("linear", np.negative)):
        model = tf.keras.Model(image, tf.keras.layers.Activation(activation)(x))
        assert compare(model, lambda one, model=model: model(one).numpy(), images).same_class == 100
        assert compare(model, lambda one, model=model, wrong=wrong: wrong(model(one).numpy()), images).same_class == 0
    nothing = tf.keras.Model(image, tf.keras.layers.Dense(2, kernel_initializer=NAN)(tf.keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match="returns NaN or infinity for some of the 40 images"):
        compare(nothing, lambda one: nothing(one).numpy(), images)


NAN = tf.keras.initializers.Constant(np.nan)


class Subclassed(tf.keras.Model):
    def call(self, inputs):
        return inputs


def two_inputs() -> tf.keras.Model:
    inputs = [tf.keras.Input((8, 8, 3)), tf.keras.Input((8, 8, 3))]
    return tf.keras.Model(inputs, tf.keras.layers.Add()(inputs))


def half_precision() -> tf.keras.Model:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    return convolution()


def unsupported() -> tf.keras.Model:
    model = convolution()
    x = tf.keras.layers.Lambda(lambda x: tf.linalg.svd(x, compute_uv=False))(model.get_layer("conv").output)
    return tf.keras.Model(model.input, x)


BAD_MODELS = {
    "fixed input shape": lambda: zoo.load("birealnet20", input_shape=(None, None, 3)),
    "not 2 and 1": two_inputs,
    "image of 2 x 2 pixels": lambda: zoo.load("irnet_resnet20", input_shape=(8, 8, 3)),
    "Subclassed": Subclassed,
    "bfloat16": half_precision,
    "Svd": unsupported,
}


@pytest.mark.slow
@pytest.mark.parametrize("named", BAD_MODELS)
def test_a_model_that_cannot_be_exported(named: str, tmp_path: Path, shallow):
    with pytest.raises(ValueError, match=named):
        zoo.export(BAD_MODELS[named](), tmp_path / "model.tflite", images=np.zeros((1, 8, 8, 3), np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"precision": "int4"}),
        (ValueError, {"images": [[1]]}),
        (ValueError, {"images": np.zeros((2, 9, 8, 3), np.float32)}),
        (ValueError, {"images": np.zeros((2, 8, 8, 3), np.uint8)}),
        (FileNotFoundError, {"path": "nowhere/model.tflite"}),
        (IsADirectoryError, {"path": "."}),
    ],
)
def test_bad_arguments(error: type[Exception], options: dict, tmp_path: Path):
    path = tmp_path / options.pop("path", "model.tflite")
    with pytest.raises(error):
        zoo.export(convolution(), path, **options)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.tflite"
    path.write_text("old")
    monkeypatch.setattr(tflite_export, "compare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        zoo.export(convolution(), path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_without_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[export\]"):
        zoo.export(convolution(), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_the_recorded_files_are_within_the_limit():
    rows = recorded_exports()
    binary = {name for name, count in zoo.recorded_counts().items() if count.binary_macs}
    assert rows.keys() == binary
    for name, row in rows.items():
        assert row.binary_operations >= row.binary_layers > 0, name
        assert row.file_bytes <= limit(zoo.recorded_counts()[name].memory, row), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recorded_exports() if zoo.entry(name).native_shape[0] == 32])
def test_the_recorded_files_are_what_export_writes(name: str, tmp_path: Path):
    """Those for ImageNet take minutes: `tools/exports.py` does them."""
    model = zoo.load(name, classifier_activation=None)
    assign_exact_weights(model)
    result = zoo.export(model, tmp_path / "model.tflite", strict=False)
    row = recorded_exports()[name]
    assert (result.binary_operations, result.binary_layers) == (row.binary_operations, row.binary_layers)
    assert not result.float_layers
    assert 0.95 * row.file_bytes < result.file_bytes < 1.01 * row.file_bytes  # constants that are equal are stored once
