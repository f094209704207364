"""The distiller: a student that learns from a frozen teacher, and otherwise is the Keras model it always was."""

from __future__ import annotations

import re

import keras
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


def plain():
    """Return a model of logits whose probabilities are neither 0 nor 1, the same whenever it is made."""
    kernel = tf.keras.initializers.GlorotUniform(seed=7)
    layers = [
        tf.keras.layers.Rescaling(1 / 255, input_shape=(32, 32, 3)),
        tf.keras.layers.AveragePooling2D(8),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(2, kernel_initializer=kernel),
    ]
    return tf.keras.Sequential(layers)


def pair(**options):
    tf.keras.utils.set_random_seed(3)
    student, master = tiny_network(2, (32, 32, 3)), teacher(**options)
    return student, master, Distiller(student, master)


def check_step(student, distiller, loss_of, fit=None):
    """One step of plain SGD equals the step computed by hand, and the loss that is reported is the step's."""
    start = student.get_weights()
    distiller.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = distiller.fit(IMAGES, LABELS, batch_size=64, shuffle=False, verbose=0, **(fit or {})).history
    trained = student.get_weights()
    student.set_weights(start)
    with tf.GradientTape() as tape:
        loss = loss_of()
    gradients = tape.gradient(loss, student.trainable_variables)
    for variable, gradient in zip(student.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for one, other in zip(trained, student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_fit_minimises_the_distributional_loss_of_the_logits():
    student, master, distiller = pair()
    logits = logits_model(student)
    check_step(
        student,
        distiller,
        lambda: tf.reduce_mean(distribution_loss(master(IMAGES, training=False), logits(IMAGES, training=True))),
    )


@pytest.mark.slow
@pytest.mark.parametrize("given", ["sample_weight", "class_weight"])
def test_weights_of_examples_weigh_the_loss(given):
    """As Keras' losses do: the weighted sum over the batch, divided by its size."""
    student, master, distiller = pair()
    by_class = np.array([0.25, 3.0])
    weights = by_class[LABELS] if given == "class_weight" else np.random.default_rng(0).uniform(0, 2, len(LABELS))
    options = {"class_weight": dict(enumerate(by_class))} if given == "class_weight" else {"sample_weight": weights}
    logits = logits_model(student)

    def loss():
        losses = distribution_loss(master(IMAGES, training=False), logits(IMAGES, training=True))
        return tf.reduce_sum(losses * weights.astype(np.float32)) / 64

    check_step(student, distiller, loss, options)


@pytest.mark.slow
def test_several_teachers_a_temperature_features_and_the_labels():
    """All that a distillation such as BNext's has: two teachers, softened, feature maps, and the labels' own loss."""
    tf.keras.utils.set_random_seed(3)
    student, masters = tiny_network(2, (32, 32, 3)), [tiny_network(2, (32, 32, 3)), tiny_network(2, (32, 32, 3))]

    def absolute(teacher, student):
        return tf.reduce_mean(tf.abs(teacher - student), axis=[1, 2, 3])

    distiller = Distiller(
        student,
        masters,
        teacher_weights=[0.7, 0.2],
        temperature=4.0,
        label_weight=0.3,
        features=["stage1", ("stem_bn", "stem_conv")],
        feature_loss=absolute,
        feature_weight=0.5,
    )
    maps = [student.get_layer("stage1_block1_bn").output, student.get_layer("stem_bn").output]
    ours = tf.keras.Model(student.inputs, [logits_model(student).output, *maps])

    def loss():
        logits, stage, stem = ours(IMAGES, training=True)
        total = 0.3 * tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(LABELS, tf.nn.softmax(logits)))
        for weight, master in zip((0.7, 0.2), masters, strict=True):
            theirs = [master.get_layer(name).output for name in ("logits", "stage1_block1_bn", "stem_conv")]
            target, their_stage, their_stem = tf.keras.Model(master.inputs, theirs)(IMAGES, training=False)
            softened = -tf.reduce_sum(tf.nn.softmax(target / 4) * tf.nn.log_softmax(logits / 4), axis=1)
            compared = 0.5 * (absolute(their_stage, stage) + absolute(their_stem, stem))
            total += weight * tf.reduce_mean(16 * softened + compared)
        return total

    check_step(student, distiller, loss)
    assert len(distiller.trainable_weights) == len(student.trainable_weights)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"teacher_weights": [0.5, 0.5]},
        {"features": [("stem_conv", "dense")]},
        {"features": ["missing"]},
        {"teachers": None, "features": ["stem_conv"]},
    ],
)
def test_arguments_that_do_not_suit(options):
    with pytest.raises(ValueError):
        Distiller(tiny_network(2, (32, 32, 3)), **{"teachers": teacher(), **options})


