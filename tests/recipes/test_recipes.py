"""Every recipe: its schedule and decay by the papers' numbers, its stages at small scale, one handed to the next."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.recipes.birealnet import inherit_all
from onebit.recipes.reactnet import load_teacher
from onebit.zoo.naming import binary_kernels, named_variables
from tests.recipes.models import striped_images

SHAPE = (32, 32, 3)


def linear(initial, epochs):
    return lambda epoch: initial * (1 - (epoch + 1) / epochs)


def cosine(initial, epochs):
    return lambda epoch: initial * (1 + math.cos(math.pi * epoch / epochs)) / 2


def steps(initial, *drops):
    return lambda epoch: initial * 0.1 ** sum(epoch >= drop for drop in drops)


def restarts(epoch):
    """The paper's: rates at the first batch of epochs 0, 1, 2, ..., and cycles of 2, 4, 8, ... epochs."""
    start = max(end for end in (0, 2, 6, 14, 30, 62, 126) if end <= epoch)
    return 1e-4 + (0.1 - 1e-4) / 2 * (1 + math.cos(math.pi * (epoch - start) / (start + 2)))


# By recipe and stage: the rate at the first batch of an epoch, and the length.
SCHEDULES = {
    ("birealnet", "train"): (linear(1e-3, 256), 256),
    ("birealnet_staged", "relu"): (steps(0.1, 10, 15), 20),
    ("birealnet_staged", "leaky_clip"): (steps(0.01, 10, 15), 20),
    ("birealnet_staged", "clip"): (steps(0.01, 10, 15), 20),
    ("birealnet_staged", "binary"): (steps(0.01, 10, 15), 20),
    ("birealnet_staged", "unit_weights"): (steps(1e-4), 1),
    ("reactnet", "step1"): (linear(1.25e-3, 128), 128),
    ("reactnet", "step2"): (linear(1.25e-3, 128), 128),
    ("ftbnn", "train"): (linear(1e-3, 120), 120),
    ("irnet", "train"): (cosine(0.1, 400), 400),
    ("irnet_imagenet", "train"): (lambda e: 0.2 + 0.15 * e if e < 4 else steps(0.8, 30, 60, 90)(e), 100),
    ("mcdonnell", "train"): (restarts, 254),
}


def test_the_schedules_of_all_stages_are_stated():
    stages = {(name, stage.name) for name in recipes.list_recipes() for stage in recipes.get_recipe(name).stages}
    assert stages == set(SCHEDULES)


@pytest.mark.parametrize(("recipe", "name"), SCHEDULES)
def test_schedule(recipe, name, float64):
    rate, epochs = SCHEDULES[recipe, name]
    stage = next(stage for stage in recipes.get_recipe(recipe).stages if stage.name == name)
    assert stage.epochs == epochs
    batches = 625  # of ImageNet, 2048 images each; the warm-up's 2,500 batches are then 4 epochs
    schedule = stage.optimizer(batches)._learning_rate
    for epoch in {0, 1, 2, epochs // 3, epochs // 2, 3 * epochs // 4, 9 * epochs // 10, epochs - 1}:
        if epoch < epochs:
            assert float(schedule(epoch * batches)) == pytest.approx(rate(epoch), rel=1e-9, abs=1e-15)


class TestDecay:
    """Which variables decay, by the papers' code."""

    def decayed(self, recipe, index=0, **settings):
        stage = recipes.get_recipe(recipe, **settings).stages[index]
        model, optimizer = stage.build(10, SHAPE), stage.optimizer(10)
        names = [variable.name for variable in model.trainable_variables]
        chosen = {name.split(":")[0] for name in names if optimizer.l2 and optimizer.decays(name)}
        return optimizer.l2, chosen, {name.split(":")[0] for name in names}

    def test_everything(self):
        l2, chosen, names = self.decayed("irnet")
        assert (l2, chosen) == (1e-4, names)

    def test_kernels(self):
        l2, chosen, names = self.decayed("mcdonnell", width=1, depth=8)
        assert l2 == 5e-4
        assert self.decayed("mcdonnell", width=1, depth=8, dataset="imagenet32")[0] == 1e-4
        assert chosen == {name for name in names if name.endswith("/kernel")}
        assert len(chosen) == 8

    def test_nothing(self):
        assert self.decayed("birealnet")[0] == 0
        assert self.decayed("reactnet", 1)[0] == 0

    def test_reactnet_s_first_step(self):
        l2, chosen, names = self.decayed("reactnet")
        assert l2 == 1e-5
        assert not any("bn" in name or name.startswith("logits") or "slope" in name for name in chosen)
        assert {name for name in names if name.endswith("kernel") and not name.startswith("logits")} <= chosen
        assert any("alpha" in name for name in chosen), "thresholds"
        assert any("shift" in name for name in chosen), "shifts of RPReLU"

    def test_real_kernels(self):
        l2, chosen, _ = self.decayed("ftbnn")
        assert l2 == 1e-5
        assert chosen
        assert all(name.startswith(("stem", "logits")) or "shortcut" in name for name in chosen)


# Settings under which a recipe is quick: the network is as deep as ever, the images are few and small.
QUICK = {
    "birealnet": {"lr": 0.01},
    "birealnet_staged": {"pretraining_epochs": 3},
    "ftbnn": {"lr": 0.01},
    "irnet": {},
    "irnet_imagenet": {"model": "irnet_resnet20", "lr": 0.1, "warmup_lr": 0.05, "warmup_epochs": 0.5},
    "mcdonnell": {"depth": 8, "width": 1, "cutout": False, "average_moments": True},
    "reactnet": {"lr": 0.01, "cache_teacher": True},
}
FAST = {"mcdonnell"}


def small_images(count, seed):
    images, labels = striped_images(count, seed)
    return images[:, ::2, ::2], labels


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in recipes.list_recipes()]
)
def test_the_stages_learn_and_are_handed_over(name, tmp_path):
    settings = dict(QUICK[name])
    if name == "reactnet":
        teacher = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(16, 16, 3)), tf.keras.layers.Dense(2)])
        teacher.save(tmp_path / "teacher.keras")
        settings["teacher"] = str(tmp_path / "teacher.keras")
    recipe = recipes.get_recipe(name, epochs=3, batch_size=16, **settings)
    handed = []

    def watched(stage):
        if stage.inherit is None:
            return stage

        def inherit(before, network):
            stage.inherit(before, network)
            old, new = ({key: v.numpy() for key, v in named_variables(model).items()} for model in (before, network))
            assert {key for key in old if "_quantizer/" not in key} <= set(new)
            handed.append((stage.name, {key: (old[key], value) for key, value in new.items() if key in old}))

        return dataclasses.replace(stage, inherit=inherit)

    recipe = dataclasses.replace(recipe, stages=[watched(stage) for stage in recipe.stages])
    data = small_images(96, 0), small_images(32, 1)
    record = recipes.train(recipe, tmp_path / "run", data=data, verbose=0)
    rows = record["history"]
    assert [row["stage"] for row in rows] == [stage.name for stage in recipe.stages for _ in range(stage.epochs)]
    assert all(np.isfinite(row["loss"]) for row in rows)
    first = [row["loss"] for row in rows if row["stage"] == recipe.stages[0].name]
    assert min(first[1:]) < first[0]
    assert [stage for stage, _ in handed] == [stage.name for stage in recipe.stages[1:]]
    for stage, variables in handed:
        for key, (before, after) in variables.items():
            if stage == "unit_weights" and not np.array_equal(before, after):
                assert key.endswith("kernel"), "only binary kernels change"
                np.testing.assert_array_equal(after, np.where(before >= 0, 1, -1))
            elif stage != "unit_weights":
                np.testing.assert_array_equal(before, after)
    model = zoo.load_packed(tmp_path / "run" / "model.onebit")
    assert model.output_shape == (None, 2)


