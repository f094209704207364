"""One name for every variable of a model, which does not change between sessions, and what is binary among them."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from ...quantizers.base import DEPTHWISE, INPUT, KERNEL, POINTWISE, BinaryQuantizer
from ...quantizers.binary_set import upper_values
from ...quantizers.kernel import KernelQuantizer
from ...util.formatting import natural_key

# Larq's quantizer arguments, and the kernel that each one quantizes.
_QUANTIZERS = {INPUT: None, KERNEL: "kernel", DEPTHWISE: "depthwise_kernel", POINTWISE: "pointwise_kernel"}
_LISTED = 8

TOP = "logits"
"""How the names of a classifier's layers begin: those whose shape depends on the number of classes."""


def latent_variable(variable: tf.Variable) -> tf.Variable:
    """Return the variable itself of one that Larq quantizes when it is read in a ``quantized_scope``."""
    return getattr(variable, "latent_variable", variable)


@contextlib.contextmanager
def latent_scope() -> Iterator[None]:
    """Have Keras read, save and train latent weights.

    Larq's ``quantized_scope``, in which it would be quantized ones, stays on after any exception inside it, or inside
    the call of one of Larq's layers; an interrupted `fit` is enough.
    """
    scope = lq.context.quantized_scope(False)
    scope.__enter__()
    try:
        yield
    finally:
        scope.__exit__(None, None, None)


