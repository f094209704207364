"""HDF5 files from outside: what they claim, checked before a value of them is read."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import h5py
import numpy as np

from ...util.formatting import brief

_MOST_OBJECTS = 20_000
_FREE, _RATIO = 2**16, 64  # of what compressed values unfold to: so many bytes, and so many times what is stored


class Stored(NamedTuple):
    """A dataset of a file.

    Attributes:
        shape: Its shape.
        dtype: Its type, of whole or real numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)


def check_hdf5(file: h5py.File, length: int) -> dict[str, Stored]:
    """Return the datasets of a file by their paths, having checked that it holds what they claim to be.

    Args:
        file: The file, opened.
        length: How many bytes it has.

    Raises:
        ValueError: A dataset claims more values than are stored, is not of numbers, or lies in another file; an object
            is a link; or there are more objects than networks have.
    """
    found: dict[str, Stored] = {}
    groups, seen, objects = [("", file)], {_place(file)}, 0
    while groups:
        path, group = groups.pop()
        _check_attributes(path, group, length)
        for name in group:
            objects += 1
            if objects > _MOST_OBJECTS:
                raise ValueError(f"it has more than {_MOST_OBJECTS:,} objects")
            inner = f"{path}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{brief(inner)} is a link, which may lead to another file")
            item = group[name]
            if isinstance(item, h5py.Group):
                if (place := _place(item)) not in seen:
                    seen.add(place)
                    groups.append((inner, item))
            elif isinstance(item, h5py.Dataset):
                _check_dataset(inner, item, length)
                _check_attributes(inner, item, length)
                found[inner[1:]] = Stored(item.shape, item.dtype)
            else:
                raise ValueError(f"{brief(inner)} is neither a group nor a dataset")
    return found


def _place(group: h5py.Group) -> int:
    return h5py.h5o.get_info(group.id).addr


def _check_dataset(path: str, dataset: h5py.Dataset, length: int) -> None:
    if dataset.dtype.kind not in "fiub" or dataset.shape is None:
        raise ValueError(f"{brief(path)} is not of numbers but of {brief(dataset.dtype)}")
    settings = dataset.id.get_create_plist()
    if settings.get_external_count() or dataset.is_virtual:
        raise ValueError(f"{brief(path)} has its values in another file")
    stored = dataset.id.get_storage_size()
    if stored > length:
        raise ValueError(f"{brief(path)} claims to be stored in {stored:,} bytes, and the file has {length:,}")
    filtered = settings.get_nfilters() > 0
    if dataset.nbytes > (_FREE + _RATIO * stored if filtered else stored):
        raise ValueError(f"{brief(path)} claims {math.prod(dataset.shape):,} values, and {stored:,} bytes are stored")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > max(2 * dataset.nbytes, _FREE):
        raise ValueError(f"{brief(path)} is stored in parts that are larger than itself")


def _check_attributes(path: str, item: Any, length: int) -> None:
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > length:
            raise ValueError(f"the attribute {brief(name)} of {brief(path)} claims more than the file holds")
