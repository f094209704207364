"""Whether an exported file is the Keras model: its binary layers bit by bit, and its predictions on real images."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...util.graph import Graph, Node
from ...util.operations import BinaryConv
from .tflite import strided_same
from .tflite_file import TFLiteFile


class Agreement(NamedTuple):
    """How far a file's outputs are from Keras'.

    Attributes:
        images: How many were compared.
        max_difference, mean_difference: Largest and mean absolute difference of the outputs.
        median_difference: The median image's largest difference. Where it is a rounding error and the maximum is not,
            a few images have a value so near a threshold that rounding decides its sign.
        same_class: Share of the images whose largest output is the same, in percent. Of a model of one output: which
            is on the same side of 0.5 where Keras' are all from 0 to 1, otherwise of 0.
    """

    images: int
    max_difference: float
    mean_difference: float
    median_difference: float
    same_class: float


def compare(
    model: Callable[..., Any],
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Compare a file's outputs with those of the Keras model it was made from.

    Args:
        model: The Keras model, or another function of a batch.
        predict: Runs the file on one image, (1, height, width, channels).
        images: What to compare on, preprocessed, (n, height, width, channels).
        progress: Called with the number of images after each one.

    Raises:
        ValueError: Keras' own outputs are not all finite: there is nothing to compare with.
    """
    # Called directly: `predict` would first spend seconds on building a graph.
    batches = (images[start : start + 32] for start in range(0, len(images), 32))
    expected = np.concatenate([np.asarray(model(batch)) for batch in batches]).reshape(len(images), -1)
    if not np.isfinite(expected).all():
        raise ValueError(f"The model returns NaN or infinity for some of the {len(images)} images.")
    actual = np.empty_like(expected)
    for index in range(len(images)):
        actual[index] = predict(images[index : index + 1]).reshape(-1)
        if progress:
            progress(1)
    difference = np.abs(actual - expected)
    return Agreement(
        images=len(images),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        median_difference=float(np.median(difference.max(axis=1))),
        same_class=float(100 * (_decided(actual, expected) == _decided(expected, expected)).mean()),
    )


def _decided(outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which class each image has by its outputs, (n, classes) or (n, 1)."""
    if expected.shape[1] > 1:
        return outputs.argmax(axis=1)
    probabilities = expected.min() >= 0 and expected.max() <= 1
    return outputs[:, 0] > (0.5 if probabilities else 0.0)


def nudged(graph: Graph) -> Graph:
    """Return a graph whose inputs of signs are hardly ever at a threshold, by moving each threshold a little.

    In a network that was never trained they often are but for rounding, and then no two implementations agree. Whether
    a conversion is right shows here all the same.
    """
    rng = np.random.default_rng(0)

    def moved(node: Node) -> Node:
        if not isinstance(node.operation, BinaryConv):
            return node
        threshold = node.operation.threshold - rng.uniform(0.5, 1, node.operation.threshold.shape) / 1024
        return dataclasses.replace(
            node, operation=dataclasses.replace(node.operation, threshold=threshold.astype("f4"))
        )

    return dataclasses.replace(graph, nodes=tuple(map(moved, graph.nodes)))


def float_fallbacks(graph: Graph, file: TFLiteFile) -> dict[str, str]:
    """Return the binary layers that are not binary in the file, by name, each with the reason.

    A layer is binary in the file if each of its groups' kernels is there as the kernel of a binary convolution, bit for
    bit. A kernel of the file stands for one layer only, unless several compute the same and share an operation.
    """
    number = _numbered(graph)
    known: set[int] = set()
    found = Counter(_key(kernel) for kernel in file.binary_kernels)
    missing = dict(graph.float_layers)
    for node in graph.nodes:
        operation = node.operation
        if not isinstance(operation, BinaryConv) or number[node.name] in known:
            continue
        known.add(number[node.name])
        wanted = Counter(_key(part) for part in np.split(operation.signs.transpose(3, 0, 1, 2), operation.groups))
        if wanted - found:
            missing[node.layer] = "the converter did not recognise it"
        else:
            found -= wanted
    return missing


def _numbered(graph: Graph) -> dict[str, int]:
    """Return a number for each node, by name, which nodes have in common that compute the same from the same."""
    numbers: dict[str, int] = {}
    seen: dict[Any, int] = {}
    for node in graph.nodes:
        values = [getattr(node.operation, each.name) for each in dataclasses.fields(node.operation)]
        fields = [(v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values]
        key = (type(node.operation), *fields, *(numbers[name] for name in node.inputs))
        numbers[node.name] = seen.setdefault(key, len(seen))
    return numbers


def _key(signs: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return signs.shape, np.packbits(signs).tobytes()


def misaligned_convolutions(graph: Graph, file: TFLiteFile) -> int:
    """Return how many convolutions with strides are padded as ``same`` in the file, but not in the network.

    They begin at another pixel than they should: the converter takes zeros before a convolution for ``same`` wherever
    that returns as many pixels.
    """
    return max(file.strided_same - strided_same(graph), 0)
