"""What networks count by their papers, where their stages end, and what sizes and paddings do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from larq.models import ModelProfile

from onebit import zoo
from onebit.zoo.registry import CIFAR
from tests.zoo.models import REPRESENTATIVES

COUNTED = [name for name in zoo.list_models() if name in zoo.entry(name).paper.counts]
# Of those, Wide ResNets have a test of their own.
PADDED = [name for name in REPRESENTATIVES if zoo.entry(name).build.spec == CIFAR]


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_counts(name):
    counts = zoo.entry(name).paper.counts[name]
    with tf.Graph().as_default():
        model = zoo.load(name)
        profile = ModelProfile(model)
        binary_macs = profile.op_count("mac", 1)
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts.trainable
        assert profile.weight_count(1) == counts.binary
        assert profile.memory / 1e6 == pytest.approx(counts.memory, abs=0.051)
        assert binary_macs / 1e6 == pytest.approx(counts.binary_macs, abs=0.5)
        assert (profile.op_count("mac") - binary_macs) / 1e6 == pytest.approx(counts.other_macs, abs=0.051)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_stages_halve_and_the_last_is_the_output_without_top(name):
    with tf.Graph().as_default():
        body = zoo.load(name, include_top=False, input_shape=zoo.entry(name).native_shape)
        stages = list(zoo.stage_outputs(body).values())
    assert all(a.shape[1] == 2 * b.shape[1] for a, b in pairwise(stages))
    assert body.output_shape[1:3] == stages[-1].shape[1:3]


@pytest.mark.slow
def test_thresholds_of_real_convolutions():
    """Where they see signs, ReActNet-B and C have as many parameters as if every block had both thresholds."""
    with tf.Graph().as_default():
        model = zoo.ReActNetB(downsample_input="sign")
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 28_819_816


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REPRESENTATIVES, "irnet_vgg_small"])
def test_odd_and_unknown_sizes(name, shallow):
    """The official code cannot add up the shortcuts of odd sizes, and needs to know the size."""
    body = zoo.load(name, include_top=False)
    assert body.input_shape == (None, None, None, 3)
    assert body.compute_output_shape((1, 35, 18, 3)) == body(np.zeros((1, 35, 18, 3), np.float32)).shape
    least = zoo.entry(name).build.spec.min_size
    with pytest.raises(ValueError, match=rf"input_shape.* {least} .*\({least - 1}, 32, 3\)"):
        zoo.load(name, input_shape=(least - 1, 32, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", PADDED)
def test_padding_changes_the_border_alone(name, shallow):
    """The three paddings are three networks of the same variables; the stem is the same in all."""
    models = [zoo.load(name, padding=padding, input_shape=(16, 16, 3)) for padding in ("symmetric", "same", "same_one")]
    x = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    tensors = []
    for model in models:
        model.set_weights(models[0].get_weights())
        first = next(layer for layer in model.layers if layer.name.startswith("stage2_block1_conv"))
        outputs = [model.get_layer("stem_bn").output, first.output]
        tensors.append([each.numpy() for each in tf.keras.Model(model.input, outputs)(x)])
    for stem, deep in tensors[1:]:
        np.testing.assert_array_equal(stem, tensors[0][0])
        assert np.any(deep != tensors[0][1])
    assert np.any(tensors[1][1] != tensors[2][1])
