"""What a packed file says of itself. Nothing of it is believed before it is checked."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from ...util.files import check_source
from ...util.formatting import brief, first_line
from ..images.images import Preprocessing, get_preprocessing

FORMAT = 2
_READABLE = (1, FORMAT)  # files of format 1 have no digest, and symmetric values only
SCALE, LOW, HIGH = ":scale", ":low", ":high"
NO_DIGEST = "0" * 64
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
    "elu", "exponential", "gelu", "hard_sigmoid", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus",
    "softsign", "swish", "tanh",
)  # fmt: skip
"""Keras' activations. A file names one of them: Keras finds much more under a name than activations."""

_REAL = {"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"}


def _digest(path: Path, start: bytes, claimed: str) -> str:
    """Return the sha256 of a file, which begins with ``start``, as if it did not hold a digest."""
    digest = hashlib.sha256(start.replace(claimed.encode(), NO_DIGEST.encode(), 1))
    with path.open("rb") as file:
        file.seek(len(start))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def open_tensors(path: Path) -> Any:
    """Open a packed file by safetensors; see `PackedFile` for the error."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a packed file, or is damaged: {brief(first_line(error))}") from error


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
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
    with open_tensors(path) as file:
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
    preprocessing_in(header.get("preprocessing"))
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


def preprocessing_in(given: Any) -> Preprocessing | str | None:
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


def kernel_of(name: str, kernels: dict[str, Any]) -> str | None:
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
