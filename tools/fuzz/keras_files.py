"""Keras' files, with arrays of another kind, place or size."""

from __future__ import annotations

import json
import random
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .mutations import EVIL, Lies, changed, zipped
from .readers import network


def save_keras(path: Path) -> None:
    """Write the network's weights, or the whole of it, as Keras does."""
    if path.suffix == ".keras":
        network().save(path)
    else:
        network().save_weights(path)


def save_teacher(path: Path) -> None:
    """Write a small model of Keras' own layers."""
    import tensorflow as tf

    layers = [tf.keras.layers.Conv2D(4, 3, name="conv"), tf.keras.layers.GlobalAveragePooling2D(name="pool")]
    top = tf.keras.layers.Dense(10, activation="softmax", name="top")
    tf.keras.Sequential([tf.keras.Input((32, 32, 3)), *layers, top]).save(path)


def keras_lies(suffix: str) -> Lies:
    """Return what yields Keras' files with arrays of another kind, place or size."""

    def change(path: Path, number: int, rng: random.Random) -> None:
        import h5py
        import numpy as np

        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visititems(lambda n, x: names.append(n) if isinstance(x, h5py.Dataset) else None)
            name = next(n for n in names if file[n].ndim == 4) if number < 12 else rng.choice(names)
            values = file[name][()]
            del file[name]
            if number == 0:
                file.create_dataset(name, shape=(2 * 10**8,), dtype="f4")  # nothing of it is stored
            elif number == 1:
                file.create_dataset(name, shape=(2 * 10**8,), dtype="f4", chunks=(10**6,), compression="gzip")
            elif number == 2:
                file[name] = values.astype(complex)
            elif number == 3:
                file[name] = values.astype(np.int64)
            elif number == 4:
                file.create_dataset(name, values.shape, "f4", external=[("/etc/hostname", 0, values.nbytes)])
            elif number == 5:
                file[name] = h5py.ExternalLink("other.h5", "x")
            elif number == 6:
                file[name] = h5py.SoftLink(names[-1])
            elif number == 7:
                file[name] = values
                for extra in range(3000):
                    file[f"{name}{extra}"] = 0.0
            elif number == 8:
                file[name] = values.astype(bool)
            elif number == 9:
                file[name] = np.array([EVIL] * 4, h5py.string_dtype())
            elif number == 10:
                file[name] = values
                file.attrs["layer_names"] = [EVIL]
            elif number == 11:
                file[name] = values
                file.attrs["layer_names"] = np.zeros(8000, "S7")
            else:
                file.create_dataset(name, tuple(rng.choice([0, 1, 3, 16]) for _ in range(rng.randrange(6))), "f4")

    def lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
        for number in range(2**31):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"lie{suffix}")
                path.write_bytes(data)
                if suffix == ".keras":
                    with zipfile.ZipFile(path) as archive:
                        members = {name: archive.read(name) for name in archive.namelist()}
                    inner = Path(folder, "inner.h5")
                    if number % 2:
                        members["config.json"] = json.dumps(changed(json.loads(members["config.json"]), rng)).encode()
                    else:
                        inner.write_bytes(members["model.weights.h5"])
                        change(inner, number // 2, rng)
                        members["model.weights.h5"] = inner.read_bytes()
                    yield zipped(members, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
                else:
                    change(path, number, rng)
                    yield path.read_bytes()

    return lies
