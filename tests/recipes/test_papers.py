"""What the papers' recipes do: rates, decay, EDE and augmentation by the formulas of the official code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import EDESchedule, ede_schedule
from onebit.quantizers.ede import ede_quantizers
from onebit.recipes.data.augmentation import (
    colour_jitter,
    flip,
    flip_and_jitter,
    flip_and_light,
    lighting,
    random_flip,
    random_resized_crop,
    resize_random_crop,
    scale_jitter_crop,
)
from tests.recipes.models import tiny_network

SHAPE = (32, 32, 3)


def linear(epoch, epochs):
    return 1 - (epoch + 1) / epochs


def cosine(epoch, epochs):
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def drops(*parts):
    return lambda epoch, epochs: 0.1 ** sum(epoch >= part * epochs for part in parts)


def warm_up(epoch, epochs):
    """From a quarter of the rate to the rate in 4 % of the training."""
    return 0.25 + 0.75 * epoch / (0.04 * epochs) if epoch < 0.04 * epochs else drops(0.3, 0.6, 0.9)(epoch, epochs)


def restarts(epoch, epochs):
    """Cycles of 2, 4, 8, ... epochs, from 1 to a thousandth."""
    start = max(end for end in (0, 2, 6, 14, 30, 62, 126) if end <= epoch)
    return 1e-3 + (1 - 1e-3) / 2 * (1 + math.cos(math.pi * (epoch - start) / (start + 2)))


def one_cycle(epoch, epochs):
    return 1e-4 + (1 - 1e-4) / 2 * (1 + math.cos(math.pi * epoch / epochs))


HALVES = drops(0.5, 0.75)
RATES = [
    ("birealnet", {}, 0, linear, "lr", 1),
    ("birealnet_staged", {}, 0, HALVES, "pretraining_lr", 1),
    ("birealnet_staged", {}, 1, HALVES, "pretraining_lr", 0.1),
    ("birealnet_staged", {}, 2, HALVES, "pretraining_lr", 0.1),
    ("birealnet_staged", {}, 3, HALVES, "lr", 1),
    ("birealnet_staged", {}, 4, HALVES, "lr", 0.01),
    ("ftbnn", {}, 0, linear, "lr", 1),
    ("irnet", {}, 0, cosine, "lr", 1),
    ("irnet_imagenet", {}, 0, warm_up, "lr", 1),
    ("mcdonnell", {}, 0, restarts, "lr_max", 1),
    ("mcdonnell", {"activation": "shifted_relu"}, 0, one_cycle, "lr_max", 1),
    ("reactnet", {}, 0, linear, "lr", 1),
    ("reactnet", {}, 1, linear, "lr", 1),
]


@pytest.mark.parametrize(("name", "settings", "index", "formula", "peak", "factor"), RATES)
def test_rates(name, settings, index, formula, peak, factor, float64):
    """At the first batch of epochs, beside the official code's formulas."""
    recipe = recipes.get_recipe(name, **settings)
    stage, batches = recipe.stages[index], 625  # of ImageNet, 2048 images each
    rate = stage.optimizer(batches)._learning_rate
    length = stage.epochs
    for epoch in {0, 1, 2, length // 3, length // 2, 3 * length // 4, 9 * length // 10, length - 1} & {*range(length)}:
        expected = factor * recipe.settings[peak] * (formula(epoch, length) if length > 1 else 1)
        # Keras holds the rates of its own schedules in float32.
        assert float(rate(epoch * batches)) == pytest.approx(expected, rel=1e-6, abs=1e-15)
        if formula is HALVES:
            assert float(rate((epoch + 1) * batches - 1)) == float(rate(epoch * batches)), "all through the epoch"


@pytest.mark.parametrize("name", ["irnet", "irnet_imagenet"])
def test_ede_narrows_over_the_training(name):
    recipe = recipes.get_recipe(name, epochs=10)
    network = tiny_network(10, SHAPE)
    [callback] = recipe.stages[0].callbacks(network)
    assert isinstance(callback, EDESchedule)
    callback.set_model(network)
    callback.on_train_begin()
    for epoch in (0, 5, 9):
        callback.on_epoch_begin(epoch)
        k, t = ede_schedule(epoch, epochs=10, t_min=recipe.settings["t_min"], t_max=recipe.settings["t_max"])
        for quantizer in ede_quantizers(network):
            assert (float(quantizer.k), float(quantizer.t)) == (pytest.approx(k), pytest.approx(t))


def kind(variable):
    """Return what a variable is, by the names of layers and variables that the zoo has."""
    layer, *_, name = variable.split(":")[0].split("/")
    if name == "kernel":
        return next((f"{part} kernel" for part in ("stem", "shortcut", "logits") if part in layer), "binary kernel")
    return {"alpha_bias": "threshold", "shift_in": "shift", "shift_out": "shift"}.get(name, name)


ENDS, NORM = {"stem kernel", "logits kernel"}, {"gamma", "beta"}
KERNELS = {*ENDS, "binary kernel", "shortcut kernel"}
DECAYS = [
    ("birealnet", "train", {}, set()),
    *(("birealnet_staged", name, {}, KERNELS) for name in ("relu", "leaky_clip", "clip")),
    *(("birealnet_staged", name, {}, set()) for name in ("binary", "unit_weights")),
    *(("ftbnn", "train", {"shortcut": name}, ENDS) for name in ("average_duplicate", "average_pad", "binary_conv")),
    *(("ftbnn", "train", {"shortcut": name}, ENDS | {"shortcut kernel"}) for name in ("grouped_conv", "real_conv")),
    ("irnet", "train", {}, {*ENDS, "binary kernel", "bias", *NORM}),
    ("irnet_imagenet", "train", {}, {*KERNELS, "bias", *NORM}),
    ("mcdonnell", "train", {}, {*ENDS, "binary kernel"}),
    ("mcdonnell", "train", {"learned_norm": True, "depth": 8}, {*ENDS, "binary kernel"}),
    ("reactnet", "step1", {}, {*KERNELS, "threshold", "shift"} - {"logits kernel"}),
    ("reactnet", "step2", {}, set()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name", "settings", "wanted"), DECAYS)
def test_which_variables_decay(recipe, name, settings, wanted):
    [stage] = [stage for stage in recipes.get_recipe(recipe, **settings).stages if stage.name == name]
    optimizer = stage.optimizer(10)
    variables = [variable.name for variable in stage.build(10, SHAPE).trainable_variables]
    assert {kind(variable) for variable in variables} >= wanted
    for variable in variables:
        assert bool(optimizer.l2 and optimizer.decays(variable)) == (kind(variable) in wanted), variable


@pytest.mark.slow
def test_ftbnns_network():
    """Its width, groups and shuffle are the registered model's, unless they are given."""
    for settings, wanted in (
        ({}, {"width": 1, "groups": 1, "shuffle": True}),
        ({"model": "ftbnn20_grouped"}, {"width": 2, "groups": 2, "shuffle": True}),
        ({"model": "ftbnn20_grouped", "shuffle": "false"}, {"width": 2, "groups": 2, "shuffle": False}),
        ({"width": "1.5", "groups": 3}, {"width": 1.5, "groups": 3, "shuffle": True}),
    ):
        [stage] = recipes.get_recipe("ftbnn", **settings).stages
        assert zoo.model_info(stage.build(10, SHAPE)).arguments.items() >= wanted.items()


@pytest.mark.slow
def test_the_shifted_relus_temperature():
    for dataset, temperature in (("cifar10", 40), ("cifar100", 25), ("svhn", 40)):
        [stage] = recipes.get_recipe("mcdonnell", dataset=dataset, activation="shifted_relu", depth=8, width=1).stages
        assert stage.build(10, SHAPE).get_layer("logits_scale").scale == pytest.approx(1 / temperature)
        assert stage.milestones == [stage.epochs]


def test_mcdonnells_first_cycle():
    [stage] = recipes.get_recipe("mcdonnell", epochs=12, first_cycle=3).stages
    assert stage.milestones == [3, 9, 12]
    with pytest.raises(ValueError, match=r"first_cycle.*0"):
        recipes.get_recipe("mcdonnell", first_cycle=0)


@pytest.mark.slow
def test_mcdonnells_normalisations():
    """What they learn follows the dataset, unless it is given; ReLU and padding can be the MATLAB code's."""
    for settings, learned in (
        ({}, False),
        ({"dataset": "imagenet32"}, True),
        ({"learned_norm": True}, True),
        ({"dataset": "imagenet32", "learned_norm": False}, False),
    ):
        recipe = recipes.get_recipe("mcdonnell", depth=8, width=1, **settings)
        assert recipe.settings["learned_norm"] is learned
        network = recipe.stages[0].build(10, SHAPE)
        assert any(layer.name == "input_relu" for layer in network.layers) is False
        scales = [variable for variable in network.trainable_variables if "gamma" in variable.name]
        assert len(scales) == (8 + 1 if learned else 1)
    [stage] = recipes.get_recipe("mcdonnell", depth=8, width=1, input_relu=True, padding="symmetric").stages
    network = stage.build(10, SHAPE)
    assert network.get_layer("input_relu")
    assert network.get_layer("stem_conv").symmetric


def test_a_short_training_has_a_short_warm_up():
    for epochs in (1, 10, 100):
        [stage] = recipes.get_recipe("irnet_imagenet", epochs=epochs).stages
        schedule = stage.optimizer(1000)._learning_rate
        rates = [float(schedule(step)) for step in (0, 40 * epochs, 299 * epochs, 301 * epochs, 999 * epochs)]
        assert rates == pytest.approx([0.2, 0.8, 0.8, 0.08, 8e-4])
    with pytest.raises(ValueError, match=r"warmup.*0\.4"):
        recipes.get_recipe("irnet_imagenet", warmup=0.4)


@pytest.mark.slow
def test_the_distilled_adabin():
    """A warm-up of five epochs of 600, of none in a trial; a teacher, more decay, and shortcuts that average."""
    recipe = recipes.get_recipe("adabin_distilled")
    [stage] = recipe.stages
    optimizer = stage.optimizer(10)
    rates = [float(optimizer._learning_rate(10 * epoch)) for epoch in (0, 4, 5, 300)]
    assert rates == pytest.approx([0.1 / 6, 0.5 / 6, 0.1 * cosine(5, 600), 0.05])
    assert (recipe.name, stage.epochs, len(stage.teachers), optimizer.l2) == ("adabin_distilled", 600, 1, 5e-4)
    assert zoo.model_info(stage.build(10, SHAPE)).arguments["shortcut"] == "average_pool"
    [short] = recipes.get_recipe("adabin_distilled", epochs=2).stages
    assert float(short.optimizer(10)._learning_rate(0)) == pytest.approx(0.1)


def effect(augment):
    """Return whether an augmentation mirrors images, what it lets in at their edges, and whether it covers a patch.

    The images are 7 on the left and 9 on the right; shifts by up to 4 pixels leave column 11 on the left.
    """
    image = np.repeat([7, 9], 16)[None, None, :, None]
    images = augment(
        tf.constant(np.broadcast_to(image, (300, 32, 32, 1)).astype(np.uint8)), tf.constant([5, 6], tf.int64)
    )
    found = images.numpy()[..., 0]
    mirrored = (np.median(found[:, :, 11], axis=1) == 9).mean()
    assert mirrored == 0 or 0.4 < mirrored < 0.6
    edges = set(np.unique(found[:, [0, -1]])) - {7, 9}
    patch = not set(np.unique(found[:, 8:24, 8:24])) <= {7, 9}
    return bool(mirrored), "same" if not edges else "zeros" if edges == {0} else "random", patch


SHIFTED, NONE = (True, "zeros", False), (False, "same", False)
USUAL = {"cifar10": SHIFTED, "cifar100": SHIFTED, "imagenet32": SHIFTED, "svhn": (False, "zeros", False), "mnist": NONE}
MCDONNELL = {
    "cifar10": (True, "random", True),
    "svhn": (False, "random", False),
    "mnist": NONE,
    "imagenet32": (True, "random", False),
    "imagenet2012": (True, "same", False),
}
EFFECTS = [
    *((name, data, USUAL[data]) for name in ("birealnet", "ftbnn", "irnet", "reactnet") for data in USUAL),
    *(("mcdonnell", data, wanted) for data, wanted in MCDONNELL.items()),
]


@pytest.mark.parametrize(("name", "dataset", "wanted"), EFFECTS)
def test_augmentation(name, dataset, wanted):
    teacher = {"teacher": "labels"} if name == "reactnet" else {}
    for stage in recipes.get_recipe(name, dataset=dataset, **teacher).stages:
        assert effect(stage.augment) == wanted


@pytest.mark.parametrize(
    ("name", "augment", "crop"),
    [
        ("birealnet", flip_and_light, random_resized_crop),
        ("birealnet_staged", flip, resize_random_crop),
        ("ftbnn", flip, random_resized_crop),
        ("irnet_imagenet", flip_and_jitter, random_resized_crop),
        ("reactnet", flip_and_light, random_resized_crop),
        ("mcdonnell", None, scale_jitter_crop),
    ],
)
def test_augmentation_of_imagenet(name, augment, crop):
    for stage in recipes.get_recipe(name, dataset="imagenet2012").stages:
        assert stage.crop is crop
        assert augment is None or stage.augment is augment


def test_what_is_done_to_images_of_imagenet():
    """Mirrored and lit, mirrored and jittered; see `test_augmentation` for each alone."""
    images = tf.constant(np.random.default_rng(0).integers(1, 256, (40, 6, 8, 3)).astype(np.uint8))
    seed = tf.constant([1, 2], tf.int64)
    for both, first in ((flip_and_light, lighting), (flip_and_jitter, colour_jitter)):
        changed = first(images, seed + [30, 0])
        assert np.any(changed != images)
        np.testing.assert_array_equal(both(images, seed), random_flip(changed, seed + [20, 0]))
