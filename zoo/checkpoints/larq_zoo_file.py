"""larq-zoo's own weights of Bi-Real Net, for the network of this zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from ...util.files import reading
from .base import Checkpoint
from .hdf5 import check_hdf5
from .variables import assign

PREPROCESSING = "minus1_1"
"""What all networks of larq-zoo expect at their input."""


class LarqZooFile(Checkpoint):
    """larq-zoo's weights of Bi-Real Net, a Keras ``.h5`` file whose layers have no names but numbers.

    The numbers count the layers in the order of their making: the stem, then block by block the shortcut's convolution
    and normalisation, where there is one, the binary convolution, and its normalisation.

    Args:
        path: The file, which `recognises` has seen.

    Raises:
        ValueError: The file is damaged.
    """

    function = "BiRealNet18"
    preprocessing = PREPROCESSING

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.arguments: dict[str, Any] = {"variant": "larq_zoo", "padding": "same", "quantized": True}
        with reading(path, "larq-zoo's file of Bi-Real Net"):
            with h5py.File(path, "r") as file:
                check_hdf5(file, path.stat().st_size)
                layers = {name: _arrays(file[name]) for name in _names(file, "layer_names")}
            self._layers = {name: arrays for name, arrays in layers.items() if arrays}
            dense = [arrays for name, arrays in self._layers.items() if name.startswith("dense")]
            self.has_top = bool(dense)
            self.num_classes = dense[0]["kernel"].shape[1] if dense else None

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether an HDF5 file is of this kind."""
        with h5py.File(path, "r") as file:
            check_hdf5(file, path.stat().st_size)
            kinds = [_kind(name) for name in _names(file, "layer_names")]
        return kinds.count("quant_conv2d") == 16 and kinds.count("conv2d") == 4

    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        blocks = [(stage, block) for stage in range(1, 5) for block in range(1, 5)]
        downsampling = [f"stage{stage}_block1" for stage in (2, 3, 4)]
        norms = ["stem_bn"]
        for stage, block in blocks:
            name = f"stage{stage}_block{block}"
            norms += [f"{name}_shortcut_bn"] if name in downsampling else []
            norms.append(f"{name}_bn")
        wanted = {
            "conv2d": ["stem_conv", *(f"{name}_shortcut_conv" for name in downsampling)],
            "quant_conv2d": [f"stage{stage}_block{block}_conv" for stage, block in blocks],
            "batch_normalization": norms,
            "dense": ["logits"] if self.has_top else [],
        }
        values = {}
        for kind, ours in wanted.items():
            theirs = sorted((name for name in self._layers if _kind(name) == kind), key=_number)
            if len(theirs) != len(ours):
                raise ValueError(f"{self.source} has {len(theirs)} layers {kind!r}, and {self.function} {len(ours)}.")
            for their, our in zip(theirs, ours, strict=True):
                values.update({f"{our}/{part}": array for part, array in self._layers[their].items()})
        assign(model, values, self.source, new_top=new_top)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return names from a Keras file: bytes where an h5py before 3.0 wrote them."""
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs.get(attribute, [])]


def _arrays(group: h5py.Group) -> dict[str, np.ndarray]:
    arrays = {}
    for name in _names(group, "weight_names"):
        arrays[name.split("/")[-1].split(":")[0]] = group[name][()]
    return arrays


def _kind(name: str) -> str:
    return name.rstrip("0123456789").rstrip("_")


def _number(name: str) -> int:
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits or 0)
