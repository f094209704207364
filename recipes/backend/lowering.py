"""TensorFlow's side: a Keras training step becomes a `Program`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .runner import Kind, Program

MINIMUM_STABLEHLO = "1.0.0"
"""Version of the portable format that is written: every JAX from 0.4.26 on reads it."""

_DTYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i1": "bool"}
_DTYPES |= {f"i{bits}": f"int{bits}" for bits in (8, 32, 64)} | {f"ui{bits}": f"uint{bits}" for bits in (8, 32, 64)}


def lower(
    function: Callable[..., Mapping[str, tf.Tensor]],
    batch: Sequence[tf.TensorSpec],
    names: Callable[[], Mapping[int, str]],
) -> tuple[Program, list[tf.Variable | np.ndarray]]:
    """Lower a function of a batch to a `Program`, with every variable that it uses as a parameter.

    Args:
        function: Returns scalars by name.
        batch: What it takes.
        names: Returns what to call variables in the program, by the ``id`` of their handles; called when all are made.

    Returns:
        The program, and its state: the variables in their order, and constants that the function holds.

    Raises:
        ValueError: XLA cannot compile the function, or not for all values of its inputs.
    """
    # Traced once plainly: variables that are made late, such as a metric's, are not allowed in what XLA compiles.
    tf.function(function, autograph=False).get_concrete_function(*batch)
    compiled = tf.function(function, jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(*batch)
    try:
        text = compiled.experimental_get_compiler_ir(*(tf.zeros(spec.shape, spec.dtype) for spec in batch))("stablehlo")
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"TensorFlow's XLA cannot compile this training step: {error}") from error
    held = {id(variable.handle): variable for variable in concrete.variables}
    state: list[tf.Variable | np.ndarray] = []
    labels: list[str] = []
    known = names()
    for captured in concrete.captured_inputs:
        resource = captured.dtype == tf.resource
        state.append(held[id(captured)] if resource else captured.numpy())
        labels.append(known.get(id(captured), f"other/{len(labels)}") if resource else f"constant/{len(labels)}")
    results = tuple(sorted(concrete.structured_outputs))
    changes = [(output, parameter - len(batch)) for parameter, output in _aliases(text)]
    module, takes, gives = _portable(text)
    if len(takes) != len(batch) + len(state):
        raise ValueError("TensorFlow's XLA takes an input for a constant: an operation needs its value to be compiled.")
    return Program(module, takes, gives, len(batch), tuple(labels), tuple(changes), results), state


def _aliases(text: str) -> list[tuple[int, int]]:
    """Return which parameter each output is a new value of: the module says so in its header."""
    found = re.search(r"mhlo\.input_output_alias = \[(.*?)\]\s*[,}]", text, re.DOTALL)
    pattern = r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>"
    return [(int(p), int(o)) for p, o in re.findall(pattern, found.group(1))] if found else []


def _portable(text: str) -> tuple[bytes, tuple[Kind, ...], tuple[Kind, ...]]:
    """Return StableHLO, as TensorFlow prints it, as a portable artifact, and its inputs and outputs."""
    from jax._src.interpreters import mlir  # the only way to a context with StableHLO's operations
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    def kinds(types: Any) -> tuple[Kind, ...]:
        tensors = map(ir.RankedTensorType, types)
        return tuple((tuple(tensor.shape), _DTYPES[str(tensor.element_type)]) for tensor in tensors)

    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        _drop_attributes(module.operation)
        main = next(function for function in module.body if function.name.value == "main")
        if "arg_attrs" in main.operation.attributes:
            del main.operation.attributes["arg_attrs"]
        artifact = stablehlo.serialize_portable_artifact_str(module.operation.get_asm(), MINIMUM_STABLEHLO)
        return bytes(artifact), kinds(main.type.inputs), kinds(main.type.results)


def _drop_attributes(operation: Any) -> None:
    """Remove what TensorFlow says to its own XLA, in a dialect that JAX does not read."""
    for name in [attribute.name for attribute in operation.attributes]:
        if name.startswith("mhlo."):
            del operation.attributes[name]
    for region in operation.regions:
        for block in region:
            for inner in list(block):
                if inner.operation.name == "mhlo.copy":
                    inner.operation.results[0].replace_all_uses_with(inner.operation.operands[0])
                    inner.operation.erase()
                else:
                    _drop_attributes(inner.operation)
