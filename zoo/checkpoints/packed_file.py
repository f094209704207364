"""The file of a packed model, read and written."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ...quantizers import BinarySet, latent_weights
from ...util.files import check_source, replacing
from ...util.formatting import brief
from . import latents
from .base import Checkpoint
from .packed_header import FORMAT, HIGH, LOW, NO_DIGEST, SCALE, kernel_of, open_tensors, preprocessing_in, read_header
from .variables import BinaryKernel, assign, binary_kernels, names_here

log = logging.getLogger(__name__)


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
        self.header, self.sizes = read_header(self.path)
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
        self.preprocessing = preprocessing_in(self.header.get("preprocessing"))
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
        with open_tensors(self.path) as file:
            names = set(file.keys())
            here = names_here(model, (name for name in names if kernel_of(name, kernels) is None))
            for name in names:
                if name in kernels:
                    suffixes = {suffix for suffix in (SCALE, LOW, HIGH) if name + suffix in names}
                    stored = {suffix: file.get_tensor(name + suffix) for suffix in {"", *suffixes}}
                    values[name] = self._unpack(name, stored, binary.get(here[name]))
                elif kernel_of(name, kernels) is None:
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

    header = {"format": FORMAT, "sha256": NO_DIGEST, **header}
    content = save(tensors, {"onebit": json.dumps(header)})
    digest = hashlib.sha256(content).hexdigest()
    content = content.replace(NO_DIGEST.encode(), digest.encode(), 1)
    with replacing(path) as temporary:
        # Not by safetensors' save_file, which lets nobody else read the file, and raises errors of its own.
        temporary.write_bytes(content)
