"""PyTorch state dicts of the papers' official code.

Read with ``torch.load(weights_only=True)``, PyTorch's own reader of tensors alone, which refuses code, and in no
version of its known holes. A paper's `StateDictLayout` says where every tensor goes; a tensor that is neither there nor
among the ignorable ones is an error, and so is a variable that no tensor fills.
"""

from __future__ import annotations

import fnmatch
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...util.archive import check_archive
from ...util.files import reading
from .base import Checkpoint
from .state_dicts import StateDictLayout
from .variables import TOP, assign, named_variables

OLDEST_TORCH = "2.10"  # as setup.cfg has it


class PyTorchCheckpoint(Checkpoint):
    """A checkpoint of a paper's official code.

    It may be a state dict, or a dictionary that holds one as ``state_dict`` beside an optimizer's state and the like;
    its names may begin with ``module.``.

    Args:
        path: The file.
        function: The zoo's function that asks: the file itself does not tell the architecture.
        layouts: What state dicts the function's official code writes. That with the most names in common is taken.

    Raises:
        ValueError: The file is damaged, holds code, or no tensors; or ``function`` has no official PyTorch code.
        ImportError: PyTorch is not installed, or too old.
    """

    def __init__(self, path: Path, function: str | None, layouts: Sequence[StateDictLayout]) -> None:
        self.source = str(path)
        if function is None:
            raise ValueError(
                f"{path} is a PyTorch checkpoint, which does not tell its architecture: give it as weights= to the "
                "function of the zoo that builds its network."
            )
        # Before PyTorch is asked for, which would not help here.
        if not layouts:
            raise ValueError(f"{path} is a PyTorch checkpoint, but {function} has no official PyTorch code.")
        self._tensors = _read(path)
        self._layout = max(layouts, key=lambda layout: len(layout.tensors().keys() & self._tensors.keys()))
        self.arguments: dict[str, Any] = dict(self._layout.implies)
        self.untold, self.preprocessing = self._layout.untold, self._layout.preprocessing
        self.num_classes = self._count_classes()

    def _count_classes(self) -> int | None:
        official = {place.variable: name for name, place in self._layout.tensors().items()}
        bias, kernel = (self._tensors.get(official.get(f"{TOP}/{part}", "")) for part in ("bias", "kernel"))
        if bias is None:
            return None
        # The file has to hold as large a classifier as it leads to.
        if kernel is None or kernel.shape[:1] != bias.shape:
            raise ValueError(f"{self.source} has a bias for {bias.shape} classes, but no kernel for as many.")
        return len(bias)

    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        load_state_dict(model, self._tensors, self._layout, self.source, new_top)


def load_state_dict(
    model: tf.keras.Model,
    tensors: Mapping[str, np.ndarray],
    layout: StateDictLayout,
    source: str,
    new_top: bool = False,
) -> None:
    """Set the variables of a model from the tensors of an official state dict.

    Args:
        model: The model to fill.
        tensors: The state dict.
        layout: Where its tensors go.
        source: What to call it in an error message.
        new_top: Leave the classifier of the model as it is.

    Raises:
        ValueError: A tensor has no place or another shape, or a variable gets no tensor; the model is left as it was.
    """
    maps, variables = layout.tensors(), named_variables(model)
    has_top = not new_top and any(name.startswith(TOP) for name in variables)
    parts: dict[str, dict[int, np.ndarray]] = {}
    problems: dict[str, list[str]] = {"unexpected": [], "misshaped": []}
    for name, tensor in tensors.items():
        place = maps.get(name)
        if place is None:
            if not _matches(name, layout.ignored):
                problems["unexpected"].append(name)
        elif place.variable in variables:
            if place.variable.startswith(TOP) and not has_top:
                continue
            shape = tuple(variables[place.variable].shape)
            try:
                parts.setdefault(place.variable, {})[place.part] = place.to_keras(tensor, shape)
            except ValueError:
                problems["misshaped"].append(f"{name} {tensor.shape} for {place.variable} {shape}")
        elif not place.variable.startswith(TOP):
            problems["unexpected"].append(f"{name} (for {place.variable}, which the model does not have)")
    problems["missing"] = sorted(
        name
        for name, place in maps.items()
        if name not in tensors and place.variable in variables and (has_top or not place.variable.startswith(TOP))
    )
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"{source} does not fit the model {model.name!r}: {listed}.")
    values = {
        name: np.concatenate([of[i] for i in sorted(of)], axis=-1) if len(of) > 1 else of[0]
        for name, of in parts.items()
    }
    values |= {
        name: v.numpy() for name, v in variables.items() if name not in values and _matches(name, layout.unmatched)
    }
    assign(model, values, source, new_top=new_top)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch checkpoint: reading it needs PyTorch. Install onebit-zoo[convert]."
        ) from error
    if torch.__version__ < OLDEST_TORCH:  # not a string: it compares as versions do
        raise ImportError(
            f"{path} is a PyTorch checkpoint: reading it needs PyTorch {OLDEST_TORCH} or newer, and this is "
            f"{torch.__version__}, whose reader of tensors may run code. Install onebit-zoo[convert]."
        )
    with reading(path, "a PyTorch checkpoint"):
        if zipfile.is_zipfile(path):
            check_archive(path)  # torch does not look at its CRCs
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # whose text advises to run what is in the file
            raise ValueError(f"{path} holds other things than tensors, which may run code, or is damaged.") from error
        state = content.get("state_dict", content) if isinstance(content, Mapping) else None
        if not (isinstance(state, Mapping) and state and all(isinstance(v, torch.Tensor) for v in state.values())):
            raise ValueError(
                f"{path} holds no state dict: neither itself nor its 'state_dict' is a dictionary of tensors."
            )
        values = list(state.values())
        if any(value.untyped_storage().nbytes() < value.nbytes for value in values) or (
            sum(value.nbytes for value in values) > 4 * path.stat().st_size  # several share what is stored once
        ):
            raise ValueError("its tensors claim more values than the file holds")
        # NumPy has no bfloat16.
        wide = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in state.items()}
        return {str(name).removeprefix("module."): value.detach().numpy() for name, value in wide.items()}
