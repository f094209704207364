"""Where a training runs: one device, all of this machine's, or several machines."""

from __future__ import annotations

import os

import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multiworker")


def get_strategy(name: str) -> tf.distribute.Strategy:
    """Return the strategy of a name.

    Args:
        name: ``"none"``, ``"mirrored"`` (all GPUs of this machine) or ``"multiworker"`` (the machines of the
            environment variable ``TF_CONFIG``, each of which runs the same command).

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
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}, not {name!r}.")
