"""Packed files: a model at one bit per binary weight.

A packed file is a safetensors file. It holds, under the names of `named_variables`,

- for each binary kernel its signs, uint8, eight weights to a byte (1 for the upper value, first weight in the highest
  bit), filter by filter; and, where they do not follow from these, the two values of each filter: ``<name>:scale``,
  their magnitude, where they differ in sign alone, else ``<name>:low`` and ``<name>:high``;
- every other variable as it is.

The header's metadata entry ``onebit`` is JSON: ``format`` (the version), ``sha256`` (of the file with zeros in its
place), ``function`` and ``arguments`` (what to call to build the model; ``null`` for a model that is not the zoo's, or
no longer), ``kernels`` (the shape and filter axes of each binary kernel), ``source`` and ``metrics`` (what the writer
has to say of it), ``preprocessing`` (what the network expects at its input, see `Preprocessing.to_dict`), and
``class_names`` (what its classes are called, in their order).

A model loaded from a packed file predicts exactly what the saved one predicts. Its latent weights are new: they have
the right signs and scales, so that it can be trained on, but how far each weight was from zero is not kept. A kernel
whose filters have more than two values, or one that is no longer finite, is stored as it is, which a log message says.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...quantizers import BinarySet, latent_weights
from ...util.files import check_target
from ..images.images import Preprocessing, resolve_preprocessing
from ..model_info import is_changed, model_info
from . import latents
from .packed_file import write_packed
from .packed_header import HIGH, LOW, SCALE, check_fields
from .variables import BinaryKernel, binary_kernels, named_variables

log = logging.getLogger(__name__)


def save_packed(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | str | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write a model's weights as a packed file, replacing any file there in one step.

    Args:
        model: Any Keras model. One that the zoo built can be rebuilt from the file alone by `load_packed`; the weights
            of another one, or of one that was changed since, can be loaded back with `load_weights` into a model of the
            same architecture and layer names, which a log message says.
        path: The file to write.
        source: Where the weights come from, for the header.
        metrics: Measured figures, for the header: a dictionary that JSON can hold.
        preprocessing: What the network expects at its input, or the name of its constants in `zoo.PREPROCESSING`, for
            the header. Default: that of the weights which the model was built with, where it is known.
        class_names: What the classes are called, in the order of the outputs, for the header. Default: as with
            ``preprocessing``. None at all, ``()``, is for a network whose classes are not those it was loaded with.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: ``metrics`` cannot be written as JSON, two variables have the same name, there is no such
            preprocessing, there are not as many names as classes, or the model's activation is none that Keras has a
            name for; or a part of the model is of Keras 3.
    """
    info = model_info(model)
    built = info if info and not is_changed(model) else None
    if preprocessing is not None or info:
        preprocessing = resolve_preprocessing(preprocessing, info.preprocessing if info else Preprocessing())
    names = info.class_names if class_names is None and info else class_names
    if names and not isinstance(model.output_shape, tuple):
        raise ValueError(f"class_names are of one output, and the model {model.name!r} has {len(model.outputs)}.")
    if names and len(names) != model.output_shape[-1]:
        raise ValueError(
            f"class_names must be {model.output_shape[-1]} names, as many as the model has classes, not {len(names)}."
        )
    path = Path(path)
    check_target(path)
    tensors: dict[str, np.ndarray] = {}
    kernels: dict[str, Any] = {}
    binary = binary_kernels(model)
    for name, variable in named_variables(model).items():
        packed = _pack(binary[name]) if name in binary else None
        if packed is None:
            value = variable.numpy()
            # NumPy has no bfloat16.
            tensors[name] = np.asarray(value, np.float32 if variable.dtype == tf.bfloat16 else value.dtype, order="C")
            continue
        axes, parts = packed
        tensors |= {name + suffix: value for suffix, value in parts.items()}
        kernels[name] = {"shape": list(variable.shape), "filter_axes": axes}
    header = {
        "function": built and built.function,
        "arguments": dict(built.arguments) if built else None,
        "kernels": kernels,
        "source": source,
        "metrics": metrics,
        "preprocessing": preprocessing and _for_header(preprocessing, model),
        "class_names": list(map(str, names)) if names else None,
    }
    try:
        json.dumps(metrics, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metrics must be what JSON can hold: {error}") from error
    try:
        # An activation without a name becomes what the check refuses.
        header = json.loads(json.dumps(header, default=lambda value: {"object": repr(value)}))
        check_fields(header)
    except ValueError as error:
        raise ValueError(f"{model.name} cannot be packed: {error}") from error
    if built is None:
        log.warning(
            "%s %s, so it cannot be built from %s alone: build the same model and call load_weights(model, path). "
            "From a Keras file of a network of the zoo, zoo.convert makes a packed file that can be built.",
            *(model.name, "was changed since the zoo built it" if info else "is not a model that the zoo built", path),
        )
    write_packed(path, header, tensors)
    return path


def _for_header(preprocessing: Preprocessing, model: tf.keras.Model) -> dict[str, Any]:
    """Return a preprocessing with the size of the model's input, where that is fixed."""
    shape = model.input_shape
    size = shape[1:3] if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3] else preprocessing.size
    return replace(preprocessing, size=size).to_dict()


def _pack(kernel: BinaryKernel) -> tuple[list[int], dict[str, np.ndarray]] | None:
    """Return a kernel's filter axes, and its tensors by suffix; ``None`` where these do not give its output."""
    quantized = kernel.quantized(kernel.variable.numpy())
    axes = kernel.filter_axes()
    parts = BinarySet.of_filters(latents.as_filters(quantized, axes))
    if parts is not None:
        signs, binary = parts
        kind = np.promote_types(quantized.dtype, np.float32)
        low, high = binary.low.astype(kind), binary.high.astype(kind)
        values = {SCALE: high} if binary.is_symmetric else {LOW: low, HIGH: high}
        for weights, stored in (
            (latents.he_weights(signs), {}),
            (latent_weights(kernel.quantizer, signs, low, high), values),
        ):
            again = kernel.quantized(latents.from_filters(weights, quantized.shape, axes))
            if np.array_equal(again, quantized):
                return axes, {"": np.packbits(signs), **stored}
    log.warning("The kernel %s cannot be packed exactly: it is stored unpacked.", kernel.variable.name)
    return None
