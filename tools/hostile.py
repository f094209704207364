"""Files that lie, given to everything that reads files from outside.

    python tools/hostile.py --minutes 10 [--seed 1] [--formats packed npz] [--keep FOLDER]

Takes sound files of each format, and writes others like them: damaged ones (bits flipped, bytes overwritten, inserted,
removed, repeated, cut off), ones whose fields claim something else, and, in their place, pipes, sockets, devices,
folders and gigabytes of nothing. Each is read in a process that is watched, and falls short if that ends, takes more
than 20 seconds or 200 MB, raises anything but `ValueError` or `OSError`, or says so in more than one printable line.
Prints a table, as docs/reliability.md has it, and exits with 1 if any fell short.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import hashlib
import importlib.util
import io
import json
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

SECONDS, MEGABYTES, LONGEST = 20, 200, 1200
EVIL = "\x1b[2J\x1b]0;owned\x07\nsecond line\u202e"

# --- Reading, in a process of its own ---------------------------------------------------------------------------------


@functools.cache
def network() -> Any:
    """Return the network whose files are made and read."""
    from onebit import zoo

    return zoo.WideResNet(depth=8, width=1)


@functools.cache
def official() -> Any:
    """Return a network that official PyTorch checkpoints are for."""
    from onebit import zoo

    return zoo.load("irnet_resnet20")


def digest(model: Any) -> str:
    """Return what tells a model's weights from others'."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()


def read_weights(path: Path) -> str:
    """Load a file into the network."""
    from onebit import zoo

    zoo.load_weights(network(), path)
    return digest(network())


def read_packed(path: Path) -> str:
    """Build the network that a packed file describes."""
    from onebit import zoo

    return digest(zoo.load_packed(path))


def read_pytorch(path: Path) -> str:
    """Load an official checkpoint."""
    from onebit import zoo

    zoo.load_weights(official(), path)
    return digest(official())


def read_teacher(path: Path) -> str:
    """Open a teacher."""
    from onebit.recipes.training.teachers import load_teacher

    return digest(load_teacher(str(path), "0_255"))


def read_image(path: Path) -> str:
    """Read an image."""
    from onebit import zoo

    return hashlib.sha256(zoo.read_images([path], (32, 32)).tobytes()).hexdigest()


def read_dataset(path: Path) -> str:
    """Read labelled images: an .npz file, or a folder."""
    from onebit.cli.sources import open_dataset

    found = hashlib.sha256()
    for images, labels in open_dataset(str(path)).batches((8, 8)):
        found.update(images.tobytes() + labels.tobytes())
    return found.hexdigest()


def read_tfds(path: Path) -> str:
    """Read a prepared TensorFlow dataset, whose folder is ``cifar10`` in this one."""
    from onebit.cli.sources import open_dataset

    found = hashlib.sha256()
    for images, labels in open_dataset("cifar10", data_dir=str(path)).batches((32, 32)):
        found.update(images.tobytes() + labels.tobytes())
    return found.hexdigest()


def read_classes(path: Path) -> str:
    """Read a list of class names."""
    from onebit.cli.loading import read_class_names

    return repr(read_class_names(str(path)))


def read_history(path: Path) -> str:
    """Read the history of a run."""
    from onebit.recipes.training.callbacks import read_history

    return repr(read_history(path))


def read_run(path: Path) -> str:
    """Read the plan of a run."""
    from onebit.recipes.run_folder import read_json

    return repr(read_json(path))


def read_tflite(path: Path) -> str:
    """Run an exported network once."""
    from onebit import zoo

    zoo.latency(path, runs=1, warm_up=0)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def memory(name: str) -> int:
    """Return a figure of /proc/self/status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def work() -> None:
    """Read the files that are named on standard input, and say on standard output what came of each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        reader, path = json.loads(line)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before, start = memory("VmRSS"), time.perf_counter()
        try:
            result = {"outcome": "accepted", "content": READERS[reader](Path(path))}
        except Exception as error:
            result = {"outcome": "refused", "message": str(error), "type": type(error).__name__}
            # The command line's own are of click.
            result["right"] = isinstance(error, ValueError | OSError | ImportError | click.ClickException)
        result |= {"seconds": time.perf_counter() - start, "bytes": memory("VmHWM") - before}
        print(json.dumps(result), file=out, flush=True)


