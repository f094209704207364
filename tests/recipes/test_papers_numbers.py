"""The papers' numbers, written down once more: a recipe in which one has changed fails here.

The figures are those of the papers, their code and their configurations; for FTBNN, of which none are published, ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import EDESchedule
from onebit.quantizers.ede import ede_quantizers
from onebit.recipes.data.augmentation import (
    flip,
    flip_and_jitter,
    flip_and_light,
    lighting,
    random_area,
    random_flip,
    random_place,
    random_scale,
)
from onebit.recipes.training.optimizers import L2SGD, L2Adam
from tests.recipes.models import tiny_network

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


def one_cycle(epoch):
    return 1e-5 + (0.1 - 1e-5) / 2 * (1 + math.cos(math.pi * epoch / 300))


KERNELS = {"stem kernel", "binary kernel", "shortcut kernel", "logits kernel"}


def kind(variable):
    """Return what a variable is, by the names of layers and variables that the zoo has."""
    layer, *_, name = variable.split(":")[0].split("/")
    if name == "kernel":
        return next((f"{part} kernel" for part in ("stem", "shortcut", "logits") if part in layer), "binary kernel")
    return {"alpha_bias": "threshold", "shift_in": "shift", "shift_out": "shift"}.get(name, name)


@dataclass(frozen=True)
class Numbers:
    """A stage's.

    Attributes:
        batch: Images in a batch.
        epochs: Its length.
        rate: The rate at the first batch of an epoch.
        optimizer: Its class.
        momentum: Of SGD.
        nesterov: Whether it is Nesterov's.
        l2: Weight decay.
        decays: The kinds of variables that it acts on.
        smoothing: Of the labels.
        preprocessing: Of the images.
        t: EDE's t in the first, the middle and the last epoch.
    """

    batch: int
    epochs: int
    rate: Callable[[int], float]
    optimizer: type
    momentum: float | None = None
    nesterov: bool = False
    l2: float = 0.0
    decays: Set[str] = frozenset()
    smoothing: float = 0.0
    preprocessing: str = "imagenet"
    t: tuple[float, float, float] | None = None


NORM = {"gamma", "beta"}
IRNET = Numbers(
    128,
    400,
    cosine(0.1, 400),
    L2SGD,
    momentum=0.9,
    l2=1e-4,
    decays={"stem kernel", "binary kernel", "logits kernel", "bias", *NORM},
    t=(1e-3, 0.1, 9.7724),
)
IRNET_IMAGENET = Numbers(
    2048,
    100,
    lambda epoch: 0.2 + 0.15 * epoch if epoch < 4 else steps(0.8, 30, 60, 90)(epoch),
    L2SGD,
    momentum=0.9,
    nesterov=True,
    l2=1e-5,
    decays={*KERNELS, "bias", *NORM},
    t=(0.1, 1.0, 9.5499),
)
PRETRAINING = Numbers(
    128,
    20,
    steps(0.01, 10, 15),
    L2SGD,
    momentum=0.9,
    l2=1e-4,
    decays=KERNELS,
)
MCDONNELL = Numbers(
    125,
    254,
    restarts,
    L2SGD,
    momentum=0.9,
    l2=5e-4,
    decays={"stem kernel", "binary kernel", "logits kernel"},
    preprocessing="raw",
)
BIREALNET = Numbers(512, 256, linear(1e-3, 256), L2Adam, smoothing=0.1)
REACTNET = Numbers(256, 128, linear(1.25e-3, 128), L2Adam)
REACTNET_1 = replace(REACTNET, l2=1e-5, decays={*KERNELS, "threshold", "shift"} - {"logits kernel"})
NUMBERS = {
    ("birealnet", "train"): BIREALNET,
    ("birealnet_staged", "relu"): replace(PRETRAINING, rate=steps(0.1, 10, 15)),
    ("birealnet_staged", "leaky_clip"): PRETRAINING,
    ("birealnet_staged", "clip"): PRETRAINING,
    ("birealnet_staged", "binary"): replace(PRETRAINING, l2=0.0, decays=frozenset()),
    ("birealnet_staged", "unit_weights"): Numbers(128, 1, steps(1e-4), L2SGD, momentum=0.9),
    ("ftbnn", "train"): Numbers(
        256, 120, linear(1e-3, 120), L2Adam, l2=1e-5, decays={"stem kernel", "logits kernel"}, smoothing=0.1
    ),
    ("irnet", "train"): IRNET,
    ("irnet_imagenet", "train"): IRNET_IMAGENET,
    ("mcdonnell", "train"): MCDONNELL,
    ("reactnet", "step1"): REACTNET_1,
    ("reactnet", "step2"): REACTNET,
}
# Settings, and what of a recipe's numbers they change.
FOLLOWED = [
    ("irnet", {"model": "irnet_resnet20_1w32a"}, replace(IRNET, t=(0.1, 1.0, 9.8855))),
    (
        "irnet",
        {"model": "irnet_vgg_small"},
        replace(IRNET, epochs=300, rate=cosine(0.007, 300), t=(0.1, 1.0, 9.8477)),
    ),
    (
        "irnet",
        {"model": "irnet_resnet18_cifar"},
        replace(IRNET, epochs=200, rate=cosine(0.1, 200), l2=5e-4, t=(1e-3, 0.1, 9.5499)),
    ),
    ("irnet_imagenet", {"model": "irnet_resnet18_1w32a"}, replace(IRNET_IMAGENET, l2=1e-4)),
    ("irnet_imagenet", {"model": "irnet_resnet34"}, replace(IRNET_IMAGENET, l2=1e-4)),
    ("irnet_imagenet", {"model": "irnet_resnet34_1w32a"}, replace(IRNET_IMAGENET, l2=1e-4)),
    (
        "birealnet_staged",
        {"dataset": "imagenet2012"},
        replace(PRETRAINING, rate=steps(0.1, 10, 15), preprocessing="caffe"),
    ),
    ("birealnet", {"model": "birealnet50"}, replace(BIREALNET, batch=256, rate=linear(5e-4, 256))),
    (
        "birealnet_staged",
        {"model": "birealnet34"},
        replace(PRETRAINING, epochs=40, batch=1024, rate=steps(0.1, 20, 30)),
    ),
    ("reactnet", {"model": "react_resnet18"}, replace(REACTNET_1, batch=512, rate=linear(2.5e-3, 128))),
    ("reactnet", {"model": "reactnet_a"}, REACTNET_1),
    ("mcdonnell", {"dataset": "cifar100"}, MCDONNELL),
    ("mcdonnell", {"dataset": "svhn"}, replace(MCDONNELL, epochs=30)),
    ("mcdonnell", {"dataset": "mnist"}, replace(MCDONNELL, epochs=14)),
    ("mcdonnell", {"dataset": "imagenet32"}, replace(MCDONNELL, epochs=30, l2=1e-4)),
    ("mcdonnell", {"dataset": "imagenet32", "depth": 26, "width": 10}, replace(MCDONNELL, epochs=62, l2=1e-4)),
    ("mcdonnell", {"dataset": "imagenet2012"}, replace(MCDONNELL, epochs=62, l2=1e-4)),
    ("mcdonnell", {"activation": "shifted_relu"}, replace(MCDONNELL, epochs=300, rate=one_cycle)),
]


def check(recipe, stage, numbers):
    """Check all but which variables decay, for which a network has to be built."""
    assert (recipe.batch_size, recipe.preprocessing, stage.epochs) == (
        numbers.batch,
        numbers.preprocessing,
        numbers.epochs,
    )
    batches, epochs = 625, numbers.epochs  # of ImageNet, 2048 images each; 2,500 batches are then 4 epochs
    optimizer = stage.optimizer(batches)
    assert type(optimizer) is numbers.optimizer
    if numbers.optimizer is L2SGD:
        assert (optimizer.momentum, optimizer.nesterov) == (numbers.momentum, numbers.nesterov)
    else:
        assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0.9, 0.999, 1e-8)
    assert optimizer.l2 == numbers.l2
    for epoch in {0, 1, 2, epochs // 3, epochs // 2, 3 * epochs // 4, 9 * epochs // 10, epochs - 1}:
        if epoch < epochs:
            rate = float(optimizer._learning_rate(epoch * batches))
            assert rate == pytest.approx(numbers.rate(epoch), rel=1e-9, abs=1e-15)
    if numbers.smoothing:
        assert stage.loss.label_smoothing == numbers.smoothing
    else:
        assert stage.loss == "sparse_categorical_crossentropy"
    check_ede(stage, numbers)


def check_ede(stage, numbers):
    network = tiny_network(10, SHAPE)
    callbacks = [each for each in stage.callbacks(network) if isinstance(each, EDESchedule)]
    assert bool(callbacks) == (numbers.t is not None)
    for callback in callbacks:
        callback.set_model(network)
        callback.on_train_begin()
        for epoch, t in zip((0, stage.epochs // 2, stage.epochs - 1), numbers.t, strict=True):
            callback.on_epoch_begin(epoch)
            for quantizer in ede_quantizers(network):
                assert float(quantizer.t) == pytest.approx(t, rel=1e-5)
                assert float(quantizer.k) == pytest.approx(max(1 / t, 1), rel=1e-5)


def test_all_stages_are_stated():
    stages = {(name, stage.name) for name in recipes.list_recipes() for stage in recipes.get_recipe(name).stages}
    assert stages == set(NUMBERS)


@pytest.mark.parametrize(("recipe", "name"), NUMBERS)
def test_numbers(recipe, name, float64):
    configured = recipes.get_recipe(recipe)
    [stage] = [stage for stage in configured.stages if stage.name == name]
    check(configured, stage, NUMBERS[recipe, name])


@pytest.mark.parametrize(("recipe", "settings", "numbers"), FOLLOWED)
def test_defaults_follow_the_network_and_the_dataset(recipe, settings, numbers, float64):
    configured = recipes.get_recipe(recipe, **settings)
    check(configured, configured.stages[0], numbers)
    again = recipes.get_recipe(recipe, **configured.settings)
    assert again.settings == configured.settings
    assert configured.settings["epochs"] == numbers.epochs, "the record states what was open"


ENDS = {"stem kernel", "logits kernel"}
DECAYS = [
    *((recipe, name, {}, numbers.decays) for (recipe, name), numbers in NUMBERS.items()),
    *(("ftbnn", "train", {"shortcut": shortcut}, ENDS) for shortcut in ("average_pad", "binary_conv")),
    *(
        ("ftbnn", "train", {"shortcut": shortcut}, ENDS | {"shortcut kernel"})
        for shortcut in ("grouped_conv", "real_conv")
    ),
    ("mcdonnell", "train", {"learned_norm": True, "depth": 8}, ENDS | {"binary kernel"}),
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
    with pytest.raises(ValueError, match="first_cycle must be at least 1, not 0"):
        recipes.get_recipe("mcdonnell", first_cycle=0)


def test_mcdonnells_networks():
    for dataset, name in (("cifar10", "wide_resnet_20_4"), ("imagenet2012", "wide_resnet_imagenet_18_2.5")):
        settings = recipes.get_recipe("mcdonnell", dataset=dataset).settings
        assert name.endswith(f"{settings['depth']}_{settings['width']:g}")


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
    with pytest.raises(ValueError, match=r"warmup_epochs must be from 0 to 0.3 \* epochs, 3, not 4.0"):
        recipes.get_recipe("irnet_imagenet", epochs=10, warmup_epochs=4)


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
EFFECTS = [
    *(
        (name, dataset, Effect())
        for name in ("birealnet", "birealnet_staged", "ftbnn", "irnet", "reactnet")
        for dataset in ("cifar10", "cifar100", "imagenet32")
    ),
    *(
        (name, "svhn", Effect(mirrors=False))
        for name in ("birealnet", "birealnet_staged", "ftbnn", "irnet", "reactnet")
    ),
    *((name, "mnist", NONE) for name in ("birealnet", "birealnet_staged", "ftbnn", "irnet", "reactnet")),
    ("mcdonnell", "cifar10", replace(RANDOM, patch=18)),
    ("mcdonnell", "cifar100", replace(RANDOM, patch=18)),
    ("mcdonnell", "svhn", replace(RANDOM, mirrors=False)),
    ("mcdonnell", "mnist", NONE),
    ("mcdonnell", "imagenet32", RANDOM),
    ("mcdonnell", "imagenet2012", Effect(shift=0, fill=None)),
]


@pytest.mark.parametrize(("name", "dataset", "wanted"), EFFECTS)
def test_augmentation(name, dataset, wanted):
    teacher = {"teacher": "labels"} if name == "reactnet" else {}
    for stage in recipes.get_recipe(name, dataset=dataset, **teacher).stages:
        assert effect(stage.augment) == wanted


@pytest.mark.parametrize(
    ("name", "augment", "crop"),
    [
        ("birealnet", flip_and_light, random_area),
        ("birealnet_staged", flip, random_place),
        ("ftbnn", flip, random_area),
        ("irnet_imagenet", flip_and_jitter, random_area),
        ("reactnet", flip_and_light, random_area),
        ("mcdonnell", None, random_scale),
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
