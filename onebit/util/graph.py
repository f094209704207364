"""A network as a flat list of plain operations: what lies between a Keras model and the file of an engine.

`onebit.zoo.export.lowering` makes a `Graph` from a model; one emitter for each engine writes it down.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .operations import BinaryConv, Conv, Input, Operation, Shape


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of a graph.

    Attributes:
        name: Its own; no other node has it.
        layer: Name of the Keras layer it comes from.
        operation: What it computes.
        inputs: The names of the nodes that it computes that from.
        shape: Of its result, without the batch.
    """

    name: str
    layer: str
    operation: Operation
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Attributes:
        name: The model's.
        nodes: In an order in which they can be computed. The first is the only `Input`, the last is the result.
        binary_layers: The layers whose multiplications are 1-bit in the model.
        float_layers: Those of them that are no `BinaryConv` here, by name, each with the reason.
    """

    name: str
    nodes: tuple[Node, ...]
    binary_layers: tuple[str, ...] = ()
    float_layers: Mapping[str, str] = field(default_factory=dict)

    @property
    def input(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    @property
    def dtype(self) -> np.dtype:
        """What the image is given as."""
        operation = self.input.operation
        assert isinstance(operation, Input)
        return np.dtype(operation.dtype)

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each node's result, by name."""
        return {node.name: node.shape for node in self.nodes}

    def only_consumer(self, name: str) -> Node | None:
        """Return the node that takes the result of another, if there is one and no more."""
        following = self.consumers[name]
        return following[0] if len(following) == 1 else None

    @functools.cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """For each node, by name, those that take its result."""
        consumers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                consumers[name].append(node)
        return consumers

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the network in NumPy for a batch of images; for small ones, as a reference."""
        values = {self.input.name: np.asarray(images, np.float32)}
        for node in self.nodes[1:]:
            result = node.operation.compute(*(values[name] for name in node.inputs))
            values[node.name] = np.asarray(result, np.float32)
        return values[self.output.name]


def full_precision(graph: Graph) -> Graph:
    """Return a network of real convolutions for the binary ones, with random weights, to compare speeds with."""
    rng = np.random.default_rng(0)

    def real(node: Node) -> Node:
        binary = node.operation
        if not isinstance(binary, BinaryConv):
            return node
        kernel = rng.normal(0, 1 / math.sqrt(binary.taps), binary.signs.shape).astype(np.float32)
        conv = Conv(binary.strides, binary.pads, binary.dilations, binary.groups, kernel=kernel)
        return replace(node, operation=conv)

    return replace(graph, nodes=tuple(map(real, graph.nodes)))


class GraphBuilder:
    """Collects the nodes of a graph in order; `add` is what a layer's ``lower`` calls."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._layer = ""

    @property
    def nodes(self) -> list[Node]:
        """What was added so far."""
        return list(self._nodes.values())

    @contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """Let what is added inside belong to this layer."""
        before, self._layer = self._layer, name
        try:
            yield
        finally:
            self._layer = before

    def add(self, operation: Operation, *inputs: Node, name: str | None = None) -> Node:
        """Append an operation on the results of other nodes; return its node.

        Args:
            operation: What it computes.
            *inputs: From which results.
            name: Its name within the layer; by default the operation's.
        """
        shape = tuple(int(n) for n in operation.shape(*(node.shape for node in inputs)))
        stem = f"{self._layer}/{name or type(operation).__name__.lower()}"
        unique, number = stem, 1
        while unique in self._nodes:
            number += 1
            unique = f"{stem}_{number}"
        node = Node(unique, self._layer, operation, tuple(each.name for each in inputs), shape)
        self._nodes[unique] = node
        return node

    def producer(self, node: Node) -> Node:
        """Return the node whose result is another's first input."""
        return self._nodes[node.inputs[0]]

    def finish(self, name: str, output: Node, **attributes: Any) -> Graph:
        """Return the graph of what ``output`` is computed from."""
        needed = {output.name}
        for node in reversed(self._nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in self._nodes.values() if node.name in needed or isinstance(node.operation, Input))
        return Graph(name, nodes, **attributes)