def test_the_last_stage_of_bi_real_net_trains_no_convolution():
    *_, before, last = recipes.get_recipe("birealnet_staged").stages
    assert any("conv" in variable.name for variable in before.build(10, SHAPE).trainable_variables)
    trained = last.build(10, SHAPE).trainable_variables
    assert {variable.name.split("/")[0].split("_")[-1] for variable in trained} == {"bn", "logits"}


def test_mcdonnell_cuts_out_of_cifar_alone():
    images = tf.fill([50, 28, 28, 1], tf.constant(7, tf.uint8))
    for dataset, settings, cuts in (("mnist", {}, False), ("mnist", {"cutout": True}, True), ("cifar10", {}, True)):
        [stage] = recipes.get_recipe("mcdonnell", dataset=dataset, **settings).stages
        inside = stage.augment(images, tf.constant([1, 2], tf.int64))[:, 4:-4, 4:-4]
        assert bool(tf.reduce_any(inside != 7)) == cuts


def test_a_teacher_sees_images_as_its_weights_want_them(tmp_path):
    model = zoo.WideResNet(depth=8, width=1, classifier_activation=None)
    path = zoo.save_packed(model, tmp_path / "teacher.onebit")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    teacher = load_teacher(str(path), "imagenet")
    expected = zoo.load_packed(path)(images)
    np.testing.assert_allclose(teacher(zoo.get_preprocessing("imagenet")(images)), expected, atol=2e-3)
    np.testing.assert_array_equal(load_teacher(str(path), "raw")(images), expected)


def test_the_released_code_of_reactnet_forgets_the_kernels():
    """Thresholds, normalisations and classifier are handed over; the binary kernels are not."""
    networks = {}
    for released in (False, True):
        first, second = recipes.get_recipe("reactnet", released=released).stages
        before, after = (stage.build(10, SHAPE) for stage in (first, second))
        for variable in before.variables:
            variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]))
        fresh = {name: kernel.variable.numpy() for name, kernel in binary_kernels(after).items()}
        second.inherit(before, after)
        networks[released] = fresh, named_variables(before), named_variables(after)
    for released, (fresh, before, after) in networks.items():
        for name, variable in after.items():
            if released and name in fresh:
                np.testing.assert_array_equal(variable, fresh[name])
            elif name in before:
                np.testing.assert_array_equal(variable, before[name])
        assert set(fresh) <= set(after)


def test_the_length_of_bi_real_nets_pretraining():
    """It is that of the binary stage, unless given."""
    for settings, lengths in (
        ({"epochs": 2}, [2, 2, 2, 2, 1]),
        ({"epochs": 2, "pretraining_epochs": 5}, [5, 5, 5, 2, 1]),
    ):
        assert [stage.epochs for stage in recipes.get_recipe("birealnet_staged", **settings).stages] == lengths


def test_networks_that_do_not_fit_hand_nothing_over():
    small, large = zoo.load("wide_resnet_20_1", num_classes=10), zoo.load("wide_resnet_20_1", num_classes=11)
    before = [weight.copy() for weight in large.get_weights()]
    with pytest.raises(ValueError, match=r"network of the stage before.*logits"):
        inherit_all(small, large)
    for one, other in zip(before, large.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
