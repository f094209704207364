"""A teacher's file: what it may be, and that opening it runs nothing."""

from __future__ import annotations

import json
import shutil
import zipfile

import keras
import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.recipes.training.teachers import load_teacher

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.float32)


@pytest.mark.slow
def test_a_teacher_sees_images_as_its_weights_want_them(tmp_path):
    model = zoo.WideResNet(depth=8, width=1, classifier_activation=None)
    path = zoo.save_packed(model, tmp_path / "teacher.onebit")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    teacher = load_teacher(str(path), "imagenet")
    expected = zoo.load_packed(path)(images)
    np.testing.assert_allclose(teacher(zoo.get_preprocessing("imagenet")(images)), expected, atol=2e-3)
    np.testing.assert_array_equal(load_teacher(str(path), "0_255")(images), expected)


def keras_file(tmp_path, layer):
    model = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=SHAPE), layer, tf.keras.layers.Dense(10)])
    for name in ("model.keras", "model.h5", "folder"):
        model.save(tmp_path / name)
    shutil.copy(tmp_path / "model.h5", tmp_path / "disguised.keras")
    shutil.copytree(tmp_path / "folder", tmp_path / "folder.keras")
    return model


def test_a_teacher_may_be_a_keras_file(tmp_path):
    model = keras_file(tmp_path, tf.keras.layers.ReLU())
    images = np.ones((2, *SHAPE), np.float32)
    teacher = load_teacher(str(tmp_path / "model.keras"), "imagenet")
    np.testing.assert_allclose(teacher(images), model(images), rtol=1e-6)


def test_a_teacher_of_keras_3_is_told_from_code(tmp_path):
    layers = [keras.layers.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Keras 3"):
        load_teacher(str(tmp_path / "model.keras"), "imagenet")


def test_opening_a_teacher_runs_no_code(tmp_path):
    """Whatever its name says it is."""
    touched = tmp_path / "touched"
    keras_file(
        tmp_path,
        tf.keras.layers.Lambda(lambda x, path=str(touched): (__import__("pathlib").Path(path).touch(), x)[1]),
    )
    touched.unlink()
    tf.keras.models.load_model(tmp_path / "model.h5")
    touched.unlink()  # so it would
    for name in ("model.h5", "disguised.keras", "folder", "folder.keras"):
        with pytest.raises(ValueError, match=rf"teacher='.*{name}' is a SavedModel or an HDF5 file.*Save .* as .keras"):
            load_teacher(str(tmp_path / name), "imagenet")
    with pytest.raises(ValueError, match=r"model\.keras .*Lambda of keras.layers .*might run code"):
        load_teacher(str(tmp_path / "model.keras"), "imagenet")
    with pytest.raises(ValueError, match="neither MODEL:TAG"):
        load_teacher("absent.keras", "imagenet")
    assert not touched.exists()


def operations():
    image = tf.keras.Input(SHAPE)
    x = tf.keras.layers.Conv2D(4, 3, activation="swish", kernel_regularizer="l2")(image)
    x = tf.concat([tf.nn.relu(x)[:, ::2], x[:, 1::2] * 2.0], -1)
    return tf.keras.Model(
        image, tf.keras.layers.Dense(10, activation=tf.keras.activations.tanh)(tf.reshape(x, [-1, 144]))
    )


def of_larq():
    image = tf.keras.Input(SHAPE)
    x = lq.layers.QuantConv2D(4, 3, kernel_quantizer=lq.quantizers.SteSign(), kernel_constraint="weight_clip")(image)
    return tf.keras.Model(image, tf.keras.layers.Dense(10)(tf.keras.layers.Flatten()(x)))


def of_the_zoo():
    return zoo.load("reactnet20", input_shape=SHAPE)


def of_16_bits():
    policy = tf.keras.mixed_precision.Policy("mixed_bfloat16")
    layers = [tf.keras.layers.Flatten(input_shape=SHAPE), tf.keras.layers.Dense(10, dtype=policy)]
    return tf.keras.Sequential(layers)


@pytest.mark.slow
@pytest.mark.parametrize("build", [operations, of_larq, of_the_zoo, of_16_bits])
def test_what_a_keras_file_may_hold(build, tmp_path):
    model = build()
    loss, metric = tf.keras.losses.SparseCategoricalCrossentropy(True), tf.keras.metrics.SparseCategoricalAccuracy()
    model.compile(tf.keras.optimizers.SGD(0.1), loss, [metric])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(load_teacher(str(tmp_path / "model.keras"), "imagenet")(IMAGES), model(IMAGES))


def operation(function, argument, **more):
    """A layer that calls a function of TensorFlow with constants as soon as the file is opened."""
    return {
        "module": "tf_keras.src.layers.core.tf_op_layer",
        "class_name": "TFOpLambda",
        "config": {"name": "evil", "function": function},
        "registered_name": "TFOpLambda",
        "name": "evil",
        "inbound_nodes": [["_CONSTANT_VALUE", -1, argument, more]],
    }


def activation(argument, **function):
    """A layer whose activation is any function that Python can import."""
    return {
        "module": "keras.layers",
        "class_name": "Activation",
        "config": {"name": "evil", "activation": {"registered_name": None, **function}},
        "registered_name": None,
        "name": "evil",
        "inbound_nodes": [["_CONSTANT_VALUE", -1, argument, {}]],
    }


def evil_layers(touched):
    import_it = f"__import__('pathlib').Path({touched!r}).touch()"
    return {
        "an operation": operation("io.write_file", touched, contents=""),
        "a module's function": activation(
            f"touch '{touched}'", module="os", class_name="function", config="system", registered_name="system"
        ),
        "a builtin": activation(import_it, module="builtins", class_name="function", config="eval"),
        "a class that is a function": activation(f"touch '{touched}'", module="os", class_name="system", config={}),
        "a builtin under another name": activation(
            import_it, module="builtins", class_name="function", config="relu6", registered_name="eval"
        ),
        "something of ours": activation(
            touched, module="onebit.recipes.training.teachers", class_name="Path", config={}
        ),
        "something that Keras' layers import": activation(
            touched, module="keras.layers", class_name="nothing", config={}, registered_name="deserialize"
        ),
        "no module": activation(touched, class_name="function", config="eval"),
    }


@pytest.mark.parametrize("evil", evil_layers(""))
def test_a_keras_file_that_names_functions(evil, tmp_path):
    """Keras' safe mode calls TensorFlow's, before it fails; of the others nothing is taken on trust."""
    model = tf.keras.Model(image := tf.keras.Input(SHAPE), tf.keras.layers.ReLU()(image))
    model.save(tmp_path / "good.keras")
    touched = tmp_path / "touched"
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"].append(evil_layers(str(touched))[evil])
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    with pytest.raises(ValueError, match=r"evil\.keras .*might run code"):
        load_teacher(str(tmp_path / "evil.keras"), "imagenet")
    assert not touched.exists()
    if evil == "an operation":
        with pytest.raises(AttributeError):  # over what the function returned, too late
            tf.keras.models.load_model(tmp_path / "evil.keras", compile=False, safe_mode=True)
        assert touched.exists(), "the attack is one"
