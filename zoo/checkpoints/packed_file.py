"""The file of a packed model. Nothing that a file claims is believed before it is checked."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...quantizers import BinarySet, latent_weights
from ...util.files import check_source, replacing
from ...util.formatting import brief, first_line
from ..images.images import Preprocessing, get_preprocessing
from . import latents
from .base import Checkpoint
from .variables import BinaryKernel, assign, binary_kernels, names_here

log = logging.getLogger(__name__)

FORMAT = 2
_READABLE = (1, FORMAT)  # files of format 1 have no digest, and symmetric values only
SCALE, LOW, HIGH = ":scale", ":low", ":high"
_NO_DIGEST = "0" * 64
_LARGEST_HEADER = 4_000_000  # bytes; the largest network of the zoo has 60,000

_FIELDS: dict[str, Any] = {
    "function": str,
    "arguments": dict,
    "kernels": dict,
    "source": str,
    "metrics": dict,
    "class_names": list,
}
_ARGUMENTS: dict[str, Any] = {
    "include_top": bool,
    "num_classes": int,
    "input_shape": list,
    "pooling": str,
    "classifier_activation": str,  # never a configuration, which could name any object
}
ACTIVATIONS = (
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "linear",
    "mish",
    "relu",
    "selu",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
)
"""Keras' activations. A file names one of them: Keras finds much more under a name than activations."""

_REAL = {"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"}


class PackedFile(Checkpoint):
    """A packed file, opened and checked but not yet read: a `Checkpoint`.

    Args:
        path: The file.
        function: The zoo's function that asks, or ``None`` for any.

    Attributes:
        header: What the file says of itself, see `zoo.packed`.
        sizes: How many values each variable has.

    Raises:
        ValueError: The file is damaged, not a packed file, of an unknown version, or another architecture's.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: str | os.PathLike[str], function: str | None = None) -> None:
        self.path = check_source(path)
        self.source = str(path)
        self.header, self.sizes = _read_header(self.path)
        self.function: str | None = self.header["function"]
        if function is not None and self.function not in (None, function):
            raise ValueError(f"{path} holds weights for {brief(self.function)}, not for {function}.")
        arguments = dict(self.header["arguments"] or {})
        self.has_top: bool = arguments.pop("include_top", True)
        classes, shape = arguments.pop("num_classes", None), arguments.pop("input_shape", None)
        self.num_classes: int | None = classes if self.has_top else None
        self.input_shape = tuple(shape) if shape else None
        self.top_options = {
            name: arguments.pop(name) for name in ("pooling", "classifier_activation") if name in arguments
        }
        self.arguments: dict[str, Any] = arguments
        self.preprocessing = _preprocessing(self.header.get("preprocessing"))
        names = self.header.get("class_names")
        self.class_names = tuple(names) if names and self.has_top else None

    def report_untold(self, function: str, arguments: Mapping[str, Any]) -> None:
        if self.function is None:
            log.warning(
                "%s is of a model that the zoo did not build, or not so; it is loaded as %s, as its variables fit.",
                *(self.path, function),
            )

    def _load_into(self, model: Any, new_top: bool) -> None:
        binary = binary_kernels(model)
        kernels, values = self.header["kernels"], {}
        with _open(self.path) as file:
            names = set(file.keys())
            here = names_here(model, (name for name in names if _kernel_of(name, kernels) is None))
            for name in names:
                if name in kernels:
                    suffixes = {suffix for suffix in (SCALE, LOW, HIGH) if name + suffix in names}
                    stored = {suffix: file.get_tensor(name + suffix) for suffix in {"", *suffixes}}
                    values[name] = self._unpack(name, stored, binary.get(here[name]))
                elif _kernel_of(name, kernels) is None:
                    values[name] = file.get_tensor(name)
        assign(model, values, self.source, new_top=new_top)

    def _unpack(self, name: str, stored: dict[str, np.ndarray], kernel: BinaryKernel | None) -> np.ndarray:
        """Return latent weights of a kernel, having checked that its quantizer makes of them what is stored."""
        described = self.header["kernels"][name]
        shape, axes = tuple(described["shape"]), described["filter_axes"]
        bits = np.unpackbits(stored[""], count=math.prod(shape)).astype(bool)
        signs = bits.reshape(-1, math.prod(shape[axis] for axis in axes))
        if not stored.keys() - {""}:
            return latents.from_filters(latents.he_weights(signs), shape, axes)
        high = stored[SCALE] if SCALE in stored else stored[HIGH]
        low = stored.get(LOW, -high)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise ValueError(f"{self.path} is damaged: the values of {name} are not finite, or not in order.")
        weights = latent_weights(kernel and kernel.quantizer, signs, low, high)
        latent = latents.from_filters(weights, shape, axes)
        if kernel and tuple(kernel.variable.shape) == shape and axes == kernel.filter_axes():
            kind = kernel.variable.dtype.as_numpy_dtype  # which need not be the type that the file has
            made = latents.as_filters(kernel.quantized(latent.astype(kind)), axes)
            # Quantized on another processor, or in fewer bits, it may differ by a rounding error.
            close = 0.05 if tf.as_dtype(kernel.layer.compute_dtype).size < 4 else 1e-4
            size = np.maximum(np.abs(low), np.abs(high))[:, None].astype(np.float64)
            if not (np.abs(made - BinarySet(low, high).values(signs)) <= close * size).all():
                raise ValueError(f"{self.path} is damaged: {name} has values that its quantizer cannot produce.")
        return latent


def write_packed(path: str | os.PathLike[str], header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a packed file, with the digest of all that it holds.

    Args:
        path: The file, which is replaced in one step.
        header: What it says of itself, without ``format`` and ``sha256``.
        tensors: Its tensors by their names.
    """
    from safetensors.numpy import save

    header = {"format": FORMAT, "sha256": _NO_DIGEST, **header}
    content = save(tensors, {"onebit": json.dumps(header)})
    digest = hashlib.sha256(content).hexdigest()
    content = content.replace(_NO_DIGEST.encode(), digest.encode(), 1)
    with replacing(path) as temporary:
        # Not by safetensors' save_file, which lets nobody else read the file, and raises errors of its own.
        temporary.write_bytes(content)


