"""TensorFlow's side: a Keras training step becomes a `Program`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .runner import Program

MINIMUM_STABLEHLO = "1.0.0"
"""Version of the portable format that is written: every JAX from 0.4.26 on reads it."""


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
        ValueError: XLA cannot compile the function.
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
    module = _exported(text, len(results))
    return Program(module, len(batch), tuple(labels), tuple(changes), results), state


def _aliases(text: str) -> list[tuple[int, int]]:
    """Return which parameter each output is a new value of: the module says so in its header."""
    found = re.search(r"mhlo\.input_output_alias = \[(.*?)\]\s*[,}]", text, re.DOTALL)
    pattern = r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>"
    return [(int(p), int(o)) for p, o in re.findall(pattern, found.group(1))] if found else []


def _exported(text: str, results: int) -> bytes:
    """Return StableHLO, as TensorFlow prints it, as what ``jax.export.deserialize`` reads on any platform."""
    import jax
    from jax import export
    from jax._src.interpreters import mlir  # the only way to a context with StableHLO's operations
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    kinds = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i64": np.int64, "i32": np.int32, "i1": np.bool_}
    kinds |= {"ui8": np.uint8, "i8": np.int8, "ui32": np.uint32, "ui64": np.uint64, "bf16": jax.numpy.bfloat16}

    def shaped(kind: Any) -> Any:
        tensor = ir.RankedTensorType(kind)
        return jax.core.ShapedArray(tuple(tensor.shape), np.dtype(kinds[str(tensor.element_type)]))

    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        _drop_attributes(module.operation)
        main = next(function for function in module.body if function.name.value == "main")
        if "arg_attrs" in main.operation.attributes:
            del main.operation.attributes["arg_attrs"]
        inputs, outputs = [shaped(t) for t in main.type.inputs], [shaped(t) for t in main.type.results]
        artifact = stablehlo.serialize_portable_artifact_str(module.operation.get_asm(), MINIMUM_STABLEHLO)
    tree = jax.tree_util.tree_structure
    exported = export.Exported(
        fun_name="step",
        in_tree=tree((tuple(range(len(inputs))), {})),
        in_avals=tuple(inputs),
        out_tree=tree(tuple(range(len(outputs)))),
        out_avals=tuple(outputs),
        in_shardings_hlo=(None,) * len(inputs),
        out_shardings_hlo=(None,) * len(outputs),
        nr_devices=1,
        platforms=("cpu",),
        ordered_effects=(),
        unordered_effects=(),
        # Nothing in the module is for one platform only.
        disabled_safety_checks=(export.DisabledSafetyCheck.platform(),),
        mlir_module_serialized=artifact,
        calling_convention_version=export.minimum_supported_calling_convention_version,
        module_kept_var_idx=tuple(range(len(inputs))),
        uses_global_constants=False,
        _get_vjp=None,
    )
    return bytes(exported.serialize())


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
