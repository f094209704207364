"""OpenVINO and ONNX Runtime compute what the graph says, binary where it can be; files and predictors of them."""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fuzz.exported import onnx_lies

from onebit import zoo
from onebit.quantizers import FPReLU, HardTanh, RPReLU, RSign, ScaledSign
from onebit.util.graph import Graph
from onebit.util.operations import BinaryConv
from onebit.zoo.building.layers import ShuffleChannels
from onebit.zoo.export import latency
from onebit.zoo.export.artifact import make
from onebit.zoo.export.lowering import lower
from onebit.zoo.export.runners import OpenVINORunner
from tests.helpers import shallow_networks
from tests.zoo.exact_weights import assign_exact_weights, exact_images
from tests.zoo.models import representative_first
from tests.zoo.test_lowering import LAYERS, Sets, convolution, randomise, sequence, tiny_shape

K = tf.keras.layers
TINY = float(np.finfo(np.float32).tiny)


@pytest.fixture(params=["openvino", "onnx"])
def engine(request) -> str:
    """One engine after the other, where it is installed."""
    pytest.importorskip("openvino" if request.param == "openvino" else "onnxruntime")
    return request.param


def assert_same(graph: Graph, engine: str, images: np.ndarray | None = None, tolerance: float = 1e-5):
    if images is None:
        images = np.random.default_rng(1).standard_normal((3, *graph.input.shape)).astype(np.float32)
    artifact, expected = make(graph, engine, "binary"), graph.run(images)
    actual = artifact.run(images)
    assert actual.shape == expected.shape and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max()))
    return artifact


def binary_layer(filters: int = 16, size: int = 3, **options) -> K.Layer:
    options = {"input_quantizer": RSign(), "kernel_quantizer": ScaledSign(), "padding": "same", **options}
    return zoo.BinaryConv2D(filters, size, use_bias=False, **options)


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        *(pytest.param("openvino", *each.values, marks=each.marks) for each in representative_first(zoo.list_models())),
        *(pytest.param("onnx", name, marks=pytest.mark.slow) for name in zoo.list_models()),
    ],
    indirect=["engine"],
)
def test_every_architecture(name: str, engine: str, shallow):
    model = zoo.load(name, input_shape=tiny_shape(name), classifier_activation=None)
    assign_exact_weights(model)
    graph = lower(model)
    artifact = assert_same(graph, engine, exact_images(2, model.input_shape[1:]))
    layers = [layer for layer in model.layers if layer.name in graph.binary_layers]
    binary = sum(node.operation.groups for node in graph.nodes if isinstance(node.operation, BinaryConv))
    assert artifact.binary_operations == (binary if engine == "openvino" else 0) and not artifact.float_layers
    assert binary >= len(layers)
    kernels = sum(int(np.prod(layer.kernel.shape)) for layer in layers)
    rest = sum(int(np.prod(variable.shape)) for variable in model.variables) - kernels
    # 1 bit a weight; what is around the weights is about as much for any network of so many layers.
    size = sum(len(content) for ending, content in artifact.files.items() if ending != ".xml")
    assert size < kernels / 8 + 4 * rest + 1000 + 600 * len(graph.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["larq/quicknet", "larq/birealnet", "larq/binary_densenet28"])
def test_larq_zoo(name: str, engine: str):
    model = zoo.load(name, input_shape=(64, 64, 3))
    assign_exact_weights(model)
    artifact = assert_same(lower(model), engine, exact_images(2, (64, 64, 3)), 1e-4)
    assert not artifact.float_layers and (artifact.binary_operations > 0) == (engine == "openvino")


@pytest.mark.slow
@pytest.mark.parametrize(("strides", "size"), itertools.product((1, 2, 3), (1, 3, 5)))
@pytest.mark.parametrize("padding", [{"symmetric": True}, {}, {"pad_values": 1.0}, {"padding": "valid"}])
def test_geometry(strides: int, size: int, padding: dict, engine: str):
    for shape, filters in (((8, 9, 24), 5), ((7, 10, 8), 16)):
        graph = lower(sequence(binary_layer(filters, size, strides=strides, **padding), shape=shape))
        artifact = assert_same(graph, engine)
        if engine == "openvino":  # the plugin gets large strides of large kernels wrong
            assert bool(artifact.float_layers) == (strides > 2 and size > 3)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 4, 8, 12, 20, 32, 40, 64])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_and_groups(channels: int, groups: int, engine: str):
    if channels % groups:
        return
    layers = [binary_layer(4 * groups, groups=groups), K.BatchNormalization(), FPReLU(), ShuffleChannels(groups)]
    artifact = assert_same(lower(sequence(*layers, shape=(6, 5, channels))), engine)
    if engine == "openvino":
        wrong = channels // groups % 8 != 0
        assert bool(artifact.float_layers) == wrong and artifact.binary_operations == (0 if wrong else groups)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"groups": 2}, {"pad_values": 1.0}], ids=str)