READERS: dict[str, Callable[[Path], str]] = {
    name.removeprefix("read_"): function for name, function in list(globals().items()) if name.startswith("read_")
}

# --- Making files -----------------------------------------------------------------------------------------------------


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        reader: Which of `READERS` reads it.
        make: Writes a sound one.
        lies: Return the content of others, from that of a sound one: what it claims is not so.
        checked: Whether damage of any kind can be told by the format; otherwise it may be read as something else.
    """

    reader: str
    make: Callable[[Path], object]
    lies: Callable[[bytes, random.Random], Iterator[bytes]] = lambda data, rng: iter(())
    checked: bool = False


def any_value(rng: random.Random) -> Any:
    """Return something that a field of JSON may be but should not."""
    values = [None, True, -1, 0, 1, 2**31, 2**62, 10**30, 1e308, -0.5, "", "A" * 5000, EVIL, "\0", [], {}]
    return rng.choice([*values, [[[]]], {"a": {"b": [EVIL]}}, ["x"] * 1000, "../../../../etc/passwd", [10**9] * 4])


def changed(value: Any, rng: random.Random) -> Any:
    """Return a JSON value in which one thing is another, gone, new or renamed."""
    if rng.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return any_value(rng)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [*value[:place], changed(value[place], rng), *value[place + 1 :]]
    key, action = rng.choice(list(value)), rng.random()
    if action < 0.1:
        return {name: part for name, part in value.items() if name != key}
    if action < 0.2:
        return {**value, rng.choice([EVIL, "x", "", key + "2"]): any_value(rng)}
    if action < 0.3:
        return {(EVIL if name == key else name): part for name, part in value.items()}
    return {**value, key: changed(value[key], rng)}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return content with random damage."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        # Headers are as likely as all the rest.
        place = rng.randrange(rng.choice([64, 512, len(content), len(content)])) % max(len(content), 1)
        kind = rng.randrange(8)
        if kind <= 2:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 3:
            content[place : place + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x40"]
            )
        elif kind == 4:
            content[place:place] = rng.randbytes(rng.choice([1, 4, 100]))
        elif kind == 5:
            del content[place : place + rng.choice([1, 4, 100])]
        elif kind == 6:
            del content[place:]
        else:
            content[place:place] = content[place : place + rng.choice([8, 64, 1000])]
        if not content:
            break
    return bytes(content)


def parts_of_packed(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Split a packed file into safetensors' header, ours, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["onebit"]), data[8 + length :]


def join_packed(outer: dict[str, Any], header: Any, tensors: bytes) -> bytes:
    """Put a packed file together, with its digest if it has room for one."""
    zeros = "0" * 64
    if isinstance(header, dict) and "sha256" in header:
        header["sha256"] = zeros
    outer = {**outer, "__metadata__": {"onebit": json.dumps(header)}}
    text = json.dumps(outer).encode()
    content = struct.pack("<Q", len(text)) + text + tensors
    return content.replace(zeros.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def packed_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield packed files whose headers lie, with digests that are right."""
    outer, header, tensors = parts_of_packed(data)
    yield join_packed(
        {**outer, EVIL: {"dtype": "F32", "shape": [0], "data_offsets": [len(tensors)] * 2}}, header, tensors
    )
    yield join_packed(outer, {**header, "function": EVIL}, tensors)
    yield join_packed(outer, {**header, "arguments": {**header["arguments"], EVIL: 1}}, tensors)
    yield join_packed(outer, {**header, "class_names": [EVIL] * 10}, tensors)
    yield struct.pack("<Q", 2**40) + data[8:]
    while True:
        if rng.random() < 0.7:
            yield join_packed(outer, changed(header, rng), tensors)
        else:
            new = changed({name: part for name, part in outer.items() if name != "__metadata__"}, rng)
            yield join_packed(new if isinstance(new, dict) else {}, header, tensors)


