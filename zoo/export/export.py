"""From a Keras model to a file for another engine, and the proof that it is the same network.

`export` converts a model with 1-bit weights and activations for the Larq Compute Engine or OpenVINO, and any model with
TensorFlow Lite's standard converter or for ONNX, then runs the file and compares it with Keras before it takes its
place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import tensorflow as tf

from ...util.arguments import check_choice
from ...util.files import check_target, replacing
from ...util.graph import Graph
from ..counts import count
from ..images.images import get_preprocessing
from ..images.samples import resized_sample
from ..model_info import model_info, preprocessing_of
from .artifact import Artifact, Format, make
from .convert import Precision
from .lowering import lower
from .verify import Agreement, compare, nudged

SAME_CLASS: Mapping[Precision, float] = {"binary": 95.0, "float32": 95.0, "float16": 80.0, "int8": 80.0}
"""Share of the images, in percent, whose predicted class must be Keras' own.

It is not 100 because no two implementations round alike, and where the input of a sign is zero but for rounding, the
sign may differ. With trained weights this changes single images; a layer that was converted wrongly changes most. In 16
and 8 bits it is the real-valued weights that are rounded, and many more signs behind them change: the CIFAR-10
networks of 1-bit activations that ship keep nine tenths of their predictions.
"""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote, and how it compares with the Keras model.

    Attributes:
        file: Its path.
        to: See `Format`.
        precision: See `Precision`.
        file_bytes: Its size; for OpenVINO that of both files.
        memory: Bytes of the model by ``larq.models.summary``.
        binary_layers: Layers whose multiplications that summary counts as 1-bit.
        binary_operations: Binary convolutions in the file, for OpenVINO those that run as such on this processor: a
            layer with groups has one for each.
        float_layers: Binary layers that are not binary in the file, by name, with the reason.
        misaligned: How many real convolutions with strides begin at another pixel than in Keras.
        operations: How many operations of each kind the file has.
        agreement: The comparison of outputs.
        ties: Where they differ: the comparison of a few outputs after each sign's threshold was moved a little. If
            these agree, the conversion is right, and many inputs of signs are at a threshold but for rounding, as in
            networks that were never trained.
    """

    file: str
    to: Format
    precision: Precision
    file_bytes: int
    memory: int
    binary_layers: int
    binary_operations: int
    float_layers: Mapping[str, str]
    misaligned: int
    operations: Mapping[str, int]
    agreement: Agreement
    ties: Agreement | None = None