@pytest.mark.parametrize("kernel", [True, False])
def test_sets_of_two_values(options: dict, kernel: bool, engine: str):
    quantizers = {"input_quantizer": Sets()} | ({"kernel_quantizer": Sets(kernel=True)} if kernel else {})
    layers = [binary_layer(16, **options, **quantizers), K.BatchNormalization(), binary_layer(16, **quantizers)]
    artifact = assert_same(lower(sequence(*layers, shape=(7, 8, 16))), engine)
    assert not artifact.float_layers


def after(*layers: K.Layer) -> tf.keras.Model:
    """A binary convolution, layers, and another one, on a shortcut."""
    image = tf.keras.Input((8, 8, 16))
    x = binary_layer(16)(image)
    for layer in layers:
        x = layer(x)
    return randomise(tf.keras.Model(image, binary_layer(24)(x)))


BETWEEN = {
    "norm": lambda: [K.BatchNormalization()],
    "pool, norm, clip": lambda: [K.MaxPooling2D(2), K.BatchNormalization(), HardTanh()],
    "norm, pool": lambda: [K.BatchNormalization(), K.MaxPooling2D(3, 2, "same")],
    "rprelu": lambda: [K.BatchNormalization(), RPReLU()],
    "falling and rising": lambda: [FPReLU(negative_initializer=-1.0)],
    "nothing": list,
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_a_convolution_and_a_sign(name: str, engine: str):
    assert not assert_same(lower(after(*BETWEEN[name]())), engine).float_layers


def test_an_addition_before_a_sign(engine: str):
    """OpenVINO's plugin would write the sum's real numbers where it has room for bits."""
    for between in ([], [K.BatchNormalization()], [RPReLU(), HardTanh()]):
        image = tf.keras.Input((8, 8, 16))
        x = K.Add()([binary_layer(16)(image), binary_layer(16)(image)])
        for layer in between:
            x = layer(x)
        model = randomise(tf.keras.Model(image, binary_layer(8)(x)))
        assert not assert_same(lower(model), engine).float_layers


@pytest.mark.parametrize("threshold", [0.0, 0.3, -1e-30, TINY, -TINY])
def test_ties_denormals_and_infinities(threshold: float, engine: str):
    """At the threshold a sign is +1; what is denormal counts as 0, as it does in the engines."""
    alpha = np.float32(threshold)
    around = [alpha, np.nextafter(alpha, np.float32(1)), np.nextafter(alpha, np.float32(-1))]
    values = np.float32([*around, 0.0, -0.0, np.inf, -np.inf, 1e30, -1e30, 1, -1, TINY, -TINY, 0.3, -0.3, 2])
    values = values[(np.abs(values) >= TINY) | (values == 0)]
    images = np.resize(values, (1, 16, 16, 16))
    model = sequence(convolution(16, 1, input_quantizer=RSign(alpha_initializer=threshold)), shape=(16, 16, 16))
    for weight in model.get_layer("conv").input_quantizer.weights:
        weight.assign(np.full(weight.shape, alpha))
    assert_same(lower(model), engine, images)


def test_ties_behind_a_normalisation_of_a_pooling(engine: str):
    """Whole numbers, times 3, less 6: a third of them is at the threshold."""
    image = tf.keras.Input((8, 8, 16))
    pooled = K.MaxPooling2D(2)(image)
    norm = K.BatchNormalization(epsilon=0.0)
    x = binary_layer(16, input_quantizer="ste_sign")(norm(pooled))
    model = tf.keras.Model(image, K.Concatenate()([pooled, x]))
    norm.set_weights([np.full(16, 3.0), np.full(16, -6.0), np.zeros(16), np.ones(16)])
    images = np.random.default_rng(0).integers(1, 4, (2, 8, 8, 16)).astype(np.float32)
    images[:, ::2, ::2] = np.minimum(images[:, ::2, ::2], 2)
    assert not assert_same(lower(model), engine, images).float_layers


def test_ties_behind_a_normalisation(engine: str):
    """Sums of signs are whole numbers, half of which are exactly at the threshold here."""
    model = after(K.BatchNormalization(epsilon=0.0))
    assign_exact_weights(model)
    norm = model.layers[2]
    norm.set_weights([np.ones(16), np.zeros(16), np.zeros(16), np.ones(16)])
    for layer in model.layers:
        if isinstance(layer, zoo.BinaryConv2D):
            layer.input_quantizer.alpha.assign(np.zeros(16))
    assert_same(lower(model), engine, exact_images(2, (8, 8, 16)))


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("opaque", "operators")])
def test_other_layers(name: str, engine: str):
    assert_same(lower(sequence(*LAYERS[name](), shape=(6, 7, 8))), engine)