def pixels(seed: int = 0, size: int = 32) -> Any:
    """Return an image that does not compress."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def save_image(path: Path) -> None:
    """Write an image in the format of its ending."""
    from PIL import Image

    Image.fromarray(pixels()).save(path)


def png(width: int, height: int, depth: int, colour: int, bits: int) -> bytes:
    """Return a PNG file of one colour."""
    line, packer = bytes(1 + (width * bits + 7) // 8), zlib.compressobj(9)
    rows = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield images that unfold to hundreds of megabytes."""
    yield png(5000, 5000, 1, 0, 1)
    yield png(9400, 9400, 8, 6, 32)
    yield png(9400, 9400, 16, 0, 16)
    yield png(13300, 13300, 1, 0, 1)
    yield png(2800, 2900, 16, 0, 16)
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    while True:
        width, height = (rng.choice([0, 1, 40, 3000, 20000, 2**31 - 1]) for _ in range(2))
        yield data[:16] + struct.pack(">II", width, height) + data[24:]


def save_arrays(path: Path) -> None:
    """Write labelled images."""
    import numpy as np

    images = np.stack([pixels(seed, 8) for seed in range(4)])
    with path.open("wb") as file:
        np.savez(file, images=images, labels=np.arange(4))


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(shape: tuple[int, ...], content: bytes = b"", dtype: str = "|u1") -> bytes:
    """Return an array's file that claims a shape."""
    head = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


def npz_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield archives that claim more than they hold, or unfold to more than they should."""
    labels = npy((4,), bytes(32), "<i8")
    yield zipped({"images.npy": npy((10**6, 32, 32, 3)), "labels.npy": labels})
    yield zipped({"images.npy": npy((10**5, 32, 32, 3), bytes(2**28)), "labels.npy": labels})
    yield zipped({"images.npy": npy((4, 8, 8, 3), bytes(768), "|O"), "labels.npy": labels})
    yield zipped({"images.npy": npy((-1, 8, 8, 3), bytes(768)), "labels.npy": labels})
    yield zipped({f"{i}.npy": b"" for i in range(10**5)})
    while True:
        shape = tuple(rng.choice([0, 1, 4, 8, 3, -1, 2**40]) for _ in range(rng.randrange(6)))
        yield zipped(
            {
                "images.npy": npy(shape, bytes(768), rng.choice(["|u1", "<f8", "|O", "<U9", ">c16"])),
                "labels.npy": labels,
            }
        )


def mat(path: Path) -> None:
    """Write a network in the layout of McDonnell's official Keras code."""
    from onebit.zoo.checkpoints.variables import binary_kernels

    rng = random.Random(0)
    kernels = [tuple(kernel.variable.shape) for kernel in binary_kernels(network()).values()]
    content = MAT_HEAD + moments(4, 3, "batch_normalization_0", rng)
    for number, shape in enumerate(kernels):
        bits = bytes(rng.getrandbits(1) for _ in range(functools.reduce(lambda a, b: a * b, shape)))
        content += matrix(9, (1, *shape), element(2, bits), f"conv2d_{number}".encode())
        following = kernels[number + 1][2] if number + 1 < len(kernels) else 10
        content += moments(2, following, f"batch_normalization_{number + 1}", rng)
    path.write_bytes(content)


MAT_HEAD = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"


def moments(rows: int, columns: int, name: str, rng: random.Random) -> bytes:
    """Return a normalisation's constants as a variable of a MATLAB file."""
    values = struct.pack(f"<{rows * columns}f", *(rng.uniform(0.5, 1.5) for _ in range(rows * columns)))
    return matrix(7, (rows, columns), element(7, values), name.encode())


