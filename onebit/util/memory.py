"""Memory that TensorFlow keeps after a training."""

from __future__ import annotations

import gc
from collections.abc import Collection

from tensorflow.python.framework import ops


def custom_gradients() -> set[str]:
    """Return the names under which TensorFlow keeps the custom gradients of the graphs that it has traced."""
    return {name for name in ops.gradient_registry.list() if name.startswith("CustomGradient-")}


def release_custom_gradients(keep: Collection[str] = ()) -> int:
    """Let go of the graphs of models that are no longer used.

    TensorFlow keeps each custom gradient that a graph has met for good, and with it the graph and its variables: about
    50 MB for each ``fit`` of a ResNet-20. Call this between the trainings of a loop, when the models are deleted or
    will not be trained again; a model that is to be trained further must be compiled anew.

    Args:
        keep: Names from `custom_gradients` that stay.

    Returns:
        How many were let go.
    """
    names = custom_gradients() - set(keep)
    for name in names:
        del ops.gradient_registry._registry[name]
    gc.collect()  # models are cycles of references
    return len(names)