@pytest.mark.slow
def test_real_activations_have_weights_of_one_bit(engine: str):
    model = zoo.load("wide_resnet_20_1", input_shape=(8, 8, 3), weights="cifar10")
    artifact = make(lower(model), engine, "binary")
    size = sum(len(content) for ending, content in artifact.files.items() if ending != ".xml")
    assert size < 1.5 * zoo.count(model).memory < model.count_params()


def test_what_the_emitters_do_not_know_is_named(engine: str):
    with pytest.raises(ValueError, match=r"softplus.*Cropping2D"):
        make(lower(sequence(*LAYERS["opaque"]())), engine, "binary")


# Files


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    """A small network of trained weights' kind."""
    with shallow_networks():
        network = zoo.load("reactnet20", input_shape=(16, 16, 3))
    assign_exact_weights(network)
    return network


@pytest.mark.parametrize("ending", [".xml", ".onnx"])
def test_export(ending: str, model: tf.keras.Model, tmp_path: Path):
    pytest.importorskip("openvino" if ending == ".xml" else "onnxruntime")
    path = tmp_path / f"model{ending}"
    images = exact_images(10, (16, 16, 3))
    result = zoo.export(model, path, images=images)
    assert result.to == ("openvino" if ending == ".xml" else "onnx")
    assert result.agreement.same_class == 100 and result.agreement.max_difference < 1e-5
    assert result.file_bytes == sum(each.stat().st_size for each in tmp_path.iterdir())
    assert {each.suffix for each in tmp_path.iterdir()} == ({".xml", ".bin"} if ending == ".xml" else {".onnx"})
    predictor = zoo.compile(path)
    np.testing.assert_allclose(predictor(images), model(images), atol=1e-6)
    assert predictor.engine == result.to and predictor.preprocessing.mean == zoo.preprocessing_of(model).mean
    assert predictor.preprocessing.size == (16, 16)
    # The same again is the same file.
    before = path.read_bytes()
    zoo.export(model, path, images=images)
    assert path.read_bytes() == before


def test_a_layer_that_openvino_computes_as_real_is_named_and_refused(tmp_path: Path):
    pytest.importorskip("openvino")
    image = tf.keras.Input((8, 8, 12))
    x = K.GlobalAveragePooling2D()(convolution(8)(image))
    network, images = tf.keras.Model(image, x), np.ones((2, 8, 8, 12), np.float32)
    with pytest.raises(ValueError, match=r"conv: .*12 input channels"):
        zoo.export(network, tmp_path / "a.xml", images=images)
    assert not list(tmp_path.iterdir())
    result = zoo.export(network, tmp_path / "a.xml", images=images, strict=False)
    assert list(result.float_layers) == ["conv"] and result.binary_operations == 0


