"""More than one replica: each sees its part of the batch, and the result is one process's."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes
from onebit.recipes.training.strategies import is_chief, split_batches, use_sync_batch_norm
from onebit.zoo.building.torch_layers import ExactBatchNormalization, UnbiasedBatchNormalization
from tests.helpers import start_python
from tests.recipes.models import DATA, recipe


def test_each_replica_has_its_part_of_each_batch(strategy):
    batches = tf.data.Dataset.range(24).batch(8).map(lambda x: (x, (x, 10 * x)))
    with strategy.scope():
        shared = iter(split_batches(batches, 8))
        seen = [strategy.experimental_local_results(next(shared)) for _ in range(3)]
        with pytest.raises(ValueError, match=r"batch_size.*7"):
            split_batches(batches, 7)
    for number, parts in enumerate(seen):
        for replica, (x, (y, z)) in enumerate(parts):
            np.testing.assert_array_equal(x, 8 * number + 4 * replica + np.arange(4))
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(z, 10 * x)
    assert split_batches(batches, 7) is batches, "one replica takes whole batches"


@pytest.mark.slow
@pytest.mark.parametrize("layer", [ExactBatchNormalization, UnbiasedBatchNormalization])
def test_batch_norms_see_the_whole_batch(layer, strategy, float64):
    """Outputs, moving statistics and gradients of two replicas are those of one with all images."""
    x = np.random.default_rng(0).normal(2.0, 3.0, (8, 3, 3, 4))
    weights = np.random.default_rng(1).normal(size=x.shape)

    def step(model, x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(y * weights)
        return y, tape.gradient(loss, x)

    def network():
        return tf.keras.Sequential([layer(input_shape=x.shape[1:], momentum=0.9)])

    alone = network()
    expected = step(alone, tf.constant(x), tf.constant(weights))
    with strategy.scope():
        model = network()
        use_sync_batch_norm(model)
        parts = [
            strategy.experimental_distribute_values_from_function(
                lambda context, whole=whole: tf.constant(np.split(whole, 2)[context.replica_id_in_sync_group])
            )
            for whole in (x, weights)
        ]
        results = tf.function(lambda *parts: strategy.run(lambda *part: step(model, *part), parts))(*parts)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(np.concatenate(strategy.experimental_local_results(result)), wanted, atol=1e-12)
    for ours, theirs in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_batch_norms_see_their_own_part_unless_synchronised(strategy):
    parts = [np.random.default_rng(seed).normal(10 * seed, 1, (4, 3)).astype(np.float32) for seed in (0, 1)]
    with strategy.scope():
        layer = UnbiasedBatchNormalization()
        layer.build((None, 3))
        images = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )
        results = tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), (x,)))(images)
    for result in strategy.experimental_local_results(results):
        np.testing.assert_allclose(np.mean(result, axis=0), 0, atol=1e-4)


def test_the_chief_by_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert is_chief("none")
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    for index, chief in ((0, True), (1, False)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}))
        assert is_chief("multiworker") is chief
        assert is_chief("none")
    for alone in ("{}", '{"environment": "cloud"}', '{"cluster": {}, "task": {"type": "master", "index": 0}}'):
        monkeypatch.setenv("TF_CONFIG", alone)
        assert is_chief("multiworker"), "who else would keep the results"
    for damaged in ("garbage", "[1]", '{"cluster": 5}'):
        monkeypatch.setenv("TF_CONFIG", damaged)
        with pytest.raises(ValueError, match="TF_CONFIG"):
            is_chief("multiworker")
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        recipes.train(recipe(), "nowhere", data=DATA, strategy="multiworker")
    with pytest.raises(ValueError, match="miror"):
        recipes.train(recipe(), "nowhere", data=DATA, strategy="miror")
    assert not Path("nowhere").exists()


SCRIPT = """
    import sys
    from tests.recipes.models import DATA, recipe
    from onebit import recipes
    recipes.train(recipe(), sys.argv[1], data=DATA, precision="float64", strategy=sys.argv[2], verbose=2)
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_train_what_one_process_does(tmp_path):
    """The same global batches on the loopback, in float64: equal to rounding. Only the chief leaves files."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in (0, 1)]
    processes = [start_python(SCRIPT, tmp_path / "two", "multiworker", TF_CONFIG=config) for config in configs]
    processes.append(start_python(SCRIPT, tmp_path / "one", "none"))
    for process in processes:
        log, _ = process.communicate(timeout=600)
        assert process.returncode == 0, log[-3000:]
    one, two = (json.loads((tmp_path / folder / "record.json").read_text()) for folder in ("one", "two"))
    for row, other in zip(one["history"], two["history"], strict=True):
        assert row.keys() == other.keys()
        for column in row.keys() - {"stage", "seconds"}:
            assert row[column] == pytest.approx(other[column], rel=1e-6), column
    ours, theirs = (tf.keras.models.load_model(tmp_path / folder / "model.keras") for folder in ("one", "two"))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}
