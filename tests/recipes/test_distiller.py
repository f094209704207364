"""The distiller: a student that learns from a frozen teacher, and otherwise is the Keras model it always was."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes import Distiller, distribution_loss, logits_model, teacher_logits
from tests.recipes.models import striped_images, tiny_network

IMAGES, LABELS = striped_images(64, 0)
IMAGES = IMAGES.astype(np.float32)


def teacher(dropout=0.0):
    """Return a model that ends in logits; with dropout and batch normalisation it shows whether it is in training."""
    return tf.keras.Sequential(
        [
            tf.keras.layers.AveragePooling2D(8, input_shape=(32, 32, 3)),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dropout(dropout),
            tf.keras.layers.Dense(2),
        ]
    )


def pair(**options):
    tf.keras.utils.set_random_seed(3)
    student, master = tiny_network(2, (32, 32, 3)), teacher(**options)
    return student, master, Distiller(student, master)


def test_fit_minimises_the_distributional_loss_of_the_logits():
    """One step of plain SGD equals the step computed by hand."""
    student, master, distiller = pair()
    start = student.get_weights()
    distiller.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = distiller.fit(IMAGES, LABELS, batch_size=64, shuffle=False, verbose=0).history
    trained = student.get_weights()
    student.set_weights(start)
    logits = logits_model(student)
    assert logits.output_shape == (None, 2)
    with tf.GradientTape() as tape:
        losses = distribution_loss(master(IMAGES, training=False), logits(IMAGES, training=True))
        loss = tf.reduce_mean(losses)
    for variable, gradient in zip(
        student.trainable_variables, tape.gradient(loss, student.trainable_variables), strict=True
    ):
        variable.assign_sub(0.1 * gradient)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for one, other in zip(trained, student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("given", ["sample_weight", "class_weight"])
def test_weights_of_examples_weigh_the_loss(given):
    """As Keras' losses do: the weighted sum over the batch, divided by its size."""
    student, master, distiller = pair()
    start = student.get_weights()
    by_class = np.array([0.25, 3.0])
    weights = by_class[LABELS] if given == "class_weight" else np.random.default_rng(0).uniform(0, 2, len(LABELS))
    options = {"class_weight": dict(enumerate(by_class))} if given == "class_weight" else {"sample_weight": weights}
    distiller.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    history = distiller.fit(IMAGES, LABELS, batch_size=64, shuffle=False, verbose=0, **options).history
    trained = student.get_weights()
    student.set_weights(start)
    with tf.GradientTape() as tape:
        losses = distribution_loss(master(IMAGES, training=False), logits_model(student)(IMAGES, training=True))
        loss = tf.reduce_sum(losses * weights.astype(np.float32)) / 64
    gradients = tape.gradient(loss, student.trainable_variables)
    for variable, gradient in zip(student.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for one, other in zip(trained, student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_teacher_stays_as_it_is():
    student, master, distiller = pair(dropout=0.9)
    before = master.get_weights()
    assert not {id(variable) for variable in distiller.variables} & {id(variable) for variable in master.variables}
    assert len(distiller.trainable_weights) == len(student.trainable_weights)
    distiller.compile(tf.keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    losses = [distiller.fit(IMAGES, LABELS, batch_size=64, shuffle=False, verbose=0).history["loss"] for _ in range(2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "no dropout in the teacher"
    for one, other in zip(before, master.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluate_predict_and_save_are_the_student_s(tmp_path):
    student, _, distiller = pair()
    distiller.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    distiller.fit(IMAGES, LABELS, verbose=0)
    figures = distiller.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    student.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    assert figures == pytest.approx(student.evaluate(IMAGES, LABELS, verbose=0, return_dict=True))
    expected = student.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(distiller.predict(IMAGES, verbose=0), expected)
    distiller.save(tmp_path / "student.keras")
    loaded = tf.keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), expected)
    distiller.save_weights(str(tmp_path / "student.weights.h5"))
    again = tiny_network(2, (32, 32, 3))
    again.load_weights(str(tmp_path / "student.weights.h5"))
    np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), expected)


def test_cached_logits_train_as_the_teacher_does():
    """And the teacher is not asked again."""
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(20)

    def train(cached):
        student, master, distiller = pair()
        batches = data
        if cached:
            batches, distiller = teacher_logits(master, data), Distiller(student, None)
            master.set_weights([np.full_like(weight, np.nan) for weight in master.get_weights()])
        distiller.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = distiller.fit(batches.repeat(), steps_per_epoch=4, epochs=2, verbose=0).history
        return history, student.get_weights()

    (one, weights), (other, others) = train(True), train(False)
    assert one.keys() == other.keys()
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_softmax_within_the_last_layer_is_undone():
    dense = tf.keras.layers.Dense(3, activation="softmax")
    model = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(32, 32, 3)), dense])
    logits = logits_model(model)(IMAGES / 255)
    np.testing.assert_allclose(tf.nn.softmax(logits), model(IMAGES / 255), rtol=1e-4)
    expected = tf.nn.log_softmax(tf.reshape(IMAGES / 255, [64, -1]) @ dense.kernel + dense.bias)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_classes_must_be_the_same():
    with pytest.raises(ValueError, match="student has 3 classes and the teacher 2: give a teacher of"):
        Distiller(tiny_network(3, (32, 32, 3)), teacher())
