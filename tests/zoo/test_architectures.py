"""What the networks of Bi-Real Net, ReActNet (with its teacher), IR-Net and FTBNN count, and where their stages end.

What `larq.models.summary` counts: the thresholds of RSign and EDE's two state scalars for each quantizer are 32-bit
parameters without operations; a batch normalisation is two parameters per channel, as after fusion; multiplications
of which only one factor is binary (1w32a, step 1) are 32-bit ones. It does not count what has no kernel: activations,
batch normalisations, poolings and additions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from larq.models import ModelProfile

from onebit import zoo


class Row(NamedTuple):
    """Trainable and binary parameters, memory in Mbit (10^6), binary and other multiply-accumulates in millions."""

    trainable: int
    binary: int
    memory: float
    binary_macs: float
    real_macs: float


# The published figures, or what follows from the papers' layouts, to as many digits as these have.
ROWS = {
    "birealnet18": Row(11_689_512, 10_985_472, 33.5, 1676, 137.8),
    "birealnet34": Row(21_797_672, 21_086_208, 43.9, 3526, 137.8),
    "birealnet50": Row(25_729_064, 20_672_512, 182.5, 3597, 569.6),
    "birealnet18_cifar": Row(11_173_962, 10_985_472, 17.0, 547, 8.1),
    "birealnet20": Row(272_474, 267_264, 0.4, 40, 0.7),
    "reactnet_a": Row(29_343_592, 28_253_184, 63.1, 4817, 11.9),
    "reactnet_a_step1": Row(29_343_592, 0, 939.0, 0, 4828.8),
    # The 992 thresholds that real-valued inputs do without.
    "reactnet_b": Row(28_819_816 - 992, 27_554_816, 68.0, 4688, 44.0),
    "reactnet_c": Row(29_343_592 - 992, 27_554_816, 84.8, 4688, 140.3),
    "react_resnet18": Row(11_704_424, 10_985_472, 34.0, 1676, 137.8),
    "react_resnet18_step1": Row(11_704_424, 0, 374.5, 0, 1814.1),
    "react_resnet34": Row(21_827_432, 21_086_208, 44.8, 3526, 137.8),
    "reactnet18_cifar": Row(11_188_874, 10_985_472, 17.5, 547, 8.1),
    "reactnet20": Row(275_114, 267_264, 0.5, 40, 0.7),
    "reactnet20_step1": Row(275_114, 0, 8.8, 0, 40.8),
    "irnet_resnet20": Row(269_850, 267_264, 0.4, 40, 0.4),
    "irnet_resnet20_normal": Row(269_850, 267_264, 0.4, 40, 0.4),
    "irnet_resnet20_real": Row(269_850, 0, 8.6, 0, 40.6),
    "irnet_resnet20_1w32a": Row(269_850, 267_264, 0.4, 0, 40.6),
    "irnet_resnet18_cifar": Row(11_174_986, 10_985_472, 17.1, 547, 8.1),
    "irnet_vgg_small": Row(4_660_106, 4_571_136, 7.4, 604, 3.6),
    "irnet_resnet18": Row(11_690_536, 10_985_472, 33.5, 1676, 137.8),
    "irnet_resnet18_1w32a": Row(11_690_536, 10_985_472, 33.5, 0, 1814.1),
    "irnet_resnet34": Row(21_798_696, 21_086_208, 43.9, 3526, 137.8),
    "irnet_resnet34_1w32a": Row(21_798_696, 21_086_208, 43.9, 0, 3663.8),
    "ftbnn18": Row(11_523_368, 10_985_472, 28.2, 1676, 118.5),
    "ftbnn18_grouped": Row(12_050_728, 10_985_472, 45.1, 1676, 119.0),
    "ftbnn20": Row(271_066, 267_264, 0.4, 40, 0.4),
    "ftbnn20_grouped": Row(541_658, 534_528, 0.8, 80, 0.4),
    "resnet34": Row(21_797_672, 0, 697.5, 0, 3663.8),
}
FAST = {"birealnet18", "irnet_vgg_small"}
FUNCTIONS = ("BiRealNet", "ReAct", "IRNet", "FTBNN", "ResNet34")


def test_every_model_has_a_row():
    names = {name for name in zoo.list_models() if zoo.entry(name).build.__name__.startswith(FUNCTIONS)}
    assert names ^ set(ROWS) == set(), "each needs its counts in ROWS"


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ROWS])
def test_counts(name):
    row = ROWS[name]
    with tf.Graph().as_default():
        model = zoo.load(name)
        profile = ModelProfile(model)
        binary_macs = profile.op_count("mac", 1)
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == row.trainable
        assert profile.weight_count(1) == row.binary
        assert profile.memory / 1e6 == pytest.approx(row.memory, abs=0.051)
        assert binary_macs / 1e6 == pytest.approx(row.binary_macs, abs=0.5)
        assert (profile.op_count("mac") - binary_macs) / 1e6 == pytest.approx(row.real_macs, abs=0.051)

        kinds = {type(layer).__name__ for layer in model.layers}
        assert not any("Lambda" in kind for kind in kinds), kinds
        stages = list(zoo.stage_outputs(model).values())
        assert stages[-1].shape[1] in (4, 7, 8) and all(a.shape[1] == 2 * b.shape[1] for a, b in pairwise(stages))
        body = zoo.load(name, include_top=False)
        assert body.output_shape == zoo.stage_outputs(body)[f"stage{len(stages)}"].shape


@pytest.mark.slow
def test_thresholds_of_real_convolutions():
    """Where they see signs, B and C have as many parameters as if every block had both thresholds."""
    with tf.Graph().as_default():
        model = zoo.ReActNetB(downsample_input="sign")
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 28_819_816


@pytest.mark.parametrize("name", ["birealnet20", "reactnet20", "irnet_resnet20", "irnet_vgg_small", "ftbnn20"])
def test_odd_and_unknown_sizes(name, shallow):
    """The official code cannot add up the shortcuts of odd sizes, and needs to know the size."""
    body = zoo.load(name, input_shape=(None, None, 3), include_top=False)
    assert body.compute_output_shape((1, 35, 18, 3)) == body(np.zeros((1, 35, 18, 3), np.float32)).shape
    with pytest.raises(ValueError, match=r"input_shape of \w+ must be .* at least 8"):
        zoo.load(name, input_shape=(7, 32, 3))


@pytest.mark.parametrize("name", ["birealnet20", "reactnet20", "irnet_resnet20", "ftbnn20"])
def test_padding_changes_the_border_alone(name, shallow):
    """The three paddings are three networks of the same variables; the stem is the same in all."""
    models = [zoo.load(name, padding=padding, input_shape=(16, 16, 3)) for padding in ("symmetric", "same", "same_one")]
    x = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    tensors = []
    for model in models:
        model.set_weights(models[0].get_weights())
        layers = [model.get_layer(layer) for layer in ("stem_bn", "stage2_block1_" + first_convolution(model))]
        tensors.append([each.numpy() for each in tf.keras.Model(model.input, [each.output for each in layers])(x)])
    for stem, deep in tensors[1:]:
        np.testing.assert_array_equal(stem, tensors[0][0])
        assert np.any(deep != tensors[0][1])
    assert np.any(tensors[1][1] != tensors[2][1])


def first_convolution(model):
    return "conv1" if any(layer.name == "stage2_block1_conv1" for layer in model.layers) else "conv"
