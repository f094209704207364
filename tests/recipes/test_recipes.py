"""Every recipe: its stages at small scale, one handed to the next."""

from __future__ import annotations

import dataclasses

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import AdaBinKernel
from onebit.recipes.recipe import quick_settings
from onebit.recipes.transfer import transfer_signs, transfer_weights
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables
from tests.recipes.models import striped_images

SHAPE = (32, 32, 3)


def small_images(count, seed):
    images, labels = striped_images(count, seed)
    return images[:, ::2, ::2], labels


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.list_recipes())
def test_the_stages_learn_and_are_handed_over(name, tmp_path):
    settings = quick_settings(name)
    if "teacher" in recipes.get_recipe(name).settings:
        teacher = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(16, 16, 3)), tf.keras.layers.Dense(2)])
        teacher.save(tmp_path / "teacher.keras")
        settings["teacher"] = str(tmp_path / "teacher.keras")
    recipe = recipes.get_recipe(name, epochs=3, batch_size=16, **settings)
    handed = []

    def watched(stage):
        if stage.init_from is None:
            return stage

        def init_from(before, network):
            stage.init_from(before, network)
            old, new = ({key: v.numpy() for key, v in named_variables(model).items()} for model in (before, network))
            assert {key for key in old if "_quantizer/" not in key} <= set(new)
            handed.append((stage.name, {key: (old[key], value) for key, value in new.items() if key in old}))

        return dataclasses.replace(stage, init_from=init_from)

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
    saved = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    assert len(saved.trainable_variables) == len(recipe.stages[0].build(2, (16, 16, 3)).trainable_variables)


@pytest.mark.slow
def test_the_last_stage_of_bi_real_net_trains_no_convolution():
    *_, before, last = recipes.get_recipe("birealnet_staged").stages
    assert any("conv" in variable.name for variable in before.build(10, SHAPE).trainable_variables)
    trained = last.build(10, SHAPE).trainable_variables
    assert {variable.name.split("/")[0].split("_")[-1] for variable in trained} == {"bn", "logits"}


@pytest.mark.slow
def test_the_released_code_of_reactnet_forgets_the_kernels():
    """Thresholds, normalisations and classifier are handed over; the binary kernels are not."""
    networks = {}
    for released in (False, True):
        first, second = recipes.get_recipe("reactnet", released=released).stages
        before, after = (stage.build(10, SHAPE) for stage in (first, second))
        for variable in before.variables:
            variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]))
        fresh = {name: kernel.variable.numpy() for name, kernel in binary_kernels(after).items()}
        second.init_from(before, after)
        networks[released] = fresh, named_variables(before), named_variables(after)
    for released, (fresh, before, after) in networks.items():
        for name, variable in after.items():
            if released and name in fresh:
                np.testing.assert_array_equal(variable, fresh[name])
            elif name in before:
                np.testing.assert_array_equal(variable, before[name])
        assert set(fresh) <= set(after)


@pytest.mark.slow
def test_signs_are_handed_over_without_their_scales():
    before, after = (zoo.load("birealnet20", num_classes=2) for _ in range(2))
    for variable in before.variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]))
    transfer_signs(before, after)
    kernels, old = binary_kernels(after), named_variables(before)
    assert kernels
    for name, variable in named_variables(after).items():
        if name in kernels:
            signs = np.where(old[name].numpy() >= 0, 1, -1)
            np.testing.assert_array_equal(kernels[name].quantized(variable.numpy()), signs)
        else:
            np.testing.assert_array_equal(variable, old[name])


def test_signs_of_filters_whose_values_are_both_positive():
    """As AdaBin's may be: what counts is which of the two values a weight has."""
    image = tf.keras.Input((4,))
    before, after = (
        tf.keras.Model(image, lq.layers.QuantDense(2, kernel_quantizer=AdaBinKernel(), name="dense")(image))
        for _ in range(2)
    )
    before.layers[-1].kernel.assign([[4.0, -4], [6, -6], [4, -6], [6, -4]])
    transfer_signs(before, after)
    expected = [[-1, 1], [1, -1], [-1, -1], [1, 1]]
    np.testing.assert_allclose(after.layers[-1].kernel, expected)


@pytest.mark.slow
def test_networks_that_do_not_fit_hand_nothing_over():
    small, large = zoo.load("wide_resnet_20_1", num_classes=10), zoo.load("wide_resnet_20_1", num_classes=11)
    before = [weight.copy() for weight in large.get_weights()]
    with pytest.raises(ValueError, match=r"network of the stage before.*logits"):
        transfer_weights(small, large)
    for one, other in zip(before, large.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
