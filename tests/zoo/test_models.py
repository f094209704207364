"""What every registered model passes, by being registered.

A small model of each paper, with a third of its blocks, runs in `make test`, all as they are in `make test-all`.
"""

from __future__ import annotations

import contextlib
import dataclasses

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.util.memory import release_custom_gradients
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.helpers import shallow_networks
from tests.zoo.models import REPRESENTATIVES, is_binary


def small_shape(name):
    """Return an input shape with little work in it: an ImageNet network ends in 2 x 2 pixels."""
    height, width, channels = zoo.entry(name).native_shape
    return (min(height, 64), min(width, 64), channels)


def outputs(model):
    """Return what the model makes of some images. Called, not by `predict`: that would compile it first."""
    return np.asarray(model(images(model), training=False))


def images(model, count=4):
    return np.random.default_rng(0).standard_normal((count, *model.input_shape[1:])).astype(np.float32)


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param((name, True), id=f"shallow {name}") for name in REPRESENTATIVES),
        *(pytest.param((name, False), id=name, marks=pytest.mark.slow) for name in zoo.list_models()),
    ],
)
def name(request):
    name, is_shallow = request.param
    with shallow_networks() if is_shallow else contextlib.nullcontext():
        yield name


@pytest.fixture(scope="module")
def model(name):
    """The model with 10 classes, with statistics of its own: with a new model's, signs no longer tell images apart."""
    tf.keras.utils.set_random_seed(1)
    model = zoo.load(name, input_shape=small_shape(name), num_classes=10)
    norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0
    model(images(model), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    yield model
    del model, norms
    release_custom_gradients()


@contextlib.contextmanager
def graph(model):
    """A graph to make another model in, where nothing is computed or allocated.

    Keras gives the classes of layers other bases there, with which no other model can be called. A new object outside
    gives them back.
    """
    with tf.Graph().as_default():
        yield
    for each in {type(layer) for layer in (model, *model.submodules) if isinstance(layer, tf.keras.layers.Layer)}:
        each.__new__(each)


@pytest.fixture(scope="module")
def expected(model):
    return outputs(model)


def test_output(name, model, expected):
    assert expected.shape == (4, 10)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    # Logits, but for a constant: a softmax can hide what tells two images apart.
    assert np.log(expected).std(axis=0).max() > 1e-2, "the output depends on the input"
    assert model.get_layer("logits") is not None
    assert bool(binary_kernels(model)) == is_binary(name)
    assert len(named_variables(model)) == len(model.weights)
    assert not any(isinstance(layer, tf.keras.layers.Lambda) or "Op" in type(layer).__name__ for layer in model.layers)


@pytest.mark.slow
def test_another_size_and_one_class(name, model):
    """The native size where the other tests have a smaller one."""
    native = zoo.entry(name).native_shape
    shape = native if native != small_shape(name) else (native[0] + 32, native[1] + 64, native[2])
    with graph(model):
        other = zoo.load(name, input_shape=shape, num_classes=1, classifier_activation=None)
        assert other.output_shape == (None, 1)
        assert other.input_shape == (None, *shape)


@pytest.mark.slow
def test_without_top(name, model):
    with graph(model):
        body = zoo.load(name, input_shape=small_shape(name), include_top=False, pooling="avg")
        names = set(named_variables(body))
        assert len(body.output_shape) == 2
        assert len(body.get_layer("avg_pool").input.shape) == 4
    assert names == {name for name in named_variables(model) if not name.startswith("logits")}


def test_summary(model, capsys):
    lq.models.summary(model)
    assert model.name in capsys.readouterr().out


@pytest.mark.parametrize("form", ["model.keras", pytest.param("model.h5", marks=pytest.mark.slow), "packed"])
def test_saved_and_loaded(name, model, expected, form, tmp_path):
    path = tmp_path / form
    if form == "packed":
        zoo.save_packed(model, path)
        loaded = zoo.load_packed(path)
        info = zoo.model_info(model)
        # The file has the size of its network's images, too.
        size = dataclasses.replace(info.preprocessing, size=model.input_shape[1:3])
        assert zoo.model_info(loaded) == dataclasses.replace(info, preprocessing=size)
        binary = sum(int(np.prod(kernel.variable.shape)) for kernel in binary_kernels(model).values())
        real = sum(int(np.prod(variable.shape)) for variable in model.weights) - binary
        assert path.stat().st_size <= 1.05 * binary / 8 + 4 * real + 65536
    else:
        model.save(path)
        loaded = tf.keras.models.load_model(path)
    np.testing.assert_array_equal(outputs(loaded), expected)


@pytest.mark.slow
def test_mixed_bfloat16(name):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = zoo.load(name, input_shape=small_shape(name), num_classes=10)
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    # With the batch's statistics: a new network's own let unscaled 1-bit weights grow beyond all numbers.
    outputs = model(images(model, 2), training=True)
    assert outputs.dtype == tf.float32
    assert np.isfinite(outputs).all()


@pytest.mark.slow
def test_one_step_of_training(model):
    x, y = images(model), np.arange(4) % 10
    model = tf.keras.models.clone_model(model)  # the other tests' stays as it is
    model.compile(tf.keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    before = {name: variable.numpy() for name, variable in named_variables(model).items() if variable.trainable}
    loss = model.fit(x, y, batch_size=4, verbose=0).history["loss"][0]
    assert np.isfinite(loss)
    after = {name: variable.numpy() for name, variable in named_variables(model).items() if variable.trainable}
    assert all(np.isfinite(value).all() for value in after.values())
    still = {name for name in after if np.array_equal(before[name], after[name])}
    assert still == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_saved_model(name, tmp_path):
    """It takes minutes for the large models, and the layers of a family are the same: one model of each."""
    model = zoo.load(name, input_shape=small_shape(name), num_classes=10)
    model.save(tmp_path / "folder")
    x = images(model)
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(tf.keras.models.load_model(tmp_path / "folder").predict(x, verbose=0), expected)
