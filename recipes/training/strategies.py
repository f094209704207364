"""Where a training runs: one device, all of this machine's, or several machines."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multiworker")


def get_strategy(name: str) -> tf.distribute.Strategy:
    """Return the strategy of a name.

    Args:
        name: ``"none"``, ``"mirrored"`` (all GPUs of this machine) or ``"multiworker"`` (the machines of the
            environment variable ``TF_CONFIG``, each of which runs the same command). The last must come before
            TensorFlow's first operation.

    Raises:
        ValueError: There is no such strategy, or ``TF_CONFIG`` is not set.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multiworker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "strategy='multiworker' reads the machines from the environment variable TF_CONFIG, which is not set. "
                "See TensorFlow's guide to multi-worker training."
            )
        _cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}, not {name!r}.")


def _cluster() -> dict[str, Any]:
    """Return the machines that ``TF_CONFIG`` lists; none is this one alone.

    Raises:
        ValueError: ``TF_CONFIG`` is no JSON object, or its cluster is none.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
        if isinstance(cluster, dict):
            return cluster
    except (AttributeError, ValueError):
        pass
    raise ValueError(f"The environment variable TF_CONFIG must be a JSON object with a cluster, not {text!r}.")


def is_chief(name: str) -> bool:
    """Return whether this process is the one, of all that run under the strategy of a name, that keeps the results."""
    if name != "multiworker" or not _cluster():
        return True
    machines = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    chief = "chief" if "chief" in machines.cluster_spec().jobs else "worker"
    return machines.task_type == chief and machines.task_id == 0


def split_batches(batches: tf.data.Dataset, batch_size: int) -> Any:
    """Let each replica of the current strategy have its part of each batch, in order.

    So a step sees the same images however many replicas there are. TensorFlow's own sharding may give each worker
    other batches instead.

    Args:
        batches: Batches of ``batch_size`` examples, the same for all workers.
        batch_size: A multiple of the number of replicas.

    Raises:
        ValueError: It is none.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches
    if batch_size % replicas:
        raise ValueError(f"batch_size={batch_size} must be a multiple of the number of replicas, {replicas}.")

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        mine = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * mine

        def part(tensor: tf.Tensor) -> tf.Tensor:
            return tf.reshape(tensor, [replicas, batch_size // replicas, *tensor.shape[1:]])[first : first + mine]

        def parts(*batch: Any) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(part, batch))

        return batches.flat_map(parts).prefetch(2 * mine)

    return strategy.distribute_datasets_from_function(of_worker)


def batch_norms(model: tf.keras.Model) -> list[tf.keras.layers.BatchNormalization]:
    """Return a model's batch normalisations, also those in layers that are models themselves."""
    return [layer for layer in model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]


def use_sync_batch_norm(model: tf.keras.Model) -> None:
    """Let normalisations take their statistics over the whole batch, of which each replica sees only its part."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    # Each replica's figures are already those of all; Keras would add them up over workers.
    model.distribute_reduction_method = "first"
    for layer in batch_norms(model):
        layer.synchronized, layer.fused = True, False  # TensorFlow's fused kernel knows its own replica alone
