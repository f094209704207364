"""What is read from outside: how to make a sound file or folder of each kind, and others that lie."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import exported, folders, keras_files, matlab, packed, pictures, pytorch, readers
from .mutations import Lies, json_lies, text_lies
from .readers import Reader


def no_lies(data: bytes, rng: object) -> Iterator[bytes]:
    """Yield nothing."""
    return iter(())


class Format(NamedTuple):
    """A kind of file, or of folder.

    Attributes:
        reader: Reads it.
        make: Writes a sound one.
        ending: Of its name.
        lies: Content of others, from that of a sound one; of a folder it is `folders.copies` that decides.
        checked: Whether damage of any kind can be told by the format; otherwise it may be read as something else.
        needs: Modules without which it is not read.
    """

    reader: Reader
    make: Callable[[Path], object]
    ending: str = ""
    lies: Lies = no_lies
    checked: bool = False
    needs: tuple[str, ...] = ()


def _image(ending: str, lies: Lies = no_lies, checked: bool = False) -> Format:
    return Format(readers.image, pictures.save_image, ending, lies, checked)


def _keras(ending: str, checked: bool = False) -> Format:
    return Format(readers.weights, keras_files.save_keras, ending, keras_files.keras_lies(ending), checked)


def _text(reader: Reader, content: str, lies: Lies) -> Format:
    return Format(reader, lambda path: path.write_text(content), ".txt", lies)


_torch = functools.partial(Format, readers.pytorch, needs=("torch",))

FORMATS = {
    "packed": Format(readers.packed, packed.save_packed, ".onebit", packed.packed_lies, checked=True),
    "Keras .h5": _keras(".h5"),
    "Keras .weights.h5": _keras(".weights.h5"),
    "Keras .keras": _keras(".keras", checked=True),
    "teacher .keras": Format(
        readers.teacher, keras_files.save_teacher, ".keras", keras_files.keras_lies(".keras"), checked=True
    ),
    "PyTorch .pth": _torch(pytorch.save_pytorch, ".pth", pytorch.pytorch_lies, checked=True),
    "PyTorch, old .pth": _torch(functools.partial(pytorch.save_pytorch, old=True), ".pth"),
    "PyTorch .safetensors": _torch(pytorch.save_safetensors, ".safetensors", pytorch.safetensors_lies),
    "MATLAB .mat": Format(readers.weights, matlab.mat, ".mat", matlab.mat_lies),
    "image .png": _image(".png", pictures.png_lies, checked=True),
    "image .jpg": _image(".jpg"),
    "image .gif": _image(".gif"),
    "image .tif": _image(".tif"),
    "image .webp": _image(".webp"),
    "image .bmp": _image(".bmp"),
    "image .ppm": _image(".ppm"),
    "images in folders": Format(readers.dataset, folders.save_folders),
    "arrays .npz": Format(readers.dataset, pictures.save_arrays, ".npz", pictures.npz_lies, checked=True),
    "TFDS folder": Format(readers.tfds, folders.prepare, needs=("tensorflow_datasets",)),
    "class names": _text(readers.classes, "cat\ndog\n", text_lies(*folders.CLASSES)),
    "run.json": _text(readers.plan, folders.PLAN, json_lies),
    "history.csv": _text(readers.history, folders.HISTORY, text_lies()),
    "run's folder": Format(readers.run_folder, folders.save_run),
    "JAX job's folder": Format(readers.job, folders.save_job, needs=("jax",)),
    "TensorFlow Lite .tflite": Format(readers.exported, exported.save_tflite, ".tflite", exported.tflite_lies),
    "ONNX .onnx": Format(
        readers.exported, exported.save_exported, ".onnx", exported.onnx_lies, needs=("onnx", "onnxruntime")
    ),
    "OpenVINO .xml, .bin": Format(readers.exported, exported.save_openvino, needs=("openvino",)),
}