@pytest.mark.parametrize(
    "options",
    [
        {"path": "a.bin", "to": "openvino"},
        {"path": "a.xml", "to": "tensorrt"},
        {"path": "a.onnx", "precision": "int8"},
        {"path": "a.tflite", "to": "tflite", "precision": "binary"},
        {"path": "a.tflite", "to": "lce", "precision": "int8"},
    ],
    ids=str,
)
def test_bad_arguments(options: dict, model: tf.keras.Model, tmp_path: Path):
    with pytest.raises(ValueError, match=r"to |path |precision "):
        zoo.export(model, tmp_path / options.pop("path"), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ending", "module"), [(".xml", "openvino"), (".onnx", "onnx"), (".onnx", "onnxruntime")])
def test_without_the_engine(ending: str, module: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        zoo.export(model, tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_written_keeps_both_files(model: tf.keras.Model, tmp_path: Path):
    pytest.importorskip("openvino")
    (tmp_path / "a.bin").mkdir()
    (tmp_path / "a.xml").write_text("old")
    with pytest.raises(IsADirectoryError):
        zoo.export(model, tmp_path / "a.xml")
    assert (tmp_path / "a.xml").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".xml", ".onnx"])
def test_damaged_files_are_an_error(ending: str, model: tf.keras.Model, tmp_path: Path):
    pytest.importorskip("openvino" if ending == ".xml" else "onnxruntime")
    path = tmp_path / f"model{ending}"
    zoo.export(model, path, images=exact_images(1, (16, 16, 3)))
    content = path.read_bytes()
    for part in (b"", content[: len(content) // 2], b"something else"):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=path.name):
            zoo.compile(path)
    if ending == ".xml":
        path.write_bytes(content)
        path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-1000])
        with pytest.raises(ValueError, match=path.name):
            zoo.compile(path)
        path.with_suffix(".bin").unlink()
        with pytest.raises(FileNotFoundError):
            zoo.compile(path)


@pytest.mark.slow
def test_an_onnx_file_that_never_ends_is_refused(model: tf.keras.Model, tmp_path: Path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    zoo.export(model, path, images=exact_images(1, (16, 16, 3)))
    # The first of `onnx_lies` are in an order: the twelfth is a loop of 2^62 rounds.
    path.write_bytes(next(itertools.islice(onnx_lies(path.read_bytes(), random.Random(0)), 11, None)))
    assert onnx.load(path).graph.node[-1].op_type == "Loop"
    monkeypatch.setattr(latency, "_SECONDS", 1)
    with pytest.raises(ValueError, match=r"model\.onnx.*too long"):
        zoo.compile(path)


@pytest.mark.slow
def test_class_names_of_a_file_are_checked(model: tf.keras.Model, tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    zoo.export(model, path, images=exact_images(1, (16, 16, 3)))
    content = onnx.load(path)
    for names in ('["a"]', '"ab"', "[[1]]", json.dumps(["\x1b[2J"] * 10), "["):
        onnx.helper.set_model_props(content, {"class_names": names})
        path.write_bytes(content.SerializeToString())
        with pytest.raises(ValueError, match=r"model\.onnx") as raised:
            zoo.compile(path)
        assert str(raised.value).isprintable()


# Predictors


@pytest.mark.parametrize("name", ["openvino", "onnx", "keras"])
def test_a_predictor_is_exact_for_any_number_of_images_and_in_threads(name: str, model: tf.keras.Model):
    if name != "keras":
        pytest.importorskip(name)
    predictor, images = zoo.compile(model, name, threads=1), exact_images(19, (16, 16, 3))
    assert predictor.engine == name and predictor.input_shape == model.input_shape
    # What TensorFlow fuses in a graph rounds, and so the signs behind it are other ones.
    expected = model.predict(images, verbose=0) if name == "keras" else model(images, training=False).numpy()
    for count in (0, 1, 8, 19):
        np.testing.assert_allclose(predictor(images[:count]), expected[:count], atol=1e-6)
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.extend(predictor.predict(images) for _ in range(5))) for _ in "abc"
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 15 and all(np.array_equal(each, results[0]) for each in results)
    labels = expected.argmax(1)
    assert zoo.evaluate(predictor, [(images, labels)]).top1 == 100
    with pytest.raises(ValueError, match=r"images must be of shape"):
        predictor(images[0])


def test_the_fastest_engine_that_knows_the_network_is_taken(monkeypatch: pytest.MonkeyPatch, model: tf.keras.Model):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    assert zoo.compile(model).engine == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert zoo.compile(model).engine == "onnx"
    unknown = sequence(K.Conv2D(3, 2, activation="softplus"), K.GlobalAveragePooling2D())
    predictor = zoo.compile(unknown)
    assert predictor.engine == "keras" and predictor.skipped.keys() == {"openvino", "onnx"}
    assert "softplus" in predictor.skipped["onnx"]


@pytest.mark.slow
def test_an_engine_that_computes_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch, model: tf.keras.Model):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(OpenVINORunner, "_run", lambda self, images: -np.ones((len(images), 10), np.float32))
    assert zoo.compile(model).engine == "onnx"
    with pytest.raises(ValueError, match="openvino"):
        zoo.compile(model, "openvino")


@pytest.mark.slow
def test_a_network_that_was_never_trained_is_compiled(shallow):
    pytest.importorskip("openvino")
    assert zoo.compile(zoo.load("irnet_resnet20_normal", input_shape=(24, 24, 3)), "openvino").engine == "openvino"


@pytest.mark.parametrize("options", [{"engine": "tensorrt"}, {"threads": 0}, {"threads": True}], ids=str)
def test_bad_arguments_of_a_predictor(options: dict, model: tf.keras.Model):
    with pytest.raises(ValueError, match=next(iter(options))):
        zoo.compile(model, **options)


def test_files_that_cannot_be_compiled(tmp_path: Path):
    (tmp_path / "model.onebit").write_bytes(b"")
    with pytest.raises(ValueError, match="load_packed"):
        zoo.compile(tmp_path / "model.onebit")
    with pytest.raises(FileNotFoundError):
        zoo.compile(tmp_path / "model.xml")
    (tmp_path / "model.xml").write_bytes(b"")
    with pytest.raises(ValueError, match="engine"):
        zoo.compile(tmp_path / "model.xml", "onnx")
