"""The trainer: runs and their records."""

from __future__ import annotations

import dataclasses
import json
import logging

import keras
import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import ScaledSign
from onebit.recipes import DivergedError, trainer
from onebit.util.memory import custom_gradients
from tests.recipes.models import DATA, plain_network, plain_recipe, recipe, striped_images, tiny_network

TRAIN, TEST = DATA
FLOATS = TEST[0].astype(np.float32)


def train(recipe, output, **options):
    return recipes.train(recipe, output, **{"data": DATA, "precision": "float32", "verbose": 0, **options})


def saved(output):
    return tf.keras.models.load_model(output / "model.keras")


def top1(model, images=FLOATS, labels=TEST[1]):
    return 100 * float((model.predict(images, verbose=0).argmax(1) == labels).mean())


def test_a_run_leaves_a_model_its_packed_file_and_a_record(finished):
    output, record = finished
    assert record == json.loads((output / "record.json").read_text())
    assert [(row["stage"], row["epoch"]) for row in record["history"]] == [
        (f"step{stage}", epoch) for stage in (1, 2) for epoch in (1, 2, 3)
    ]
    first = record["history"][:3]
    assert first[-1]["loss"] < first[0]["loss"]
    assert all(np.isfinite(row["loss"]) and 0 <= row["flip_ratio"] <= 1 for row in record["history"])
    assert list((output / "tensorboard").rglob("events*"))
    assert (record["test"]["images"], record["test"]["top1"]) == (64, pytest.approx(top1(saved(output))))
    packed = tiny_network(2, (32, 32, 3))
    zoo.load_weights(packed, output / "model.onebit")
    np.testing.assert_array_equal(packed.predict(FLOATS, verbose=0), saved(output).predict(FLOATS, verbose=0))


def test_a_finished_run_is_not_run_again(finished):
    output, record = finished
    before = (output / "model.keras").stat().st_mtime_ns
    assert train(recipe(), output) == record
    assert (output / "model.keras").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_keeps_the_precision_it_was_started_with(finished, monkeypatch):
    """Also on a machine on which another is the fastest; it can be told, too."""
    output, record = finished
    monkeypatch.setattr(trainer, "fast_precision", lambda: "mixed_float16")
    assert train(recipe(), output, precision="auto") == record
    with pytest.raises(ValueError, match=r"precision 'float32' instead of 'mixed_float16'"):
        train(recipe(), output, precision="mixed_float16")


@pytest.mark.slow
def test_figures_are_those_of_the_packed_file_in_float32(tmp_path):
    record = train(recipe(1, stages=1), tmp_path / "run", precision="mixed_bfloat16")
    network = tiny_network(2, (32, 32, 3))
    zoo.load_weights(network, tmp_path / "run" / "model.onebit")
    network.compile(loss="sparse_categorical_crossentropy")
    assert record["test"]["top1"] == pytest.approx(top1(network))
    assert record["test"]["loss"] == pytest.approx(network.evaluate(FLOATS, TEST[1], verbose=0), rel=1e-5)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
def test_a_trial_with_fewer_images_than_a_batch(tmp_path):
    record = train(plain_recipe(), tmp_path / "trial", limit=np.int64(16), seed=np.int64(3))
    assert (record["training_images"], record["test"]["images"], record["seed"]) == (16, 16, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", value) for value in (-1, "a", 1.5, 2**31, None, True)),
        *(("limit", value) for value in (0, 2.0, True)),
        *(("validation", value) for value in (-1, 0.1, 5)),
        ("precision", "bf16"),
        ("class_weight", {2: 1.0}),
        ("class_weight", {0: -1.0}),
        ("callbacks", [keras.callbacks.EarlyStopping()]),
        ("callbacks", [tf.keras.callbacks.ReduceLROnPlateau("loss")]),
        ("callbacks", [tf.keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)]),
        ("data", [TRAIN]),
        ("change", lambda network: None),
    ],
)
def test_arguments_are_checked(name, value, tmp_path):
    with pytest.raises(ValueError, match=name):
        train(plain_recipe(), tmp_path / "run", **{name: value})
    assert not list(tmp_path.rglob("model.*"))


@pytest.mark.slow
def test_lengths_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size.* 8 .*32"):
        train(recipe(), tmp_path / "run", data=(striped_images(8, 0), TEST))
    with pytest.raises(ValueError, match="batch_size"):
        train(dataclasses.replace(recipe(), batch_size=0), tmp_path / "run")
    with pytest.raises(ValueError, match=r"epochs.*step1"):
        train(recipe(epochs=0), tmp_path / "run")