@dataclass(frozen=True)
class BinaryKernel:
    """A latent kernel, the quantizer that makes it binary and the layer both belong to."""

    layer: tf.keras.layers.Layer
    variable: tf.Variable
    quantizer: tf.keras.layers.Layer

    def quantized(self, latent: np.ndarray | tf.Tensor) -> np.ndarray:
        """Return what the layer would convolve with if its kernel were ``latent``."""
        return np.asarray(self._quantize(latent).numpy(), latent.dtype)

    def signs(self, latent: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Return where `quantized` would be the larger of its filter's two values; can be traced."""
        return upper_values(self._quantize(latent), self.filter_axes())

    def _quantize(self, latent: np.ndarray | tf.Tensor) -> tf.Tensor:
        self._bind()
        return self.quantizer(tf.cast(latent, self.layer.compute_dtype))

    def filter_axes(self) -> list[int]:
        """Return the axes of the kernel that lie inside one filter of the quantizer."""
        self._bind()
        if isinstance(self.quantizer, KernelQuantizer):
            return self.quantizer.filter_axes(self.variable.shape)
        return list(range(len(self.variable.shape) - 1))

    def _bind(self) -> None:
        """Tell a quantizer that several layers share which of them this is about."""
        if isinstance(self.quantizer, BinaryQuantizer):
            self.quantizer.bind_to(self.layer)


def named_variables(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """Return every variable of a model under the name ``layer/variable`` or ``layer/quantizer slot/variable``.

    Keras' own names count how many layers a session has made; these depend on the layers' names alone. Variables of
    nested models have the nested model's name in front. A binary kernel's is that of its latent weights, whatever
    Larq's ``quantized_scope`` is.

    Raises:
        ValueError: Two variables of one layer have the same name, or one belongs to no layer; or it is no ``tf.keras``
            model, see `check_keras_2`.
    """
    check_keras_2(model)
    names: dict[str, tf.Variable] = {}
    named = set()
    for prefix, layer in _layers(model):
        for path, variable in _layer_variables(layer):
            name = f"{prefix}{layer.name}/{path}"
            if name in names:
                raise ValueError(f"The model {model.name!r} has two variables that would both be called {name!r}.")
            names[name] = latent_variable(variable)
            named.add(id(variable))
    if left := [variable.name for variable in model.weights if id(variable) not in named]:
        raise ValueError(
            f"The model {model.name!r} has variables that belong to none of its layers: {', '.join(left[:8])}."
        )
    return names


def check_keras_2(model: tf.keras.Model) -> None:
    """Raise `ValueError` where a model, or one of its layers, is of Keras 3, the package ``keras`` by itself.

    A layer of Keras 3 takes a tensor of ``tf.keras`` for TensorFlow's: what it computes becomes part of the model, but
    its variables do not. They are never trained, and not saved.
    """
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            f"model must be a model of tf.keras, not a {type(model).__module__}.{type(model).__qualname__}: the "
            "package keras, imported by itself, is Keras 3."
        )
    for layer in model._flatten_layers():
        for node in layer.inbound_nodes if isinstance(layer, TFOpLambda) else ():
            if any(_is_variable_of_nobody(value) for value in tf.nest.flatten((node.call_args, node.call_kwargs))):
                raise ValueError(
                    f"The model {model.name!r} computes {layer.name!r} with variables that belong to none of its "
                    "layers: they would be neither trained nor saved. Layers of the package keras, which is Keras 3, "
                    "do that: make them with tf.keras.layers."
                )


def _is_variable_of_nobody(value: Any) -> bool:
    if isinstance(value, tf.Variable) or (type(value).__name__, type(value).__module__[:6]) == ("Variable", "keras."):
        return True
    # What Keras 3 casts becomes a constant, like those that people write, though theirs are rarely kernels.
    return "keras.layers" in sys.modules and isinstance(value, tf.Tensor) and value.shape.rank not in (None, 0, 1)


def binary_kernels(model: tf.keras.Model) -> dict[str, BinaryKernel]:
    """Return the kernels of a model that a 1-bit quantizer binarises, under their names in `named_variables`."""
    kernels = {}
    for prefix, layer in _layers(model):
        for slot, attribute in _QUANTIZERS.items():
            quantizer = getattr(layer, slot, None)
            if attribute and getattr(quantizer, "precision", None) == 1:
                variable = latent_variable(getattr(layer, attribute))
                kernels[f"{prefix}{layer.name}/{attribute}"] = BinaryKernel(layer, variable, quantizer)
    return kernels


def names_here(model: tf.keras.Model, names: Iterable[str]) -> dict[str, str]:
    """Return what the variables of a file are called in a model: the same, but for the numbers of unnamed layers.

    Keras calls a layer without a name after its class and counts these in a session: ``dense_1`` may be the file's
    ``dense``. Where as many are left over on both sides, they belong together in their order.
    """
    unnamed = {_automatic_name(layer) for _, layer in _layers(model)}
    ours, theirs = named_variables(model).keys(), set(names)
    left: dict[str, tuple[list[str], list[str]]] = {}
    for side, only in enumerate((theirs - ours, ours - theirs)):
        for name in sorted(only, key=natural_key):
            owner, _, path = name.rpartition("/")
            if (slot := owner.rpartition("/")[2]) in _QUANTIZERS:
                owner, path = owner.rpartition("/")[0], f"{slot}/{path}"
            bare = re.sub(r"_\d+$", "", owner)
            if bare.rpartition("/")[2] in unnamed:
                left.setdefault(f"{bare}/{path}", ([], []))[side].append(name)
    pairs = (zip(*sides, strict=True) for sides in left.values() if len(sides[0]) == len(sides[1]))
    return {name: name for name in theirs} | dict(itertools.chain.from_iterable(pairs))


def _automatic_name(layer: tf.keras.layers.Layer) -> str:
    """Return what Keras calls the first layer of a class that gets no name."""
    words = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", type(layer).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def assign(model: tf.keras.Model, values: Mapping[str, np.ndarray], source: str, new_top: bool = False) -> None:
    """Set every variable of a model, or none of them.

    Args:
        model: The model to fill. Where it has no classifier, values for one are left aside.
        values: One array for every variable, under its name in `named_variables`.
        source: What to call the values in an error message.
        new_top: Leave the classifier of the model as it is, whether ``values`` have one or not.

    Raises:
        ValueError: A value is missing, unexpected, or of another shape or kind of number than its variable.
    """
    variables = named_variables(model)
    here = names_here(model, values)
    values = {here[name]: value for name, value in values.items()}
    if new_top or not any(name.startswith(TOP) for name in variables):
        variables = {name: v for name, v in variables.items() if not name.startswith(TOP)}
        values = {name: value for name, value in values.items() if not name.startswith(TOP)}
    misshaped = [
        f"{name} {tuple(values[name].shape)} for {tuple(v.shape)}"
        for name, v in variables.items()
        if name in values and tuple(values[name].shape) != tuple(v.shape)
    ]
    mistyped = [
        f"{name} {values[name].dtype} for {v.dtype.name}"
        for name, v in variables.items()
        if name in values and _kind(values[name]) != ("integer" if v.dtype.is_integer or v.dtype.is_bool else "real")
    ]
    problems = {
        "missing": variables.keys() - values.keys(),
        "unexpected": values.keys() - variables.keys(),
        "misshaped": misshaped,
        "of the wrong type": mistyped,
    }
    check_fit(model, source, problems)
    for name, variable in variables.items():
        variable.assign(values[name])


def check_fit(model: tf.keras.Model, source: str, problems: Mapping[str, Collection[str]]) -> None:
    """Raise `ValueError` where there are problems with the values of a source: names, by what is wrong with them."""
    listed = [
        f"{kind}: {', '.join(sorted(names)[:_LISTED])}" + (", ..." if len(names) > _LISTED else "")
        for kind, names in problems.items()
        if names
    ]
    if listed:
        raise ValueError(f"{source} does not fit the model {model.name!r}: {'; '.join(listed)}.")


def _kind(value: np.ndarray) -> str:
    return {"i": "integer", "u": "integer", "b": "integer", "c": "complex"}.get(value.dtype.kind, "real")


def _layers(model: tf.keras.Model, prefix: str = "") -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix, layer


def _layer_variables(layer: tf.keras.layers.Layer) -> Iterator[tuple[str, tf.Variable]]:
    seen = set()
    for slot in _QUANTIZERS:
        quantizer = getattr(layer, slot, None)
        for variable in getattr(quantizer, "weights", []):
            seen.add(id(variable))
            yield f"{slot}/{_short_name(variable)}", variable
    for variable in layer.weights:
        if id(variable) not in seen:
            yield _short_name(variable), variable


def _short_name(variable: tf.Variable) -> str:
    return variable.name.split("/")[-1].split(":")[0]