def _digest(path: Path, start: bytes, claimed: str) -> str:
    """Return the sha256 of a file, which begins with ``start``, as if it did not hold a digest."""
    digest = hashlib.sha256(start.replace(claimed.encode(), _NO_DIGEST.encode(), 1))
    with path.open("rb") as file:
        file.seek(len(start))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a packed file, or is damaged: {brief(first_line(error))}") from error


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the header and the number of values of each tensor, having checked all that can be without a model."""
    start = _read_start(path)
    try:
        outer = json.loads(start[8:], object_pairs_hook=_unique)
        header = json.loads(outer["__metadata__"]["onebit"], object_pairs_hook=_unique)
        version = header["format"]
    except _DuplicateError as error:
        raise ValueError(f"{path} is damaged: its header has the entry {brief(str(error))} twice.") from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a packed file: it has no 'onebit' header.") from error
    if type(version) is not int or version not in _READABLE:
        raise ValueError(
            f"{path} has the packed format {brief(version)}; this version of onebit reads the formats 1 to {FORMAT}."
        )
    if version > 1 or "sha256" in header:
        claimed = header.get("sha256")
        if not isinstance(claimed, str) or claimed != _digest(path, start, claimed):
            raise ValueError(f"{path} is damaged: its content is not what its sha256 says.")
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
        stored = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    try:
        check_fields(header)
        return header, _sizes(header["kernels"], stored)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def is_packed(path: Path) -> bool:
    """Return whether a safetensors file says that it is a packed one."""
    return b'"onebit"' in _read_start(path)


def _read_start(path: Path) -> bytes:
    """Return a file's bytes up to its first tensor: the length of safetensors' header, and that header."""
    with check_source(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"{path} is not a packed file, or is damaged: its header would have {length} bytes.")
        file.seek(0)
        return file.read(8 + length)


class _DuplicateError(Exception):
    """A key that a JSON object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateError(next(name for name in names if names.count(name) > 1))
    return values


