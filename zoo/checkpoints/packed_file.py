"""Reading packed files. Nothing that a file claims is believed before it is checked."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..images.images import Preprocessing, get_preprocessing
from . import latents
from .base import Checkpoint
from .variables import BinaryKernel, assign, binary_kernels

FORMAT = 1
SCALE = ":scale"

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
        self.path = Path(path)
        self.source = str(path)
        self.header, self.sizes = _read_header(self.path)
        self.function: str | None = self.header["function"]
        if function is not None and self.function not in (None, function):
            raise ValueError(f"{path} holds weights for {self.function}, not for {function}.")
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

    def load_into(self, model: Any, new_top: bool = False) -> None:
        """See `Checkpoint`."""
        binary = binary_kernels(model)
        values = {}
        with _open(self.path) as file:
            for name in file.keys():  # noqa: SIM118  (not a dictionary)
                if name in self.header["kernels"]:
                    values[name] = self._unpack(file, name, binary.get(name))
                elif name.removesuffix(SCALE) not in self.header["kernels"]:
                    values[name] = file.get_tensor(name)
        assign(model, values, self.source, new_top=new_top)

    def _unpack(self, file: Any, name: str, kernel: BinaryKernel | None) -> np.ndarray:
        described = self.header["kernels"][name]
        shape, axes = tuple(described["shape"]), described["filter_axes"]
        count = math.prod(shape[axis] for axis in axes)
        bits = np.unpackbits(file.get_tensor(name), count=math.prod(shape)).astype(bool)
        scale = file.get_tensor(name + SCALE) if name + SCALE in file.keys() else None  # noqa: SIM118
        if scale is not None and not (np.isfinite(scale).all() and (scale >= 0).all()):
            raise ValueError(f"{self.path} is damaged: the scales of {name} are not finite numbers of at least 0.")
        quantizer = kernel.quantizer if kernel else None
        return latents.from_filters(latents.latent_filters(bits.reshape(-1, count), scale, quantizer), shape, axes)


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise
    except (SafetensorError, ValueError, OSError) as error:
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
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"{path} has the packed format {version!r}; this version of onebit reads format {FORMAT}.")
    try:
        check_fields(header)
        return header, _sizes(header["kernels"], stored)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check_fields(header: dict[str, Any]) -> None:
    """Raise `ValueError` if a header's entries are not of their kinds, or contradict each other."""
    arguments = header.get("arguments")
    checks = [("", header, _FIELDS)]
    if isinstance(arguments, dict):
        checks.append(("arguments' ", arguments, _ARGUMENTS))
    for owner, values, types in checks:
        for name, kind in types.items():
            value = values.get(name)
            if value is not None and type(value) is not kind:
                raise ValueError(f"its header's {owner}{name} must be a JSON {_JSON[kind]}, not {_brief(value)}.")
    if header.get("kernels") is None or {"function", "arguments"} - header.keys():
        raise ValueError("its header lacks function, arguments or kernels.")
    _preprocessing(header.get("preprocessing"))
    names = header.get("class_names") or []
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"its header's class_names must be strings, not {_brief(names)}.")
    classes = (arguments or {}).get("num_classes", len(names))
    if names and classes != len(names):
        raise ValueError(f"its header names {len(names)} classes, and its network has {classes}.")
    if (arguments or {}).get("include_top", True) is None or (arguments or {}).get("num_classes", 1) in (None, 0):
        raise ValueError("its header's arguments' include_top and num_classes must have a value.")


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


def _sizes(kernels: dict[str, Any], stored: dict[str, tuple[int, str]]) -> dict[str, int]:
    """Return how many values each tensor stands for, having checked the kernels' shapes against what is stored."""
    sizes = {}
    for name, described in kernels.items():
        of = described if isinstance(described, dict) else {}
        shape: Any = of.get("shape")
        axes: Any = of.get("filter_axes")
        if not (_integers(shape) and _integers(axes) and min(shape, default=1) > 0):
            raise ValueError(f"{_brief(name)} has the shape {_brief(shape)} and the filter axes {_brief(axes)}.")
        if len(set(axes)) < len(axes) or not set(axes) <= set(range(len(shape))):
            raise ValueError(
                f"{_brief(name)} has the filter axes {_brief(axes)}, which the shape {_brief(shape)} has not."
            )
        sizes[name] = math.prod(shape)
        filters = sizes[name] // math.prod(shape[axis] for axis in axes)
        scales = stored.get(name + SCALE, (filters, "F32"))
        if stored.get(name) != (-(-sizes[name] // 8), "U8") or scales not in ((filters, "F32"), (filters, "F64")):
            raise ValueError(
                f"the tensors of {_brief(name)} have not the sizes that its shape {_brief(shape)} asks for."
            )
    for name, (size, dtype) in stored.items():
        if dtype not in _REAL:
            raise ValueError(f"{_brief(name)} is of the type {dtype}.")
        sizes.setdefault(name, size)
    return sizes


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int for n in value)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
