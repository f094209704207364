"""The papers' losses: values and gradients of the official code."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes import SmoothedCrossentropy, distribution_loss
from tests.helpers import assert_golden


@pytest.fixture(scope="module")
def units(goldens):
    return np.load(goldens / "units.npz")


@pytest.mark.parametrize("case", [0, 1])
def test_distribution_loss_is_the_official_one(case, units):
    student, teacher = (tf.constant(units[f"distribution_loss/{case}/{who}"]) for who in ("student", "teacher"))
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = tf.reduce_mean(distribution_loss(teacher, student))
    gradient, none = tape.gradient(loss, [student, teacher])
    assert_golden(loss, units[f"distribution_loss/{case}/loss"])
    assert_golden(gradient, units[f"distribution_loss/{case}/dstudent"])
    assert none is None


@pytest.mark.usefixtures("float64")
def test_label_smoothing_is_the_official_one(units):
    logits = tf.constant(units["label_smooth/logits"])
    loss_of = SmoothedCrossentropy(float(units["label_smooth/epsilon"]), from_logits=True)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_of(units["label_smooth/labels"], logits)
    assert_golden(loss, units["label_smooth/loss"], 1e-7)  # Keras rounds epsilon to float32
    assert_golden(tape.gradient(loss, logits), units["label_smooth/dlogits"], 1e-7)


def test_without_smoothing_it_is_plain_cross_entropy():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
    labels = np.array([0, 1])
    loss = SmoothedCrossentropy()(labels, probabilities)
    np.testing.assert_allclose(loss, -np.log([0.7, 0.1]).mean(), rtol=1e-6)


def test_label_smoothing_out_of_range_is_an_error():
    with pytest.raises(ValueError, match=r"label_smoothing must lie between 0 and 1, not 1\.5"):
        SmoothedCrossentropy(1.5)