def check_fields(header: dict[str, Any]) -> None:
    """Raise `ValueError` if a header's entries are not of their kinds, unknown names, or contradict each other."""
    arguments = header.get("arguments")
    checks = [("", header, _FIELDS)]
    if isinstance(arguments, dict):
        checks.append(("arguments' ", arguments, _ARGUMENTS))
    for owner, values, types in checks:
        for name, kind in types.items():
            value = values.get(name)
            if value is not None and type(value) is not kind:
                raise ValueError(f"its header's {owner}{name} must be a JSON {_JSON[kind]}, not {brief(value)}.")
    if header.get("kernels") is None or {"function", "arguments"} - header.keys():
        raise ValueError("its header lacks function, arguments or kernels.")
    _preprocessing(header.get("preprocessing"))
    arguments = arguments or {}
    if odd := [name for name in arguments if not name.isidentifier()]:
        raise ValueError(f"its header has the argument {brief(odd[0])}.")
    names = header.get("class_names") or []
    if not all(isinstance(name, str) and name.isprintable() for name in names):
        raise ValueError(f"its header's class_names must be strings of one line each, not {brief(names)}.")
    classes = arguments.get("num_classes", len(names))
    if names and classes != len(names):
        raise ValueError(f"its header names {len(names)} classes, and its network has {brief(classes)}.")
    if arguments.get("include_top", True) is None or arguments.get("num_classes", 1) in (None, 0):
        raise ValueError("its header's arguments' include_top and num_classes must have a value.")
    activation = arguments.get("classifier_activation")
    if activation not in (None, *ACTIVATIONS):
        raise ValueError(
            f"its header's arguments' classifier_activation must be one of {', '.join(ACTIVATIONS)}, not "
            f"{brief(activation)}."
        )


def _preprocessing(given: Any) -> Preprocessing | str | None:
    """Return what a header says of its network's input; older files have but a name of constants."""
    if given is None:
        return None
    if not isinstance(given, str):
        return Preprocessing.from_dict(given)
    name = _RENAMED.get(given, given)
    get_preprocessing(name)
    return name


_RENAMED = {"raw": "0_255", "caffe": "mean_rgb", "symmetric": "minus1_1"}
_JSON = {str: "string", dict: "object", bool: "truth value", int: "integer", list: "array"}

_Stored = dict[str, tuple[list[int], str]]


def _kernel_of(name: str, kernels: dict[str, Any]) -> str | None:
    """Return the kernel whose values a tensor of this name holds, if it does."""
    kernel, colon, kind = name.rpartition(":")
    return kernel if colon + kind in (SCALE, LOW, HIGH) and kernel in kernels else None


def _sizes(kernels: dict[str, Any], stored: _Stored) -> dict[str, int]:
    """Return how many values each tensor stands for, having checked the kernels' shapes against what is stored."""
    sizes = {name: math.prod(shape) for name, (shape, _) in stored.items()}
    for name, (_, dtype) in stored.items():
        if dtype not in _REAL:
            raise ValueError(f"{brief(name)} is of the type {dtype}.")
        if not name.isprintable():
            raise ValueError(f"it has a tensor {brief(name)}.")
    for name, described in kernels.items():
        of = described if isinstance(described, dict) else {}
        shape: Any = of.get("shape")
        axes: Any = of.get("filter_axes")
        if not (_integers(shape) and _integers(axes) and min(shape, default=1) > 0):
            raise ValueError(f"{brief(name)} has the shape {brief(shape)} and the filter axes {brief(axes)}.")
        if len(set(axes)) < len(axes) or not set(axes) <= set(range(len(shape))):
            raise ValueError(
                f"{brief(name)} has the filter axes {brief(axes)}, which the shape {brief(shape)} has not."
            )
        size = math.prod(shape)
        filters = size // math.prod(shape[axis] for axis in axes)
        values = {suffix: stored[name + suffix] for suffix in (SCALE, LOW, HIGH) if name + suffix in stored}
        if (
            stored.get(name) != ([-(-size // 8)], "U8")
            or values.keys() not in (set(), {SCALE}, {LOW, HIGH})
            or any(value not in (([filters], "F32"), ([filters], "F64")) for value in values.values())
            or len({dtype for _, dtype in values.values()}) > 1
        ):
            raise ValueError(f"the tensors of {brief(name)} have not the sizes that its shape {brief(shape)} asks for.")
        sizes[name] = size
    return sizes


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int for n in value)