def export(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    *,
    to: Format | None = None,
    precision: Precision | None = None,
    images: np.ndarray | None = None,
    strict: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write a model as a file for another engine, verify it, then put it in place in one step.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32.
        path: The file to write. For OpenVINO its weights go into a second one beside it that ends in ``.bin``.
        to: See `Format`. Default: what the ending of ``path`` says, where ``.xml`` is OpenVINO, ``.onnx`` is ONNX, and
            any other ``"lce"``, or ``"tflite"`` if ``precision`` is another than ``"binary"``.
        precision: What TensorFlow Lite's files have their weights in, see `Precision`: by default ``"binary"`` for
            ``"lce"``, which needs a model with binary convolutions of binary activations, and ``"float32"`` for
            ``"tflite"``. Other files have 1 bit for each weight of a binary kernel and 32 for the others.
        images: What to compare on, preprocessed, (n, height, width, channels). Default: 200 of the sample images of
            CIFAR-10, brought to the model's size, with the model's usual preprocessing.
        strict: Whether a binary layer that is not binary in the file, or outputs that do not agree, are an error.
            Otherwise they are only reported.
        progress: Called with 1 after each compared image.

    Returns:
        What was written, and how it compares.

    Raises:
        ValueError: An argument is not as described, the model cannot be converted, or, with ``strict``, the file is not
            the same network. The message says what to do; nothing is written.
        ModuleNotFoundError: What the format needs is not installed.
        OSError: The file cannot be written.
    """
    path = Path(path)
    to, precision = _format(path, to, precision)
    targets = [path, path.with_suffix(".bin")] if to == "openvino" else [path]
    for target in targets:
        check_target(target)
    graph = lower(model)
    if to == "lce" and not graph.binary_layers:
        raise ValueError(_NOT_BINARY.format(model.name))
    images = default_images(model) if images is None else np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != model.input_shape[1:] or not len(images):
        raise ValueError(
            f"images must be of shape (n, {', '.join(map(str, model.input_shape[1:]))}) with n at least 1, "
            f"not {images.shape}."
        )
    given = graph.dtype
    if images.dtype.kind not in ("f" if given.kind == "f" else "ui"):
        raise ValueError(f"images must be of the kind that the model takes, {given}, not {images.dtype}.")
    artifact = make(graph, to, precision, metadata_of(model))
    result = _verify(model, graph, artifact, path, to, precision, images.astype(given, copy=False), progress)
    if strict:
        _raise_if_different(result)
    with contextlib.ExitStack() as stack:
        # The last one first: the file that names the others takes its place when they are there.
        for target, content in zip(targets, artifact.files.values(), strict=True):
            stack.enter_context(replacing(target)).write_bytes(content)
    return result


def _format(path: Path, to: Format | None, precision: Precision | None) -> tuple[Format, Precision]:
    if to is not None:
        check_choice("to", to, get_args(Format))
    if precision is not None:
        check_choice("precision", precision, get_args(Precision))
    by_ending: dict[str, Format] = {".xml": "openvino", ".onnx": "onnx"}
    if to is None:
        to = by_ending.get(path.suffix.lower(), "lce" if precision in (None, "binary") else "tflite")
    if precision is None:
        precision = "float32" if to == "tflite" else "binary"
    if (to == "tflite") != (precision != "binary"):
        others = "'float32', 'float16' or 'int8'" if to == "tflite" else "'binary'"
        raise ValueError(f"precision must be {others} for to={to!r}, not {precision!r}.")
    if to == "openvino" and path.suffix != ".xml":
        raise ValueError(f"path must end in .xml for OpenVINO, which looks for a .bin beside it, unlike {path.name}.")
    return to, precision


_NOT_BINARY = (
    "{} has no layer with both 1-bit weights and 1-bit activations, and the Larq Compute Engine has binary operations "
    "for those only: export it for OpenVINO or ONNX (an .xml or .onnx file), with precision='int8' or 'float16' "
    "(--precision), or keep it packed (zoo.save_packed)."
)


def _verify(
    model: tf.keras.Model,
    graph: Graph,
    artifact: Artifact,
    path: Path,
    to: Format,
    precision: Precision,
    images: np.ndarray,
    progress: Callable[[int], None] | None,
) -> Exported:
    result = Exported(
        file=str(path),
        to=to,
        precision=precision,
        file_bytes=sum(map(len, artifact.files.values())),
        memory=count(model).memory,
        binary_layers=len(graph.binary_layers),
        binary_operations=artifact.binary_operations,
        float_layers=artifact.float_layers,
        misaligned=artifact.misaligned,
        operations=dict(artifact.operations),
        agreement=compare(functools.partial(model, training=False), artifact.run, images, progress),
    )
    if _agrees(result.agreement, precision) or not graph.binary_layers:
        return result
    other = nudged(graph)
    return dataclasses.replace(result, ties=compare(other.run, make(other, to, precision).run, images[:_TIES]))


_TIES = 10
"""How many images are compared once more, with moved thresholds."""


def _agrees(agreement: Agreement, precision: Precision) -> bool:
    return agreement.same_class >= SAME_CLASS[precision] and math.isfinite(agreement.max_difference)


def _raise_if_different(result: Exported) -> None:
    if result.float_layers:
        named = "; ".join(f"{name}: {reason}" for name, reason in result.float_layers.items())
        raise ValueError(
            f"{len(result.float_layers)} of {result.binary_layers} binary layers would not be binary on the device: "
            f"{named}. Without strict the file is written all the same."
        )
    if result.misaligned:
        raise ValueError(
            f"{result.misaligned} convolutions with strides begin at another pixel in the file than in Keras: the "
            "converter took zeros before them for padding='same'. Pad with a ZeroPadding2D layer directly before the "
            "convolution, which the export knows, or build the convolution with padding='same'. Without strict the "
            "file is written all the same."
        )
    agreement, least = result.agreement, SAME_CLASS[result.precision]
    if not _agrees(agreement, result.precision) and not (result.ties and _agrees(result.ties, result.precision)):
        raise ValueError(
            f"The file predicts Keras' class for {agreement.same_class:.1f} % of {agreement.images} images, and at "
            f"least {least:g} % are expected (largest difference {agreement.max_difference:.2g}). Without strict the "
            "file is written all the same."
        )


def metadata_of(model: tf.keras.Model) -> dict[str, str]:
    """Return what a file says of the images and classes of a model of the zoo, as JSON."""
    info, preprocessing = model_info(model), preprocessing_of(model)
    if preprocessing is None or model.input_shape[-1] not in (1, 3):
        return {}
    sized = dataclasses.replace(preprocessing, size=preprocessing.size or tuple(model.input_shape[1:3]))
    metadata = {"preprocessing": json.dumps(sized.to_dict())}
    if info is not None and info.class_names:
        metadata["class_names"] = json.dumps(info.class_names)
    return metadata


def default_images(model: tf.keras.Model, count: int = 200) -> np.ndarray:
    """Return ``count`` sample images of CIFAR-10 of the size and preprocessing that ``model`` takes, float32.

    Raises:
        ValueError: The model does not take images of three channels or one.
    """
    if len(model.input_shape) != 4 or model.input_shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be given: the samples have 3 channels, or 1 in grey, and the model's input is "
            f"{model.input_shape[1:]}."
        )
    prepare = preprocessing_of(model) or get_preprocessing("imagenet")
    height, width, channels = model.input_shape[1:]
    return prepare(resized_sample((height, width), count, channels))
