"""Where the signs of a network change: as engines want it that compare by ``>``, and between whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...util.graph import Graph, Node
from ...util.operations import Affine, BinaryConv, Clip, MaxPool, Numbers, TwoSlopes

BELOW_ZERO = np.float32(-np.finfo(np.float32).tiny)
PER_CHANNEL = (Affine, TwoSlopes, Clip)


def below(threshold: Numbers) -> np.ndarray:
    """Return the largest float32 t for which x > t where x >= threshold, for an engine to which denormals are 0."""
    threshold = np.asarray(threshold, np.float32)
    t = np.nextafter(threshold, np.float32(-np.inf))
    return np.where(np.abs(t) >= -BELOW_ZERO, t, np.where(threshold > 0, np.float32(0), BELOW_ZERO))


def only_signs(graph: Graph, name: str) -> bool:
    """Return whether all that takes a node's result takes the same signs of it."""
    operations = [node.operation for node in graph.consumers[name]]
    kinds = {(each.threshold.tobytes(), each.groups) for each in operations if isinstance(each, BinaryConv)}
    return len(kinds) == 1 and all(isinstance(each, BinaryConv) for each in operations)


@dataclass(frozen=True)
class Folded:
    """Signs that are decided by the sums of a binary convolution.

    A sign is +1 where ``direction`` times the sum, after pooling, is above ``threshold``, which is no whole number.

    Attributes:
        convolution: The node of the convolution.
        pools: The poolings between it and the signs, in their order.
        direction: 1 or -1 for each channel.
        threshold: One for each channel.
    """

    convolution: Node
    pools: tuple[Node, ...]
    direction: np.ndarray
    threshold: np.ndarray


def fold(graph: Graph, name: str, threshold: np.ndarray) -> Folded | None:
    """Return on which sums alone the signs of a node's result depend, found by trying all of them.

    An engine that merges a normalisation with a sign by its own arithmetic loses ties; this does not.

    Returns:
        ``None`` unless nothing but pooling and rising or falling functions of each channel stands between a binary
        convolution without groups and these signs, and nothing else takes what is between.
    """
    nodes = {node.name: node for node in graph.nodes}
    chain: list[Node] = []
    node = nodes[name]
    if not only_signs(graph, name):
        return None
    while isinstance(node.operation, (*PER_CHANNEL, MaxPool)):
        chain.insert(0, node)
        node = nodes[node.inputs[0]]
        if graph.only_consumer(node.name) is None:
            return None
    operation = node.operation
    if not chain or not isinstance(operation, BinaryConv) or operation.groups > 1:
        return None
    sums = np.arange(-operation.taps, operation.taps + 1, dtype=np.float32)
    values = (sums[:, None] * operation.scale)[:, None, None]
    pools = [step for step in chain if isinstance(step.operation, MaxPool)]
    for step in chain:
        if step not in pools:
            values = step.operation.compute(values).astype(np.float32)
    above = (values >= threshold)[:, 0, 0]
    rising = above[-1] | ~above[0]
    if np.count_nonzero(np.diff(above.astype(np.int8), axis=0), axis=0).max() > 1:
        return None
    if chain[: len(pools)] != pools and not rising.all():  # of a falling function a maximum is a minimum
        return None
    direction = np.where(rising, np.float32(1), np.float32(-1))
    count = np.where(rising, (~above).sum(0), above.sum(0))
    step_at = (count - operation.taps - 0.5).astype(np.float32)
    return Folded(node, tuple(pools), direction, step_at * direction)
