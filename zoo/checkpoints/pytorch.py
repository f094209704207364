"""Files of PyTorch state dicts: as ``torch.save`` writes them, alone or in what training scripts save, or safetensors.

The former are read with ``torch.load(weights_only=True)``, PyTorch's own reader of tensors alone, which refuses code,
and in no version of its known holes. See `load_state_dict` for what becomes of the tensors.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...util.archive import check_archive
from ...util.files import reading
from ...util.formatting import brief, printable
from .base import Checkpoint
from .state_dicts import StateDictLayout, load_state_dict
from .variables import TOP

log = logging.getLogger(__name__)

OLDEST_TORCH = "2.10"  # as setup.cfg has it
_REMEDY = "Save the state dict alone, with the program that wrote the file: torch.save(model.state_dict(), path)."
_USUAL = ("state_dict", "model_state_dict", "model", "net")
_DEPTH = 3  # of dictionaries in dictionaries


class StateDictFile(Checkpoint):
    """A state dict of a paper's official code.

    It may lie in a dictionary, as ``state_dict``, ``model`` or under any other name, beside an optimizer's state and
    the like; of several, that which suits the network is taken. Wrappers may have put a prefix before its names, such
    as ``module.`` or ``_orig_mod.``.

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
        with reading(path, "a PyTorch checkpoint"):
            read = _read_safetensors if _is_safetensors(path) else _read_pickle
            self._layout, self._tensors = _choose(read(path), layouts, path)
        self.arguments: dict[str, Any] = dict(self._layout.implies)
        self.untold, self.preprocessing = self._layout.untold, self._layout.preprocessing
        self.num_classes = self._count_classes()

    def _count_classes(self) -> int | None:
        official = {place.variable: name for name, place in self._layout.tensors().items()}
        bias, kernel = (self._tensors.get(official.get(f"{TOP}/{part}", "")) for part in ("bias", "kernel"))
        # Of a body alone only the top is missing; else it is another network's.
        missing = {variable for variable, name in official.items() if name not in self._tensors}
        top = {variable for variable in official if variable.startswith(TOP)}
        self.has_top = not top or missing != top
        if bias is None:
            return None
        # The file has to hold as large a classifier as it leads to.
        if kernel is None or kernel.shape[:1] != bias.shape:
            raise ValueError(f"{self.source} has a bias for {bias.shape} classes, but no kernel for as many.")
        return len(bias)

    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        load_state_dict(model, self._tensors, self._layout, self.source, new_top)


def _choose(
    found: Mapping[str, Mapping[str, Callable[[], np.ndarray]]], layouts: Sequence[StateDictLayout], path: Path
) -> tuple[StateDictLayout, dict[str, np.ndarray]]:
    """Return the state dict, of all found in a file, that has the most names of one of the layouts, and that layout."""
    if not found:
        raise ValueError(f"{path} holds no state dict: no dictionary of tensors, at any name. {_REMEDY}")
    best: dict[str, tuple[int, StateDictLayout, str]] = {}
    for key, state in found.items():
        for layout in layouts:
            expected = layout.tensors().keys()
            prefix, count = _prefix(state.keys(), expected)
            if key not in best or count > best[key][0]:
                best[key] = count, layout, prefix
    most = max(count for count, *_ in best.values())
    keys = [key for key, (count, *_) in best.items() if count == most]
    # An average of the weights is another network than the one whose accuracy a script has logged.
    plain = [key for key in keys if "ema" not in key.lower() and "averag" not in key.lower()]
    keys = [key for key in _USUAL if key in keys] or plain or keys
    if len(keys) > 1 and not set(keys) & set(_USUAL):
        raise ValueError(f"{path} holds several networks: {', '.join(map(brief, keys))}. {_REMEDY}")
    key = keys[0]
    if others := [other for other, (count, *_) in best.items() if other != key and count == most]:
        log.warning("%s holds several networks: %r is read, not %s.", path, key, ", ".join(map(repr, others)))
    _, layout, prefix = best[key]
    tensors: dict[str, np.ndarray] = {}
    for name, value in found[key].items():
        if prefix and name == "n_averaged":  # of torch.optim.swa_utils.AveragedModel
            continue
        name = name.removeprefix(prefix)
        if name in tensors:
            raise ValueError(f"{path} holds {brief(name)} twice, with and without the prefix {brief(prefix)}.")
        tensors[name] = value()
    return layout, tensors


def _prefix(names: Set[str], expected: Set[str]) -> tuple[str, int]:
    """Return what stands before the expected names most often (mostly nothing), and how often it does."""
    prefixes: Counter[str] = Counter({"": 0})
    for name in names:
        parts = name.split(".")
        prefixes.update(
            name[: -len(rest)] for i in range(len(parts)) if (rest := ".".join(parts[i:])) in expected and rest
        )
    return prefixes.most_common(1)[0]


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, dict[str, Callable[[], np.ndarray]]]:
    from safetensors import safe_open

    file = safe_open(path, framework="numpy")
    return {"": {name: lambda name=name: file.get_tensor(name) for name in file.keys()}}  # type: ignore[misc]  # noqa: SIM118


def _read_pickle(path: Path) -> dict[str, dict[str, Callable[[], np.ndarray]]]:
    torch = _import_torch(path)
    if zipfile.is_zipfile(path):
        check_archive(path)  # torch does not look at its CRCs
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(f"{path} is a TorchScript program, not a state dict. {_REMEDY}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text advises to run what is in the file
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} holds other things than tensors, {printable(refused[1], 80)}, which is not read because it "
                f"may run code. {_REMEDY}"
            ) from None
        raise ValueError(f"{path} holds other things than tensors, which may run code, or is damaged.") from None
    found = dict(_state_dicts(content, torch.Tensor))
    values = {id(value): value for state in found.values() for value in state.values()}.values()
    if any(value.untyped_storage().nbytes() < value.nbytes for value in values) or (
        sum(value.nbytes for value in values) > 4 * path.stat().st_size  # several share what is stored once
    ):
        raise ValueError("its tensors claim more values than the file holds")

    def convert(value: Any) -> np.ndarray:
        # NumPy has no bfloat16.
        return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()

    return {
        key: {name: lambda value=value: convert(value) for name, value in state.items()}  # type: ignore[misc]
        for key, state in found.items()
    }


def _state_dicts(content: Any, tensor: type, key: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dictionaries of tensors in what a file holds, with their keys, those of inner ones after a dot."""
    if not isinstance(content, Mapping) or not content or depth > _DEPTH:
        return
    if all(isinstance(name, str) and isinstance(value, tensor) for name, value in content.items()):
        yield key, content
        return
    for name, value in content.items():
        if not str(name).startswith("optimizer"):  # whose state may be tensors, too
            yield from _state_dicts(value, tensor, f"{key}.{name}" if key else str(name), depth + 1)


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch checkpoint: reading it needs PyTorch: pip install '.[convert]'"
        ) from error
    if torch.__version__ < OLDEST_TORCH:  # not a string: it compares as versions do
        raise ImportError(
            f"{path} is a PyTorch checkpoint: reading it needs PyTorch {OLDEST_TORCH} or newer, and this is "
            f"{torch.__version__}, whose reader of tensors may run code: pip install '.[convert]'"
        )
    return torch
