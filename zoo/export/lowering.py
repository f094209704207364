"""From a Keras model to the `Graph` that every engine's file is made from, each kernel quantized once.

A layer says itself what it computes, by a method ``lower(graph, *inputs)`` that adds plain operations and returns the
node of its result. Keras' and Larq's layers are described in `keras_layers` and `binary_layers`, by functions marked
`lowers`. A layer that has neither, or returns ``NotImplemented``, becomes an `Opaque` operation, which the Larq Compute
Engine's and TensorFlow Lite's converters may still know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from tf_keras.src.engine.functional import Functional
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from ...util import operations as ops
from ...util.graph import Graph, GraphBuilder, Node
from .binary_layers import is_binary, why_not_binary
from .keras_layers import ACTIVATIONS, LOWERINGS

_FUNCTIONAL = (tf.keras.Sequential, Functional)


def lower(model: tf.keras.Model) -> Graph:
    """Return what a model computes at inference, as plain operations.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32. It stays as it is. The
            layers of models among its layers are taken for its own.

    Raises:
        ValueError: The model is not of this kind.
    """
    _check(model)
    # What an interrupted call of a Larq layer leaves behind must not decide which weights are read.
    with lq.context.quantized_scope(False):
        return _Walk().model(model)


def leaf_layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Yield the layers of a model and of the functional models among them."""
    for layer in model.layers:
        if _is_functional(layer):
            yield from leaf_layers(layer)
        else:
            yield layer


def _is_functional(layer: Any) -> bool:
    computes_its_layers = any(type(layer).call is each.call for each in _FUNCTIONAL)
    return getattr(layer, "_is_graph_network", False) and computes_its_layers


def _check(model: tf.keras.Model) -> None:
    if not _is_functional(model):
        raise ValueError(
            "model must be a functional or sequential model of tf.keras (Keras 2) that is built, not "
            f"{type(model).__module__.split('.')[0]}.{type(model).__name__}."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"model must have one input and one output, not {len(model.inputs)} and {len(model.outputs)}.")
    shape = model.inputs[0].shape[1:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"model must have a fixed input shape, not {tuple(shape)}: a file for a device has no dynamic shapes. "
            "Build it with input_shape=(height, width, channels)."
        )
    layers = [layer for layer in leaf_layers(model) if not isinstance(layer, tf.keras.layers.InputLayer)]
    other = sorted({layer.compute_dtype for layer in layers if layer.compute_dtype} - {"float32"})
    if other:
        raise ValueError(
            f"model must compute in float32, not in {', '.join(other)}: build it under the policy 'float32' and load "
            "its weights."
        )


class _Walk:
    """The nodes of a Keras model in the order of their computation."""

    def __init__(self) -> None:
        self.graph = GraphBuilder()
        self.binary: dict[str, str | None] = {}

    def model(self, model: tf.keras.Model) -> Graph:
        image = model.inputs[0]
        with self.graph.layer("image"):
            node = self.graph.add(ops.Input(tuple(image.shape[1:]), image.dtype.name), name="input")
        (output,) = self._nested(model, [node], "")
        fallbacks = {name: reason for name, reason in self.binary.items() if reason is not None}
        return self.graph.finish(model.name, output, binary_layers=tuple(self.binary), float_layers=fallbacks)

    def _nested(self, model: tf.keras.Model, inputs: list[Node], prefix: str) -> list[Node]:
        values = {id(tensor): node for tensor, node in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input and all(id(tensor) in values for tensor in node.keras_inputs):
                    given = [values[id(tensor)] for tensor in node.keras_inputs]
                    results = self._layer(node, given, prefix)
                    values.update(zip(map(id, tf.nest.flatten(node.outputs)), results, strict=True))
        return [values[id(tensor)] for tensor in model.outputs]

    def _layer(self, node: Any, inputs: list[Node], prefix: str) -> list[Node]:
        layer, name = node.layer, f"{prefix}{node.layer.name}"
        if _is_functional(layer):
            return self._nested(layer, inputs, f"{name}/")
        with self.graph.layer(name):
            result = _lower_call(node, self.graph, inputs)
            results = _opaque(node, self.graph, inputs) if result is NotImplemented else [result]
        if is_binary(layer):
            self.binary[name] = None if _has_binary(self.graph, name) else why_not_binary(layer)
        return results


def _has_binary(graph: GraphBuilder, layer: str) -> bool:
    return any(node.layer == layer and isinstance(node.operation, ops.BinaryConv) for node in graph.nodes)


def _lower_call(node: Any, graph: GraphBuilder, inputs: list[Node]) -> Any:
    layer = node.layer
    if isinstance(layer, TFOpLambda):
        return _operator(node, graph, inputs)
    for kind in type(layer).__mro__:
        if "lower" in vars(kind):
            return layer.lower(graph, *inputs)
        if kind in LOWERINGS:
            # A vector's channels are its last axis, whatever the layer's setting.
            if getattr(layer, "data_format", "channels_last") != "channels_last" and len(inputs[0].shape) > 1:
                return NotImplemented
            return LOWERINGS[kind](layer, graph, *inputs)
        if vars(kind).keys() & {"call", "__call__", "convolution_op"}:
            break
    return NotImplemented


def _opaque(node: Any, graph: GraphBuilder, inputs: list[Node]) -> list[Node]:
    """Return one operation for each output of a layer, which calls the layer."""
    kind = f"{type(node.layer).__name__} ({node.layer.name})"

    def output(index: int) -> Callable[..., Any]:
        def function(*tensors: Any) -> Any:
            given: dict[str, list[Any]] = {key: [] for key in node.flat_input_ids}
            for key, tensor in zip(node.flat_input_ids, tensors, strict=True):
                given[key].append(tensor if tf.is_tensor(tensor) else tf.constant(tensor))
            args, kwargs = node.map_arguments(given)
            if node.layer._expects_training_arg:
                kwargs["training"] = False
            return tf.nest.flatten(node.layer(*args, **kwargs))[index]

        return function

    shapes = [tuple(tensor.shape[1:]) for tensor in tf.nest.flatten(node.outputs)]
    return [graph.add(ops.Opaque(output(index), kind, shape), *inputs) for index, shape in enumerate(shapes)]


def _operator(node: Any, graph: GraphBuilder, inputs: list[Node]) -> Any:
    """Lower what Keras makes of an operator or a TensorFlow function between its tensors."""
    name = node.layer.symbol.removeprefix("__operators__.").removeprefix("math.")
    arguments = [*node.call_args, *(value for key, value in node.call_kwargs.items() if key != "name")]
    if name == "cast":
        return inputs[0] if tf.as_dtype(arguments[1]) == tf.float32 else NotImplemented
    if len(arguments) == 1 and name in ACTIVATIONS:
        return graph.add(ACTIVATIONS[name](), *inputs)
    if len(arguments) != 2 or name not in _ARITHMETIC:
        return NotImplemented
    if len(inputs) == 2:
        return graph.add(ops.Add(), *inputs) if name == "add" else graph.add(ops.Multiply(), *inputs)
    number = arguments[1]
    if not isinstance(number, (int, float, np.number)):
        return NotImplemented
    return graph.add(_ARITHMETIC[name](float(number)), *inputs)


_ARITHMETIC: Mapping[str, Callable[[float], ops.Operation]] = {
    "add": lambda number: ops.Affine(offset=np.float32(number)),
    "subtract": lambda number: ops.Affine(offset=np.float32(-number)),
    "multiply": lambda number: ops.Affine(np.float32(number)),
    "truediv": lambda number: ops.Affine(np.float32(1 / number)),
}