def test_a_recipe_for_another_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"reactnet.*step"):
        train("reactnet", tmp_path / "run", model="irnet_resnet20", teacher="labels", batch_size=32)


@pytest.mark.slow
def test_the_saved_network_can_be_fine_tuned(tmp_path):
    """All of it, also what the last stage froze, and with an optimizer of one's own."""

    def frozen(classes, shape):
        network = plain_network(classes, shape)
        network.get_layer("norm").trainable = False
        return network

    train(plain_recipe(build=frozen), tmp_path / "run")
    model = saved(tmp_path / "run")
    assert model.optimizer is None
    before = [variable.numpy() for variable in model.trainable_variables]
    assert len(before) == len(plain_network(2, (32, 32, 3)).trainable_variables)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(FLOATS, 1 - TEST[1], verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.any(variable.numpy() != old), variable.name


@pytest.mark.slow
def test_teachers(tmp_path):
    """The recipe's own is for the classes of its dataset, and so is not taken for other images unasked."""
    for dataset in ("cifar10", "imagenet2012"):
        chosen = recipes.get_recipe("reactnet", dataset=dataset)
        name, tag = chosen.settings["teacher"].split(":")
        assert zoo.get_weights(name, tag).dataset == dataset
        assert all(stage.teachers for stage in chosen.stages)
    with pytest.raises(ValueError, match="teacher"):
        recipes.get_recipe("reactnet", dataset="svhn")
    with pytest.raises(ValueError, match=r"teacher.*irnet_resnet20_real:cifar10"):
        train("reactnet", tmp_path / "run", batch_size=32)
    with pytest.raises(ValueError, match=r"2 classes.*10"):
        train("reactnet", tmp_path / "run", batch_size=32, teacher="irnet_resnet20_real:cifar10")


class Seen(tf.keras.callbacks.Callback):
    """Keeps what an epoch's figures are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_end(self, epoch, logs=None):
        self.names.append(set(logs))


@pytest.mark.slow
def test_epochs_are_measured_on_the_test_images_by_their_name(tmp_path):
    """Nothing is chosen by them. With more than ten classes, the five best count as well."""
    seen, (images, labels) = Seen(), TRAIN
    data = (images, np.arange(len(labels)) % 12), (TEST[0], np.arange(64) % 12)
    record = train(plain_recipe(), tmp_path / "run", data=data, callbacks=[seen])
    assert [names >= {"loss", "test_accuracy", "top5", "test_top5", "learning_rate"} for names in seen.names] == [1, 1]
    assert not any(name.startswith("val") for name in set().union(*seen.names, record))
    last = record["history"][-1]
    assert record["test"]["top5"] == pytest.approx(100 * last["test_top5"])
    assert record["test"]["top1"] == pytest.approx(100 * last["test_accuracy"])
    assert not (tmp_path / "run" / "best.weights.h5").exists()


@pytest.mark.slow
def test_epochs_are_measured_on_validation_images_and_the_end_on_the_test_images(tmp_path):
    """By the former the best network of the last stage is chosen."""
    wrong = TEST[0], 1 - TEST[1]  # as test images, so that the two accuracies add up to 1
    data = TRAIN, TEST, tuple(part[:32] for part in wrong)
    record = train(plain_recipe(3, stages=2), tmp_path / "run", data=data)
    model = saved(tmp_path / "run")
    rows = [row for row in record["history"] if row["stage"] == "step2"]
    assert 100 * rows[-1]["val_accuracy"] == pytest.approx(record["val"]["top1"]) == pytest.approx(top1(model))
    assert record["test"]["top1"] == pytest.approx(100 - top1(model, FLOATS[:32], TEST[1][:32]))
    assert (record["test"]["images"], len(record["given"])) == (32, 3)
    model.load_weights(tmp_path / "run" / "best.weights.h5")
    assert top1(model) == pytest.approx(100 * max(row["val_accuracy"] for row in rows))


class Stop(tf.keras.callbacks.Callback):
    """Stops the first training after two epochs, and puts back the weights of the first, as EarlyStopping may do."""

    def __init__(self):
        super().__init__()
        self.trainings = 0

    def on_train_begin(self, logs=None):
        self.trainings += 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0 and self.trainings == 1:
            self.kept = [weight + 0.1 for weight in self.model.get_weights()]
        self.model.stop_training = epoch == 1 and self.trainings == 1

    def on_train_end(self, logs=None):
        if self.model.stop_training:
            self.model.set_weights(self.kept)


@pytest.mark.slow
def test_a_callback_that_ends_a_stage(tmp_path):
    """What it leaves is finished, handed over, saved and measured; the stage is not gone on with."""
    finished, stop, given = [], Stop(), []

    def finish(network, batches):
        finished.append(network.name)

    def init_from(before, network):
        given.append(before.get_weights())

    chosen = plain_recipe(4, stages=2, finish=finish)
    chosen.stages[1] = dataclasses.replace(chosen.stages[1], epochs=1, init_from=init_from)
    record = train(chosen, tmp_path / "run", callbacks=[stop])
    assert [(row["stage"], row["epoch"]) for row in record["history"]] == [("step1", 1), ("step1", 2), ("step2", 1)]
    assert len(finished) == 2
    for one, other in zip(given[0], stop.kept, strict=True):
        np.testing.assert_array_equal(one, other)
    assert record["test"]["top1"] == pytest.approx(top1(saved(tmp_path / "run")))
    (tmp_path / "run" / "record.json").unlink()
    again = train(chosen, tmp_path / "run")
    assert (again["history"], again["test"]) == (record["history"], record["test"])
    assert stop.trainings == 2

    only = train(plain_recipe(4), tmp_path / "only", callbacks=[Stop()])
    model = saved(tmp_path / "only")
    assert only["test"]["top1"] == pytest.approx(top1(model))
    packed = plain_network(2, (32, 32, 3))
    zoo.load_weights(packed, tmp_path / "only" / "model.onebit")
    np.testing.assert_array_equal(packed.predict(FLOATS, verbose=0), model.predict(FLOATS, verbose=0))


@pytest.mark.slow
def test_a_callback_must_not_set_the_rate_that_the_schedule_decides(tmp_path):
    def set_rate(self, *_):
        tf.keras.backend.set_value(self.model.optimizer.learning_rate, 0.01)

    for moment in ("on_epoch_begin", "on_epoch_end"):
        callback = type("Rate", (tf.keras.callbacks.Callback,), {moment: set_rate})()
        with pytest.raises(ValueError, match="learning rate"):
            train(plain_recipe(), tmp_path / moment, callbacks=[callback])
    constant = plain_recipe(3, optimizer=lambda steps: tf.keras.optimizers.SGD(0.5))
    halving = tf.keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    record = train(constant, tmp_path / "run", callbacks=[halving])
    assert [row["learning_rate"] for row in record["history"]] == [0.25, 0.125, 0.0625]


def losses(record):
    return [row["loss"] for row in record["history"]]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"teachers": [plain_network], "repeats": True, "label_weight": 0.5}])
def test_weights_of_classes_and_of_images(changes, tmp_path):
    """Both weigh the loss, on the labels and towards a cached teacher (for one that is asked, see `test_distiller`)."""
    images, labels = TRAIN
    by_image = np.linspace(0, 3, len(labels))
    product = by_image * np.where(labels == 1, 2.0, 0.5)
    chosen, weighted = plain_recipe(1, **changes), ((images, labels, by_image), TEST)
    both = train(chosen, tmp_path / "both", class_weight={0: 0.5, 1: 2}, data=weighted)
    same = train(chosen, tmp_path / "same", data=((images, labels, product), TEST))
    assert losses(both) == pytest.approx(losses(same), rel=1e-5)
    with pytest.raises(ValueError, match="class_weight"):
        train(chosen, tmp_path / "both", class_weight={0: 0.5}, data=weighted)
    assert losses(train(chosen, tmp_path / "images", data=weighted)) != pytest.approx(losses(both), rel=0.01)


@pytest.mark.slow
def test_other_images_of_a_dataset_are_another_run(tmp_path):
    """Also of as many images of the same shape, and whatever their labels' shape."""
    dataset = tf.data.Dataset.from_tensor_slices(TRAIN).batch(50)
    record = train(plain_recipe(1), tmp_path / "run", data=(dataset, TEST))
    column = tf.data.Dataset.from_tensor_slices((TRAIN[0], TRAIN[1][:, None]))
    assert (
        train(plain_recipe(1), tmp_path / "column", data=(column, (TEST[0], TEST[1][:, None])))["test"]
        == record["test"]
    )
    for other in ((TRAIN[0], 1 - TRAIN[1]), striped_images(192, 5)):
        with pytest.raises(ValueError, match="sha256"):
            train(plain_recipe(1), tmp_path / "run", data=(tf.data.Dataset.from_tensor_slices(other), TEST))
    assert train(plain_recipe(1), tmp_path / "run", data=(dataset, TEST)) == record


@pytest.mark.parametrize("form", [tuple, tf.data.Dataset.from_tensor_slices])
@pytest.mark.parametrize("labels", [TRAIN[1] * 0, TRAIN[1] * 0 + 3, TRAIN[1] + 1])
def test_labels_that_no_training_can_be_meant_for(labels, form, tmp_path):
    """One class alone, and labels that count from 1."""
    with pytest.raises(ValueError, match=r"[Ll]abel"):
        train(plain_recipe(1), tmp_path / "run", data=(form((TRAIN[0], labels)), TEST))


@pytest.mark.slow
def test_classes_that_nobody_has(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    train(plain_recipe(1), tmp_path / "run", data=((TRAIN[0], 3 * TRAIN[1]), (TEST[0], 3 * TEST[1])))
    assert "[1, 2]" in caplog.text
    with pytest.raises(ValueError, match=r"[Ll]abel"):
        train(plain_recipe(1), tmp_path / "other", data=(TRAIN, (TEST[0], TEST[1] + 1)))


@pytest.mark.slow
def test_a_changed_network_never_passes_for_the_recipe_s_own(tmp_path):
    """Another quantizer in a network of the zoo, trained by the paper's recipe."""

    def scaled(layer):
        if isinstance(layer, lq.layers.QuantConv2D):
            return type(layer).from_config(layer.get_config() | {"kernel_quantizer": ScaledSign()})
        return None

    def change(network):
        return zoo.replace_layers(network, scaled)

    settings = {"epochs": 1, "batch_size": 32, "depth": 8, "width": 1, "cutout": False}
    record = train("mcdonnell", tmp_path / "run", change=change, **settings)
    assert "change" in record["changed"]
    model = saved(tmp_path / "run")
    kinds = {type(layer.kernel_quantizer) for layer in model.layers if getattr(layer, "kernel_quantizer", None)}
    assert kinds == {ScaledSign}
    with pytest.raises(ValueError):
        zoo.load_packed(tmp_path / "run" / "model.onebit")
    network = change(zoo.WideResNet(depth=8, width=1, num_classes=2))
    zoo.load_weights(network, tmp_path / "run" / "model.onebit")
    np.testing.assert_allclose(network(FLOATS), model(FLOATS), atol=1e-6)
    chosen = recipes.get_recipe("mcdonnell", **settings)
    [stage] = chosen.stages
    other = dataclasses.replace(stage, build=lambda classes, shape: change(stage.build(classes, shape)))
    for attempt, options in (
        ("mcdonnell", settings),
        ("mcdonnell", {**settings, "change": lambda network: network}),
        (chosen, {}),
        (dataclasses.replace(chosen, stages=[other]), {}),
    ):
        with pytest.raises(ValueError, match=r"networks|changed"):
            train(attempt, tmp_path / "run", **options)


@pytest.mark.slow
def test_a_scope_of_larq_that_a_failed_call_left_on_changes_nothing(finished, tmp_path):
    """And TensorFlow keeps nothing of a run for ever."""
    before = custom_gradients()
    scope = lq.context.quantized_scope(True)
    scope.__enter__()
    train(recipe(), tmp_path / "run")
    assert lq.context.should_quantize()
    lq.context.quantized_scope(False).__enter__()
    assert custom_gradients() == before
    for one, other in zip(saved(tmp_path / "run").get_weights(), saved(finished[0]).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_weights_that_are_no_numbers_stop_too(tmp_path):
    """The last batch's: no loss tells of them."""
    one_batch = TRAIN[0][:32], TRAIN[1][:32]
    with pytest.raises(DivergedError):
        train(recipe(1, lr=1e38, stages=1), tmp_path / "run", data=(one_batch, TEST))
    assert not (tmp_path / "run" / "record.json").exists()
    assert not list((tmp_path / "run").rglob("ckpt*"))


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_epoch(tmp_path):
    with pytest.raises(DivergedError, match=r"batch \d+ of epoch \d+"):
        train(recipe(lr=1e30, stages=1), tmp_path / "run")
    assert not (tmp_path / "run" / "record.json").exists()
