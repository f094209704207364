"""The converters of TensorFlow Lite and the Larq Compute Engine, each behind the same call."""

from __future__ import annotations

import tempfile
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ...util.arguments import check_choice
from ...util.graph import Graph
from ...util.stderr import captured_stderr
from .interpreter import require_engine
from .lowering import lower
from .tflite import as_function, check_engine

Precision = Literal["binary", "float32", "float16", "int8"]
"""What the weights of an exported file are stored in.

- ``"binary"``: 1 bit for each weight of a binary convolution, 32 for the others; needs the Larq Compute Engine.
- ``"float32"``, ``"float16"``, ``"int8"``: all the same, by TensorFlow Lite's standard converter. With ``"int8"``
  activations stay real and are quantized as the network runs (dynamic range); a kernel of ± one number for each
  filter, like all binary ones, loses nothing by it.
"""

_PLAIN = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def convert_to_tflite(model: tf.keras.Model, precision: Precision) -> bytes:
    """Return a model as the content of a TensorFlow Lite file, without the verification of `zoo.export`.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32.
        precision: See `Precision`.

    Raises:
        ValueError: The model cannot be converted, or there is no such precision.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    return convert_graph(checked_graph(model, precision), precision)


def checked_graph(model: tf.keras.Model, precision: Precision) -> Graph:
    """Return the model's lowered graph, having checked that it can be stored in this precision."""
    check_choice("precision", precision, get_args(Precision))
    graph = lower(model)
    if precision == "binary":
        require_engine()
        check_engine(graph)
    return graph


def convert_graph(graph: Graph, precision: Precision) -> bytes:
    """Return a graph as the content of a TensorFlow Lite file.

    Raises:
        ValueError: The converter has no operation for something in it; the message has the converter's own words.
    """
    signature = [tf.TensorSpec((1, *graph.input.shape), graph.dtype, name="image")]
    predict = tf.function(as_function(graph), input_signature=signature, autograph=False)

    with tempfile.TemporaryDirectory() as folder, captured_stderr() as errors:
        try:
            # Without variables the file of the graph, and what is converted from it, takes a fifth of the time.
            frozen = _with_short_names(convert_variables_to_constants_v2(predict.get_concrete_function()))
            tf.saved_model.save(tf.Module(), folder, signatures=frozen, options=_PLAIN)
            return _convert(folder, precision)
        except Exception as error:  # whatever the converters raise
            raise ValueError(f"The model cannot be converted: {_reason(errors()) or error}") from error


def _with_short_names(function: Any) -> Any:
    """Return a frozen function with numbers for names of all operations but its inputs: in small files they count."""
    graph = function.graph.as_graph_def()
    names = {node.name: np.base_repr(number, 36) for number, node in enumerate(graph.node)}
    names.update((tensor.op.name, tensor.op.name) for tensor in function.inputs)
    for node in graph.node:
        node.name = names[node.name]
        # Without those that only order ("^..."): a frozen function has no side effects.
        inputs = [name.split(":") for name in node.input if not name.startswith("^")]
        node.input[:] = [":".join([names[operation], *output]) for operation, *output in inputs]
    outputs = [f"{names[tensor.op.name]}:{tensor.value_index}" for tensor in function.outputs]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return wrapped.prune([tensor.name for tensor in function.inputs], outputs)


def _convert(folder: str, precision: Precision) -> bytes:
    if precision == "binary":
        import larq_compute_engine

        return larq_compute_engine.convert_saved_model(folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _reason(text: str) -> str:
    """Return the converter's errors out of what it wrote, without the places in the graph that it names."""
    errors = [line.split("error:", 1)[1].strip() for line in text.splitlines() if "error:" in line]
    return " ".join(list(dict.fromkeys(errors))[:3])
