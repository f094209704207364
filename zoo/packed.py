"""Packed files: a model at one bit per binary weight.

A packed file is a safetensors file. It holds, under the names of `named_variables`,

- for each binary kernel its signs, uint8, eight weights to a byte (1 for +1, first weight in the highest bit), filter by
  filter; and, where filters differ in it, ``<name>:scale``, the magnitude of each filter;
- every other variable as it is.

The header's metadata entry ``onebit`` is JSON: ``format`` (the version, 1), ``function`` and ``arguments`` (what to call to
build the model; ``null`` for a model that is not the zoo's), ``kernels`` (the shape and filter axes of each binary kernel),
``source`` and ``metrics`` (what the writer has to say of it).

A model loaded from a packed file predicts exactly what the saved one predicts. Its latent weights are new: they have the
right signs and scales, so that it can be trained on, but how far each weight was from zero is not kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from . import latents
from .naming import BinaryKernel, assign, binary_kernels, named_variables
from .registry import function as zoo_function
from .scaffold import model_info

log = logging.getLogger(__name__)

FORMAT = 1
_SCALE = ":scale"
_KERAS_COUNTERS = 16  # scalar variables that a Keras model has beyond its layers'


def save_packed(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model's weights as a packed file, replacing any file there in one step.

    Args:
        model: Any Keras model. One that the zoo built can be rebuilt from the file alone by `load_packed`; another one's
            weights can be loaded back with `load_weights` into a model of the same architecture.
        path: The file to write.
        source: Where the weights come from, for the header.
        metrics: Measured figures, for the header; anything JSON can hold.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: ``metrics`` cannot be written as JSON, or two variables have the same name.
    """
    from safetensors.numpy import save_file

    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist.")
    tensors: dict[str, np.ndarray] = {}
    kernels: dict[str, Any] = {}
    binary = binary_kernels(model)
    for name, variable in named_variables(model).items():
        packed = _pack(binary[name]) if name in binary else None
        if packed is None:
            tensors[name] = np.ascontiguousarray(variable.numpy())
            continue
        axes, bits, scale = packed
        tensors[name] = bits
        kernels[name] = {"shape": list(variable.shape), "filter_axes": axes}
        if scale is not None:
            tensors[name + _SCALE] = scale
    info = model_info(model)
    header = {
        "format": FORMAT,
        "function": info and info.function,
        "arguments": dict(info.arguments) if info else None,
        "kernels": kernels,
        "source": source,
        "metrics": metrics,
    }
    metadata = {"onebit": json.dumps(header)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _pack(kernel: BinaryKernel) -> tuple[list[int], np.ndarray, np.ndarray | None] | None:
    """Return filter axes, bits and magnitudes of a kernel; ``None`` where these cannot reproduce the quantizer's output."""
    quantized = kernel.quantized(kernel.variable.numpy())
    axes = latents.filter_axes(kernel.quantizer, quantized.shape)
    parts = latents.split(latents.as_filters(quantized, axes))
    if parts is not None:
        signs, magnitudes = parts
        for scale in (None, magnitudes.astype(np.float32)):
            filters = latents.latent_filters(signs, scale, kernel.quantizer)
            if np.array_equal(kernel.quantized(latents.from_filters(filters, quantized.shape, axes)), quantized):
                return axes, np.packbits(signs), scale
    log.warning("The kernel %s cannot be packed exactly: it is stored unpacked.", kernel.variable.name)
    return None


class PackedFile:
    """A packed file, opened and checked but not yet read: a `Checkpoint`.

    Args:
        path: The file.
        function: The zoo's function that asks, or ``None`` for any.

    Raises:
        ValueError: The file is damaged, not a packed file, of an unknown version, or another architecture's.
    """

    def __init__(self, path: str | os.PathLike[str], function: str | None = None) -> None:
        self.path = Path(path)
        self.source = str(path)
        self.header, self.sizes = _read_header(self.path)
        self.function: str | None = self.header["function"]
        if function is not None and self.function not in (None, function):
            raise ValueError(f"{path} holds weights for {self.function}, not for {function}.")
        arguments = dict(self.header["arguments"] or {})
        self.has_top = bool(arguments.pop("include_top", True))
        classes, shape = arguments.pop("num_classes", None), arguments.pop("input_shape", None)
        self.num_classes: int | None = classes if self.has_top else None
        self.input_shape = tuple(shape) if isinstance(shape, list) else None
        self.top_options = {name: arguments.pop(name) for name in ("pooling", "classifier_activation") if name in arguments}
        self.arguments: dict[str, Any] = arguments

    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """See `Checkpoint`."""
        binary = binary_kernels(model)
        values = {}
        with _open(self.path) as file:
            for name in file.keys():  # noqa: SIM118  (not a dictionary)
                if name in self.header["kernels"]:
                    values[name] = self._unpack(file, name, binary.get(name))
                elif name.removesuffix(_SCALE) not in self.header["kernels"]:
                    values[name] = file.get_tensor(name)
        assign(model, values, self.source, new_top=new_top)

    def _unpack(self, file: Any, name: str, kernel: BinaryKernel | None) -> np.ndarray:
        described = self.header["kernels"][name]
        shape, axes = tuple(described["shape"]), described["filter_axes"]
        count = math.prod(shape[axis] for axis in axes)
        bits = np.unpackbits(file.get_tensor(name), count=math.prod(shape)).astype(bool)
        scale = file.get_tensor(name + _SCALE) if name + _SCALE in self.sizes else None
        quantizer = kernel.quantizer if kernel else None
        return latents.from_filters(latents.latent_filters(bits.reshape(-1, count), scale, quantizer), shape, axes)


def load_packed(path: str | os.PathLike[str]) -> tf.keras.Model:
    """Build the model that a packed file describes, with its weights.

    Args:
        path: A file that `save_packed` wrote from a model of the zoo.

    Raises:
        ValueError: The file is damaged or does not say how to build its model, or describes a model that is larger than
            what the file holds.
        FileNotFoundError: There is no such file.
    """
    file = PackedFile(path)
    if file.function is None:
        raise ValueError(
            f"{path} holds the weights of a model that is not the zoo's, so it cannot be built from the file. "
            "Build the model and call load_weights(model, path)."
        )
    options = {"include_top": file.has_top, **file.top_options, **file.arguments}
    with _budget(len(file.sizes), sum(file.sizes.values()), path):
        try:
            return zoo_function(file.function)(**{**options, "weights": path})
        except TypeError as error:
            raise ValueError(f"{path} is damaged: {error}") from error


@contextlib.contextmanager
def _budget(variables: int, values: int, path: object) -> Iterator[None]:
    """Stop the building of a model once it has more variables, or more values in them, than its file holds."""
    variables, values = variables + _KERAS_COUNTERS, values + _KERAS_COUNTERS
    spent = {"variables": 0, "values": 0}

    def create(next_creator: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        shape = kwargs.get("shape")
        spent["variables"] += 1
        spent["values"] += math.prod(tf.TensorShape(shape).as_list()) if shape is not None else 1
        if spent["variables"] > variables or spent["values"] > values:
            raise ValueError(f"{path} is damaged: it describes a model that is larger than what the file holds.")
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a packed file, or is damaged: {error}") from error


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the header and the number of values of each tensor, having checked that header and tensors agree."""
    with _open(path) as file:
        metadata = file.metadata() or {}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        stored = {name: (math.prod(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    try:
        header = json.loads(metadata["onebit"])
        version = header["format"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is a safetensors file, but not a packed one: it has no 'onebit' header.") from error
    if version != FORMAT:
        raise ValueError(f"{path} has the packed format {version!r}; this version of onebit reads format {FORMAT}.")
    try:
        return header, _logical_sizes(header, stored)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _logical_sizes(header: dict[str, Any], stored: dict[str, tuple[int, str]]) -> dict[str, int]:
    kernels = header["kernels"]
    if not isinstance(header["function"], str | None) or not isinstance(header["arguments"], dict | None):
        raise ValueError("its header does not say which function built it")
    sizes = {}
    for name, described in kernels.items():
        shape, axes = described["shape"], described["filter_axes"]
        integers = all(isinstance(n, int) and n > 0 for n in shape) and all(isinstance(a, int) for a in axes)
        if not integers or not set(axes) <= set(range(len(shape))):
            raise ValueError(f"the shape of {name} is {shape} with filter axes {axes}")
        sizes[name] = math.prod(shape)
        filters = sizes[name] // math.prod(shape[axis] for axis in axes)
        if stored.get(name) != (-(-sizes[name] // 8), "U8") or stored.get(name + _SCALE, (filters, "F32")) != (filters, "F32"):
            raise ValueError(f"the tensors of {name} do not have the sizes that its shape {shape} asks for")
    sizes.update({name: size for name, (size, _) in stored.items() if name not in kernels})
    return sizes