def element(kind: int, content: bytes) -> bytes:
    """Return an element of a MATLAB file."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], rest: bytes = b"", name: bytes = b"a") -> bytes:
    """Return an array of a MATLAB file."""
    dims = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, element(6, struct.pack("<II", kind, 0)) + dims + element(1, name) + rest)


def folded(content: bytes) -> bytes:
    """Return a part of a MATLAB file compressed."""
    data = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(data)) + data


def mat_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield cells in cells, sparse arrays of wild indices, and small files of many values."""
    inner = matrix(6, (1, 1), element(9, bytes(8)), b"")
    for _ in range(5000):
        inner = b"".join([struct.pack("<II", 14, 48 + len(inner)), matrix(1, (1, 1), b"", b"")[8:], inner])
    wild = struct.pack("<4i", 2**30, -5, 10**9, 7), struct.pack("<5i", 0, 10**6, 3, 10**9, 4)
    bomb = matrix(9, (1, 2**28), element(2, bytes(2**28)))
    yield MAT_HEAD + inner
    yield MAT_HEAD + folded(inner)
    yield MAT_HEAD + matrix(5, (4, 4), element(5, wild[0]) + element(5, wild[1]) + element(9, bytes(32)))
    yield MAT_HEAD + matrix(1, (2 * 10**8,), element(14, b"\1" * 16))
    yield MAT_HEAD + folded(bomb)
    yield MAT_HEAD + folded(matrix(9, (1, 10**6), element(2, bytes(10**6)))) * 300
    yield MAT_HEAD + b"".join(folded(matrix(6, (1, 4000), element(2, bytes(4000)), b"v%d" % i)) for i in range(5000))
    while True:
        shape = tuple(rng.choice([0, 1, -1, 3, 2**31 - 1, 10]) for _ in range(rng.randrange(12)))
        part = matrix(rng.randrange(20), shape, element(rng.randrange(20), rng.randbytes(rng.choice([0, 3, 8, 800]))))
        yield (
            MAT_HEAD + rng.choice([part, folded(part), folded(part)[:-4], matrix(1, (1, 2), part + part)]) + data[128:]
        )


def save_keras(path: Path) -> None:
    """Write the network's weights, or the whole of it, as Keras does."""
    if path.suffix == ".keras":
        network().save(path)
    else:
        network().save_weights(path)


def keras_lies(suffix: str) -> Callable[[bytes, random.Random], Iterator[bytes]]:
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


def save_pytorch(path: Path, old: bool = False) -> None:
    """Write an official checkpoint of random weights."""
    import torch

    torch.manual_seed(0)
    torch.save({"state_dict": official_state()}, path, _use_new_zipfile_serialization=not old)


def official_state() -> dict[str, Any]:
    """Return a state dict that fits `official`."""
    import torch

    from onebit.zoo.checkpoints.variables import named_variables
    from onebit.zoo.registry import entry

    variables, state = named_variables(official()), {}
    for name, place in entry("irnet_resnet20").build.state_dicts[0].tensors().items():
        shape = tuple(variables[place.variable].shape)
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), tuple(range(len(shape))))
        state[name] = torch.rand([shape[axis] for axis in order])
    return state


def pytorch_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield archives with other numbers in their pickles, members that unfold to a gigabyte, and odd tensors."""
    import torch

    def saved(content: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    version = next((name for name in members if name.endswith("version")), pickled)
    state = torch.load(io.BytesIO(data), weights_only=True)["state_dict"]
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    yield zipped({**members, version: b"3\n" + bytes(2**28)})
    for odd in (
        torch.tensor(1.0),
        torch.zeros(1).expand(10**9),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
    ):
        yield saved({**state, first: odd})
    yield saved({**state, EVIL: torch.zeros(2)})
    yield saved({name: torch.zeros(1, dtype=torch.bfloat16).expand(10**7) for name in state})
    while True:
        content = bytearray(members[pickled])
        for _ in range(rng.choice([1, 1, 2])):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 255, rng.randrange(256)])
        yield zipped({**members, pickled: bytes(content)}, zipfile.ZIP_STORED)


def save_teacher(path: Path) -> None:
    """Write a small model of Keras' own layers."""
    import tensorflow as tf

    layers = [tf.keras.layers.Conv2D(4, 3, name="conv"), tf.keras.layers.GlobalAveragePooling2D(name="pool")]
    top = tf.keras.layers.Dense(10, activation="softmax", name="top")
    tf.keras.Sequential([tf.keras.Input((32, 32, 3)), *layers, top]).save(path)


