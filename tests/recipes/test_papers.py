"""What the papers' recipes do: rates, decay, EDE and augmentation by the formulas of the official code."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import EDESchedule, ede_schedule
from onebit.quantizers.ede import ede_quantizers
from onebit.recipes.data.augmentation import (
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


@pytest.mark.parametrize(("recipe", "name", "settings", "wanted"), DECAYS)
def test_which_variables_decay(recipe, name, settings, wanted):
    [stage] = [stage for stage in recipes.get_recipe(recipe, **settings).stages if stage.name == name]
    optimizer = stage.optimizer(10)
    variables = [variable.name for variable in stage.build(10, SHAPE).trainable_variables]
    assert {kind(variable) for variable in variables} >= wanted
    for variable in variables:
        assert bool(optimizer.l2 and optimizer.decays(variable)) == (kind(variable) in wanted), variable


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


def test_the_shifted_relus_temperature():
    for dataset, temperature in (("cifar10", 40), ("cifar100", 25), ("svhn", 40)):
        [stage] = recipes.get_recipe("mcdonnell", dataset=dataset, activation="shifted_relu", depth=8, width=1).stages
        assert stage.build(10, SHAPE).get_layer("logits_scale").temperature == temperature
        assert stage.milestones == [stage.epochs]


def test_mcdonnells_first_cycle():
    [stage] = recipes.get_recipe("mcdonnell", epochs=12, first_cycle=3).stages
    assert stage.milestones == [3, 9, 12]
    with pytest.raises(ValueError, match=r"first_cycle.*0"):
        recipes.get_recipe("mcdonnell", first_cycle=0)


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


@dataclass(frozen=True)
class Effect:
    """What an augmentation does to images of 32 x 32 pixels.

    Attributes:
        mirrors: Whether it mirrors half of them.
        shift: How many pixels it moves them at most, in each direction.
        fill: What comes in at the edges.
        patch: How long a side the patch has at most that it covers.
    """

    mirrors: bool = True
    shift: int = 4
    fill: str | None = "zeros"
    patch: int = 0


def effect(augment, count=300):
    """Return what an augmentation does to images whose every pixel tells its place."""
    rows, columns = np.mgrid[:32, :32]
    image = np.stack([rows + 100, columns + 150, np.full_like(rows, 50)], axis=-1).astype(np.uint8)
    images = augment(tf.constant(np.broadcast_to(image, (count, *image.shape))), tf.constant([5, 6], tf.int64))
    mirrored, shifts, fills, patch = 0, [], [], 0
    for y, x, mark in np.moveaxis(images.numpy().astype(int), -1, 1):
        # Where a pixel comes from, unless a random one is no other's.
        known = (mark == 50) & (y >= 100) & (y < 132) & (x >= 150) & (x < 182)
        [(down, right, mirror)] = {
            (int(np.median((rows - y)[known])) + 100, int(np.median((columns - source)[known])), mirror)
            for mirror, source in ((False, x - 150), (True, 181 - x))
            if len(np.unique((columns - source)[known])) <= 2
        }
        mirrored += mirror
        shifts.append((down, right))
        inside = (rows - down >= 0) & (rows - down < 32) & (columns - right >= 0) & (columns - right < 32)
        fills.append(y[~inside])
        covered = np.argwhere(inside & ~known)
        patch = max(patch, *np.ptp(covered, axis=0) + 1) if len(covered) else patch
    assert mirrored == 0 or 0.4 < mirrored / count < 0.6
    shifts, values = np.array(shifts), set(np.concatenate(fills))
    assert (shifts.min(0) == -shifts.max(0)).all()
    assert shifts[:, 0].max() == shifts[:, 1].max()
    fill = None if not values else "zeros" if values == {0} else "random" if len(values) == 256 else "?"
    return Effect(bool(mirrored), int(shifts.max()), fill, patch)


RANDOM, NONE = Effect(fill="random"), Effect(mirrors=False, shift=0, fill=None)
USUAL = {
    "cifar10": Effect(),
    "cifar100": Effect(),
    "svhn": Effect(mirrors=False),
    "mnist": NONE,
    "imagenet32": Effect(),
}
MCDONNELL = {
    "cifar10": replace(RANDOM, patch=18),
    "cifar100": replace(RANDOM, patch=18),
    "svhn": replace(RANDOM, mirrors=False),
    "mnist": NONE,
    "imagenet32": RANDOM,
    "imagenet2012": Effect(shift=0, fill=None),
}
EFFECTS = [
    *((name, data, wanted) for name in ("birealnet", "birealnet_staged", "ftbnn") for data, wanted in USUAL.items()),
    *((name, data, wanted) for name in ("irnet", "reactnet") for data, wanted in USUAL.items()),
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
    """Mirrored and lit, mirrored and jittered: images on which neither could be missed."""
    images = tf.constant(np.random.default_rng(0).integers(1, 256, (40, 6, 8, 3)).astype(np.uint8))
    seed = tf.constant([1, 2], tf.int64)
    mirrored = random_flip(images, seed + [20, 0]).numpy()
    np.testing.assert_array_equal(flip(images, seed), mirrored)
    assert 0 < (mirrored != images.numpy()).any((1, 2, 3)).sum() < 40
    lit = flip_and_light(images, seed).numpy()
    np.testing.assert_array_equal(lit, random_flip(lighting(images, seed + [30, 0]), seed + [20, 0]))
    assert set(np.unique(mirrored.astype(int) - lit)) == {0, 1}
    jittered = flip_and_jitter(images, seed).numpy().astype(int)
    change = np.abs(jittered - mirrored).mean((1, 2, 3))
    assert change.max() > 10, "the colours change"
    same = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(jittered, mirrored, strict=True)]
    assert min(same) > 0.7, "and the mirrored images are the same"