@pytest.mark.slow
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


@pytest.mark.slow
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
    other = Distiller(tiny_network(2, (32, 32, 3)), teacher())
    other.load_weights(str(tmp_path / "student.weights.h5"))
    np.testing.assert_array_equal(other.predict(IMAGES, verbose=0), expected)


@pytest.mark.slow
def test_the_bar_shows_the_loss_of_the_history(capsys):
    """Keras averages what it does not know to be a mean once more."""
    *_, distiller = pair()
    distiller.compile(tf.keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    for _ in range(2):  # also after an evaluation, which makes metrics of its own
        loss = distiller.fit(IMAGES, LABELS, batch_size=8, verbose=1).history["loss"][0]
        shown = re.findall(r"loss: ([0-9.]+)", capsys.readouterr().out)[-1]
        assert float(shown) == pytest.approx(loss, abs=1e-3)
        distiller.evaluate(IMAGES, LABELS, verbose=0)


@pytest.mark.slow
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


def spellings():
    """Functions of a model that returns logits, each of which gives a model of the same probabilities."""
    layers, models = tf.keras.layers, tf.keras.Model

    class Subclassed(models):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, inputs, training=None):
            return tf.nn.softmax(self.inner(inputs, training=training))

    def then(layer):
        return lambda model: models(model.inputs, layer(model.output))

    def nested(model):
        image = tf.keras.Input((32, 32, 3))
        return models(image, then(layers.Softmax())(model)(image))

    def by_hand(logits):
        powers = tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True))
        return powers / tf.reduce_sum(powers, -1, keepdims=True)

    def same(activation):
        return lambda model: then(layers.Dense(2, activation, kernel_initializer="identity"))(model)

    return {
        "Softmax": then(layers.Softmax()),
        "Activation": then(layers.Activation("softmax")),
        "Activation of TensorFlow's": then(layers.Activation(tf.nn.softmax)),
        "Dense": same("softmax"),
        "Dense with TensorFlow's": same(tf.nn.softmax),
        "an operation": then(tf.nn.softmax),
        "Lambda": then(layers.Lambda(lambda x: tf.nn.softmax(x))),
        "by hand": then(by_hand),
        "a cast behind it": then(lambda x: tf.cast(tf.nn.softmax(x), tf.float64)),
        "a shape behind it": then(lambda x: layers.Reshape((2,))(tf.nn.softmax(x))),
        "a model in a model": nested,
        "a sequence of models": lambda model: tf.keras.Sequential([layers.RandomFlip(), nested(model)]),
        "no functional model": Subclassed,
        "logits": lambda model: model,
        "logarithms": then(tf.nn.log_softmax),
        "twice the same model": lambda model: [nested(model), nested(model)][0],
    }


@pytest.mark.slow
@pytest.mark.parametrize("spelling", spellings())
def test_what_a_model_puts_out_decides(spelling):
    """Not how its softmax is spelled: as a teacher and as a student."""
    logits = plain()
    model = spellings()[spelling](logits)
    model(IMAGES[:1])
    found = tf.nn.softmax(logits_model(model)(IMAGES, training=False))
    np.testing.assert_allclose(found, tf.nn.softmax(logits(IMAGES)), rtol=1e-3)
    loss = tf.reduce_mean(distribution_loss(logits(IMAGES), logits(IMAGES)))
    distillers = [Distiller(plain(), model)]
    if spelling != "a sequence of models":  # which flips its images in training
        distillers.append(Distiller(model, logits))
    for distiller in distillers:
        distiller.compile(tf.keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        found = distiller.fit(IMAGES, LABELS, batch_size=64, verbose=0).history["loss"][0]
        assert found == pytest.approx(float(loss), rel=1e-3)


def refused():
    model = teacher()
    layers = tf.keras.layers
    return {
        "sigmoid": tf.keras.Model(model.inputs, layers.Activation("sigmoid")(model.output)),
        "sigmoid in Dense": tf.keras.Model(model.inputs, layers.Dense(3, "sigmoid")(model.output)),
        "one class": tf.keras.Model(model.inputs, layers.Dense(1)(model.output)),
        "feature maps": tf.keras.Model(model.inputs, model.layers[0].output),
        "two outputs": tf.keras.Model(model.inputs, [model.output, model.output]),
        "no numbers": tf.keras.Model(model.inputs, model.output * np.nan),
        "Keras 3": keras.Sequential([keras.layers.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_is_neither_logits_nor_probabilities_is_refused(kind):
    with pytest.raises(ValueError):
        logits_model(refused()[kind])


def test_classes_must_be_the_same():
    with pytest.raises(ValueError, match=r"3.*2"):
        Distiller(tiny_network(3, (32, 32, 3)), teacher())