def text_lies(*starts: bytes) -> Callable[[bytes, random.Random], Iterator[bytes]]:
    """Return what yields text with other words in it."""

    def lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
        yield from starts
        while True:
            words = re.split(rb"([,\n:\"]+)", data)
            words[rng.randrange(len(words))] = str(any_value(rng)).encode(errors="replace")
            yield b"".join(words)

    return lies


def json_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield JSON with other values in it."""
    yield b"[" * 100_000
    while True:
        yield json.dumps(changed(json.loads(data), rng)).encode()


CLASSES = (b"\xff\xfe\0", bytes(10**6 + 1), b"a\n" * 500_000)
PLAN = json.dumps({"recipe": "irnet", "settings": {"epochs": 2}, "precision": "float32", "environment": {}})
HISTORY = "stage,epoch,loss,val_accuracy,seconds\nbinary,1,2.5,0.1,3.0\nbinary,2,2.0,0.2,3.0\n"

FORMATS = {
    "packed": Format("packed", lambda path: _save_packed(path), packed_lies, checked=True),
    "Keras .h5": Format("weights", save_keras, keras_lies(".h5")),
    "Keras .weights.h5": Format("weights", save_keras, keras_lies(".weights.h5")),
    "Keras .keras": Format("weights", save_keras, keras_lies(".keras"), checked=True),
    "teacher .keras": Format("teacher", save_teacher, keras_lies(".keras"), checked=True),
    "PyTorch .pth": Format("pytorch", save_pytorch, pytorch_lies, checked=True),
    "PyTorch, old .pth": Format("pytorch", functools.partial(save_pytorch, old=True)),
    "MATLAB .mat": Format("weights", mat, mat_lies),
    "image .png": Format("image", save_image, png_lies),
    "image .jpg": Format("image", save_image),
    "image .gif": Format("image", save_image),
    "image .tif": Format("image", save_image),
    "image .webp": Format("image", save_image),
    "image .bmp": Format("image", save_image),
    "image .ppm": Format("image", save_image),
    "arrays .npz": Format("dataset", save_arrays, npz_lies, checked=True),
    "class names .txt": Format("classes", lambda path: path.write_text("cat\ndog\n"), text_lies(*CLASSES)),
    "run.json": Format("run", lambda path: path.write_text(PLAN), json_lies),
    "history.csv": Format("history", lambda path: path.write_text(HISTORY), text_lies()),
    "TFDS folder": Format("tfds", lambda path: _prepare(path)),
    "TensorFlow Lite .tflite": Format("tflite", lambda path: _export(path), lambda data, rng: tflite_lies(data, rng)),
}


def _save_packed(path: Path) -> None:
    from onebit import zoo

    zoo.save_packed(network(), path, class_names=list("abcdefghij"))


def _export(path: Path) -> None:
    from onebit import zoo

    path.write_bytes(zoo.convert_to_tflite(zoo.load("birealnet20", input_shape=(12, 12, 3)), "int8"))


def tflite_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield networks without outputs, of wild shapes, with operations of others' or none, and in circles."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    wild = [-1, 0, 1, 3, 64, 2000, 2**16, 2**31 - 1]

    def change(model: Any, graph: Any, number: int) -> None:
        image, operation = graph.tensors[graph.inputs[0]], rng.choice(graph.operators)
        if number == 0:
            graph.outputs = []
        elif number == 1:
            graph.inputs = []
        elif number in (2, 3, 4, 5):
            image.shape = [[1] * 64, [0] * 4, [1, 2000, 2000, 3], [1, 2**15, 2**15, 3]][number - 2]
            image.shapeSignature = None
        elif number in (6, 7):
            code = model.operatorCodes[0]
            code.builtinCode = code.deprecatedBuiltinCode = 32
            code.customCode = ("FlexWriteFile", EVIL)[number - 6]
        elif number == 8:
            model.subgraphs = [graph, graph]
        elif number == 9:
            operation.inputs = [2**31 - 1]
        elif number % 4 == 0:
            tensor = rng.choice(graph.tensors)
            tensor.shape = [rng.choice(wild) for _ in range(rng.randrange(6))]
        elif number % 4 == 1:
            operation.inputs = [rng.choice([-1, 0, len(graph.tensors) - 1]) for _ in operation.inputs]
        elif number % 4 == 2:
            for name in vars(operation.builtinOptions) if operation.builtinOptions else ():
                setattr(operation.builtinOptions, name, rng.choice([-1, 0, 1, 100]))
        else:
            model.buffers[rng.randrange(len(model.buffers))].data = list(rng.randbytes(rng.choice([0, 1, 64])))

    for number in range(2**31):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        change(model, model.subgraphs[0], number)
        builder = flatbuffers.Builder(1024)
        with contextlib.suppress(Exception):  # what cannot be written
            builder.Finish(model.Pack(builder), b"TFL3")
            yield bytes(builder.Output())


def _prepare(path: Path) -> None:
    from onebit.recipes.data.datasets import DATASETS

    place = Path(__file__).resolve().parents[1] / "tests" / "recipes" / "prepared.py"
    found = importlib.util.spec_from_file_location("prepared", place)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    importlib.import_module("tensorflow_datasets").disable_progress_bar()
    module.prepare(DATASETS["cifar10"], path, 12)


# --- Watching ---------------------------------------------------------------------------------------------------------


class Worker:
    """A process that reads files; a new one where it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.sound: tuple[str, Path] | None = None
        """What a new process reads first, so that what it imports does not count."""

    def read(self, reader: str, path: Path, seconds: float = SECONDS) -> dict[str, Any]:
        """Return what came of reading a file: outcome, message and costs."""
        if self._process is None:
            command = [sys.executable, __file__, "--worker"]
            pipe, environment = subprocess.PIPE, {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
            )
            if self.sound:
                self.read(*self.sound, 120)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([reader, str(path)]) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self.close()
            return {"outcome": "hangs"}
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._process = None
        return {"outcome": f"ends the process ({code})"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def shortcoming(result: dict[str, Any]) -> str | None:
    """Return what is wrong with how a file was read; ``None`` if nothing is."""
    if result["outcome"] not in ("accepted", "refused"):
        return result["outcome"]
    if result["seconds"] > SECONDS or result["bytes"] > MEGABYTES * 1e6:
        return f"takes {result['seconds']:.0f} s and {result['bytes'] / 1e6:.0f} MB"
    message = result.get("message", "")
    if not result.get("right", True):
        return f"raises {result['type']}: {message[:120]!r}"
    return None if message.isprintable() and len(message) <= LONGEST else f"says {message[:120]!r}"


@contextlib.contextmanager
def in_its_place(kind: str, path: Path) -> Iterator[None]:
    """Put something that is no file, or a very large one, in the place of a file."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            place = os.getcwd()
            os.chdir(path.parent)  # a socket's path must be short
            stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))).bind(path.name)
            os.chdir(place)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        else:
            with path.open("wb") as file:
                file.truncate(2**30)
        yield


ODD = ("pipe", "socket", "device", "folder", "loop", "a gigabyte of zeros")


class Case(NamedTuple):
    """A file to read.

    Attributes:
        format: Its name in `FORMATS`.
        what: What is wrong with it.
        path: Where it is.
        content: What a sound one is read as.
    """

    format: str
    what: str
    path: Path
    content: str


def cases(name: str, folder: Path, rng: random.Random, worker: Worker) -> Iterator[Case]:
    """Yield files of a format without end, each only until the next: the odd ones, then lies and damage in turns."""
    kind = FORMATS[name]
    words = name.split()
    sound = folder / f"sound{words[-1] if words[-1].startswith('.') else ''}"
    kind.make(sound)
    worker.sound = kind.reader, sound
    first = worker.read(kind.reader, sound, 120)
    assert first["outcome"] == "accepted", (name, first)
    content = first["content"]
    if sound.is_dir():
        yield from _folders(name, sound, folder, content, rng)
        return
    data = sound.read_bytes()
    path = sound.with_stem("hostile")
    for odd in ODD:
        with in_its_place(odd, path):
            yield Case(name, odd, path, content)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    lies = kind.lies(data, rng)
    while True:
        for what, made in (("lie", next(lies, None)), ("damage", damaged(data, rng))):
            if made is not None:
                path.write_bytes(made)
                yield Case(name, what, path, content)


def _folders(name: str, sound: Path, folder: Path, content: str, rng: random.Random) -> Iterator[Case]:
    """Yield copies of a folder in which one file is another."""
    files = sorted(path.relative_to(sound) for path in sound.rglob("*") if path.is_file())
    turn = 0
    while True:
        copy = folder / "hostile"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(sound, copy)
        path = copy / rng.choice(files)
        data = path.read_bytes()
        if turn < 2 * len(files):
            path = copy / files[turn % len(files)]
            path.unlink()
            with in_its_place("pipe" if turn < len(files) else "device", path):
                yield Case(name, "odd", copy, content)
        else:
            is_json = path.suffix == ".json" and turn % 2
            path.write_bytes(json.dumps(changed(json.loads(data), rng)).encode() if is_json else damaged(data, rng))
            if path.suffix.startswith(".tfrecord") and not turn % 3:
                path.write_bytes(struct.pack("<Q", rng.choice([2**62, 2**40, 0, len(data)])) + data[8:])
            yield Case(name, "damage", copy, content)
        turn += 1


def main() -> None:
    """Try formats in turns for some minutes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--keep", type=Path, help="where to keep the files that fell short")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    counts = {}
    with contextlib.closing(Worker()) as worker:
        for name in options.formats:
            counts[name] = try_format(
                name, options.seed, worker, options.minutes * 60 / len(options.formats), options.keep
            )
    print("| format | tried | refused | accepted and right | accepted, read as something else | fell short |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, count in counts.items():
        other = "-" if FORMATS[name].checked and not count["changed"] else count["changed"]
        row = (count.total(), count["refused"], count["right"], other, count["short"])
        print(f"| {name} | {' | '.join(map(str, row))} |")
    raise SystemExit(any(count["short"] for count in counts.values()))


def try_format(
    name: str, seed: int, worker: Worker, seconds: float, keep: Path | None = None, most: int | None = None
) -> collections.Counter[str]:
    """Return what came of hostile files of a format: how many were refused, right, changed, and fell short."""
    count = collections.Counter[str]()
    end = None
    with tempfile.TemporaryDirectory() as folder:
        stream = cases(name, Path(folder), random.Random(f"{seed} {name}"), worker)
        for number, case in enumerate(stream):
            end = end or time.monotonic() + seconds
            if time.monotonic() > end or number == most:
                break
            result = worker.read(FORMATS[name].reader, case.path)
            if wrong := shortcoming(result):
                count["short"] += 1
                if count["short"] <= 5:
                    print(f"{name}, number {number} ({case.what}): {wrong}", file=sys.stderr, flush=True)
                if keep and case.path.is_file():
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(case.path, keep / f"{name.replace(' ', '_')}-{number}{case.path.suffix}")
            elif result["outcome"] == "refused":
                count["refused"] += 1
            else:
                # A lie that is told with a digest of its own is another file, not a damaged one.
                same = result["content"] == case.content or (FORMATS[name].checked and case.what == "lie")
                count["right" if same else "changed"] += 1
        stream.close()
    return count


if __name__ == "__main__":
    main()
