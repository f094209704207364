"""The trainer: runs and their records."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.recipes import DivergedError, trainer
from tests.recipes.models import DATA, recipe, striped_images, tiny_network


def test_a_run_leaves_a_model_its_packed_file_and_a_record(finished):
    output, record = finished
    assert record == json.loads((output / "record.json").read_text())
    assert [(row["stage"], row["epoch"]) for row in record["history"]] == [
        (f"step{stage}", epoch) for stage in (1, 2) for epoch in (1, 2, 3)
    ]
    first = record["history"][:3]
    assert first[-1]["loss"] < first[0]["loss"]
    assert all(np.isfinite(row["loss"]) and 0 <= row["flip_ratio"] <= 1 for row in record["history"])
    assert record["test"]["images"] == 64
    assert list((output / "tensorboard").rglob("events*"))
    model = tf.keras.models.load_model(output / "model.keras")
    tf.keras.mixed_precision.set_global_policy(record["precision"])
    packed = tiny_network(2, (32, 32, 3))
    zoo.load_weights(packed, output / "model.onebit")
    images = DATA[1][0].astype(np.float32)
    np.testing.assert_array_equal(packed.predict(images, verbose=0), model.predict(images, verbose=0))
    accuracy = (model.predict(images, verbose=0).argmax(1) == DATA[1][1]).mean()
    assert record["test"]["top1"] == pytest.approx(100 * accuracy)


def test_a_finished_run_is_not_run_again(finished):
    output, record = finished
    before = (output / "model.keras").stat().st_mtime_ns
    assert recipes.train(recipe(), output, data=DATA, verbose=0) == record
    assert (output / "model.keras").stat().st_mtime_ns == before


def test_a_run_keeps_the_precision_it_was_started_with(finished, monkeypatch):
    """Also on a machine on which another is the fastest; it can be told, too."""
    output, record = finished
    monkeypatch.setattr(trainer, "fast_precision", lambda: "mixed_float16")
    assert recipes.train(recipe(), output, data=DATA, verbose=0) == record
    with pytest.raises(ValueError, match=f"precision '{record['precision']}' instead of 'mixed_float16'"):
        recipes.train(recipe(), output, data=DATA, precision="mixed_float16")
    with pytest.raises(ValueError, match=r"precision must be one of auto, float32, .* not 'bf16'"):
        recipes.train(recipe(), output, data=DATA, precision="bf16")


def test_a_trial_with_fewer_images_than_a_batch(tmp_path):
    record = recipes.train(recipe(epochs=1, stages=1), tmp_path / "trial", data=DATA, limit=16, verbose=0)
    assert (record["training_images"], record["test"]["images"]) == (16, 16)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        recipes.train(recipe(), tmp_path / "none", data=DATA, limit=0)


@pytest.mark.parametrize("seed", [-1, "a", 1.5, 2**31, None])
def test_the_seed_is_checked(seed, tmp_path):
    with pytest.raises(ValueError, match=rf"seed must be an integer from 0 to 2147483647, not {seed!r}"):
        recipes.train(recipe(), tmp_path / "run", data=DATA, seed=seed)
    assert not (tmp_path / "run").exists()


def test_the_saved_network_can_be_fine_tuned(tmp_path):
    """All of it, also what the last stage froze, and with an optimizer of one's own."""

    def frozen(classes, shape):
        network = tiny_network(classes, shape)
        for name in ("stem_conv", "stage1_block1_conv"):
            network.get_layer(name).trainable = False
        return network

    last = dataclasses.replace(recipe(1).stages[0], build=frozen)
    recipes.train(dataclasses.replace(recipe(1), stages=[last]), tmp_path / "run", data=DATA, verbose=0)
    model = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.optimizer is None
    assert len(model.trainable_variables) == len(tiny_network(2, (32, 32, 3)).trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(DATA[0][0][:32].astype(np.float32), DATA[0][1][:32], verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.any(variable.numpy() != old), variable.name


def test_the_best_network_is_one_of_the_last_stage(finished):
    """The stages before may have other, real-valued and better ones."""
    output, record = finished
    tf.keras.mixed_precision.set_global_policy(record["precision"])
    network = tiny_network(2, (32, 32, 3))
    network.load_weights(output / "best.weights.h5")
    accuracy = (network.predict(DATA[1][0].astype(np.float32), verbose=0).argmax(1) == DATA[1][1]).mean()
    assert accuracy == pytest.approx(max(row["val_accuracy"] for row in record["history"] if row["stage"] == "step2"))


def test_lengths_are_checked(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at least 1, and at most the 8 training images, not 32"):
        recipes.train(recipe(), tmp_path / "run", data=(striped_images(8, 0), DATA[1]))
    few = dataclasses.replace(recipe(), batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        recipes.train(few, tmp_path / "run", data=DATA)
    with pytest.raises(ValueError, match=r"epochs must be at least 1, not 0 \(stage 'step1'\)"):
        recipes.train(recipe(epochs=0), tmp_path / "run", data=DATA)
    with pytest.raises(ValueError, match="student has 2 classes and the teacher 10: give a teacher"):
        recipes.train("reactnet", tmp_path / "run", data=DATA, batch_size=32, cache_teacher=True, verbose=0)
    with pytest.raises(ValueError, match=r"'reactnet' is not for this network: .*no argument 'step'"):
        recipes.train("reactnet", tmp_path / "run", data=DATA, model="irnet_resnet20", batch_size=32, verbose=0)


def test_a_network_that_is_unknown_is_named_before_anything_is_read():
    with pytest.raises(ValueError, match=r"no model 'irnet_resnet2'\. Did you mean .*'irnet_resnet20'"):
        recipes.get_recipe("irnet", model="irnet_resnet2")


def test_reactnet_has_a_teacher_or_is_told_that_it_has_none():
    for dataset, teacher in (("cifar10", "irnet_resnet20_real:cifar10"), ("imagenet2012", "resnet34:imagenet")):
        recipe = recipes.get_recipe("reactnet", dataset=dataset)
        assert recipe.settings["teacher"] == teacher and all(stage.teachers for stage in recipe.stages)
        name, tag = teacher.split(":")
        assert zoo.get_weights(name, tag).dataset == dataset
    with pytest.raises(ValueError, match="teacher"):
        recipes.get_recipe("reactnet", dataset="svhn")
    labels = recipes.get_recipe("reactnet", dataset="svhn", teacher="labels")
    assert not any(stage.teachers for stage in labels.stages)


class Seen(tf.keras.callbacks.Callback):
    """Keeps what an epoch's figures are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_end(self, epoch, logs=None):
        self.names.append(set(logs))


def test_callbacks_of_one_s_own_and_the_five_best_of_many_classes(tmp_path):
    seen, (images, labels) = Seen(), DATA[0]
    data = (images, np.arange(len(labels)) % 12), (DATA[1][0], np.arange(64) % 12)
    record = recipes.train(recipe(2, stages=1), tmp_path / "run", data=data, callbacks=[seen], verbose=0)
    assert [names >= {"loss", "val_accuracy", "top5", "val_top5", "flip_ratio"} for names in seen.names] == [True, True]
    last = record["history"][-1]
    assert record["test"]["top5"] == 100 * last["val_top5"] > record["test"]["top1"] == 100 * last["val_accuracy"]


def test_epochs_are_measured_on_validation_images_and_the_end_on_the_test_images(tmp_path):
    wrong = DATA[1][0], 1 - DATA[1][1]  # as test images, so that the two accuracies add up to 1
    data = DATA[0], DATA[1], tuple(part[:32] for part in wrong)
    record = recipes.train(recipe(2, stages=1), tmp_path / "run", data=data, precision="float32", verbose=0)
    model = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    right = model.predict(DATA[1][0].astype(np.float32), verbose=0).argmax(1) == DATA[1][1]
    assert record["history"][-1]["val_accuracy"] == pytest.approx(right.mean())
    assert record["test"]["top1"] == pytest.approx(100 * (1 - right[:32].mean()))
    assert record["test"]["images"] == 32
    assert len(record["given"]) == 3


@pytest.mark.parametrize("validation", [-1, 0.1, 5])
def test_validation_is_a_number_of_the_dataset_s_images(validation, tmp_path):
    with pytest.raises(ValueError, match=rf"validation must be a number .*, not {validation}\. .*data=\(training, val"):
        recipes.train(recipe(), tmp_path / "run", data=DATA, validation=validation)


def test_weights_that_are_no_numbers_stop_too(tmp_path):
    """The last batch's: no loss tells of them."""
    one_batch = DATA[0][0][:32], DATA[0][1][:32]
    with pytest.raises(DivergedError, match=r"not finite after epoch 1|evaluation's loss is nan after epoch 1"):
        recipes.train(recipe(1, lr=1e38, stages=1), tmp_path / "run", data=(one_batch, DATA[1]), verbose=0)
    assert not (tmp_path / "run" / "record.json").exists()
    assert not list((tmp_path / "run").rglob("ckpt*"))


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_epoch(tmp_path):
    with pytest.raises(DivergedError, match=r"batch \d+ of epoch \d+"):
        recipes.train(recipe(lr=1e30, stages=1), tmp_path / "run", data=DATA, verbose=0)
    assert not (tmp_path / "run" / "record.json").exists()
