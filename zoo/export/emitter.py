"""What the emitters for ONNX and OpenVINO share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...util.graph import Graph
from ...util.operations import Opaque


class Value(NamedTuple):
    """A tensor, (batch, channels, ...), still to be multiplied and increased, each by channel."""

    tensor: Any
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    def then(self, scale: Any = None, offset: Any = None) -> Value:
        """Return the value multiplied and increased once more; ``None`` leaves it as it is."""
        tensor, before, after = self
        if scale is not None:
            before = scale if before is None else before * scale
            after = None if after is None else after * scale
        if offset is not None:
            after = offset if after is None else after + offset
        return Value(tensor, before, after)


def check_known(graph: Graph, engine: str) -> None:
    """Raise `ValueError` where a graph has what only Keras knows how to compute."""
    if unknown := [node.operation.kind for node in graph.nodes if isinstance(node.operation, Opaque)]:
        raise ValueError(f"{engine}'s emitter does not know {', '.join(dict.fromkeys(unknown))} of {graph.name}.")
