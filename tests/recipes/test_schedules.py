"""Learning rates: the official code's figures, and the formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes.training.schedules import CosineEpochs, LinearEpochs, WarmRestarts, cycle_ends
from tests.helpers import assert_golden


def rates(schedule, steps):
    return np.array([schedule(step).numpy() for step in steps])


@pytest.fixture
def golden(goldens, float64):
    return np.load(goldens / "units.npz")


def test_warm_restarts_as_the_official_code_computes_them(golden):
    schedule = WarmRestarts(5, lr_max=0.1, lr_min=1e-5)
    assert_golden(rates(schedule, range(70)).reshape(14, 5), golden["mcd_lr/small"], 1e-12)
    notebook = golden["mcd_lr/notebook_bn"]
    steps = [400 * epoch + batch for epoch in range(254) for batch in (0, 200, 399)]
    assert_golden(schedule_at(WarmRestarts(400, lr_min=1e-5), steps).reshape(254, 3), notebook, 1e-12)


def schedule_at(schedule, steps):
    return schedule(tf.constant(steps, tf.int64)).numpy()


def test_one_long_cycle_as_the_official_code_computes_it(golden):
    steps = [400 * epoch + batch for epoch in range(300) for batch in (0, 200, 399)]
    actual = schedule_at(WarmRestarts(400, lr_min=1e-5, first_cycle=300), steps)
    assert_golden(actual.reshape(300, 3), golden["mcd_lr/notebook_srelu"], 1e-12)


@pytest.mark.parametrize(("first", "factor"), [(1, 2), (2, 2), (3, 2), (2, 3), (5, 4), (10, 10)])
@pytest.mark.parametrize("batches", [1, 2, 7])
def test_warm_restarts_restart_where_the_cycles_end(first, factor, batches, float64):
    schedule = WarmRestarts(batches, lr_max=1.0, lr_min=0.25, first_cycle=first, factor=factor)
    lengths = itertools.takewhile(lambda length: length < 1200, (first * factor**i for i in itertools.count()))
    ends = [end for end in itertools.accumulate(lengths) if end <= 1200]
    assert factor != 2 or ends == cycle_ends(1200, first)
    for end in [0, *ends]:
        assert schedule(end * batches).numpy() == 1
    if batches > 1:
        for end in ends:
            np.testing.assert_allclose(schedule(end * batches - 1), 0.25, rtol=1e-12)
    if batches == 1:
        return  # a cycle of one batch has its start only
    # Between restarts it only falls.
    every = schedule_at(schedule, range(batches * 200))
    rises = {0, *(np.flatnonzero(np.diff(every) > 1e-12) + 1)}
    assert rises == {end * batches for end in [0, *ends] if end < 200}


def test_cycle_ends_of_the_paper():
    assert cycle_ends(254) == [2, 6, 14, 30, 62, 126, 254]
    assert cycle_ends(253) == [2, 6, 14, 30, 62, 126]
    assert cycle_ends(1) == []
    with pytest.raises(ValueError, match="first"):
        cycle_ends(13, 0)


@pytest.mark.parametrize("arguments", [{"first_cycle": 0}, {"factor": 1}, {"lr_min": 0.2}, {"lr_max": float("nan")}])
def test_warm_restarts_argument_errors(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        WarmRestarts(5, **arguments)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (CosineEpochs(3, 4, 0.1), [0.1 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]),
        (LinearEpochs(3, 4, 0.1), [0.075, 0.05, 0.025, 0]),
        (LinearEpochs(3, 1, 0.1), [0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_rates_by_epoch(schedule, expected, float64):
    assert_golden(rates(schedule, range(12)), np.repeat(expected, 3), 1e-12)
    np.testing.assert_allclose(schedule(1000), expected[-1], atol=1e-17)


@pytest.mark.parametrize(
    "schedule",
    [WarmRestarts(7, 0.2, 1e-3, 3, 4), CosineEpochs(3, 4, 0.1), LinearEpochs(3, 4, 0.1)],
)
def test_schedules_survive_saving(schedule):
    again = tf.keras.optimizers.schedules.deserialize(tf.keras.optimizers.schedules.serialize(schedule))
    np.testing.assert_array_equal(rates(again, range(30)), rates(schedule, range(30)))
    assert schedule(5).dtype == tf.float32


def test_a_restored_optimizer_continues(tmp_path):
    """The rate depends on nothing but the number of batches seen."""
    optimizer = tf.keras.optimizers.SGD(WarmRestarts(2, 1.0, 0.0))
    variable = tf.Variable(0.0)
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
    checkpoint = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "c"))
    again = tf.keras.optimizers.SGD(WarmRestarts(2, 1.0, 0.0))
    again.build([variable])
    tf.train.Checkpoint(optimizer=again).restore(checkpoint)
    before = variable.numpy()
    again.apply_gradients([(tf.constant(1.0), variable)])
    np.testing.assert_allclose(before - variable.numpy(), WarmRestarts(2, 1.0, 0.0)(3), rtol=1e-5)
