"""From a Keras model to a file for the device, and the proof that it is the same network.

`export` converts a model with 1-bit weights and activations for the Larq Compute Engine, and any model with TensorFlow
Lite's standard converter, then runs the file and compares it with Keras before it takes its place.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ..stderr import captured_stderr
from .counts import count
from .export_check import Agreement, binary_layers, compare, float_fallbacks, shifted_convolutions
from .export_form import check_engine, export_form
from .files import check_target, replacing
from .images import check_size, get_preprocessing, preprocessing_of, with_channels
from .interpreter import open_interpreter, require_engine
from .samples import sample_images
from .tflite_file import BINARY_CONVOLUTION, read_tflite

Precision = Literal["binary", "float32", "float16", "int8"]
"""What the weights of an exported file are stored in.

- ``"binary"``: 1 bit for each weight of a binary convolution, 32 for the others; needs the Larq Compute Engine.
- ``"float32"``, ``"float16"``, ``"int8"``: all the same, by TensorFlow Lite's standard converter. With ``"int8"``
  activations stay real and are quantized as the network runs (dynamic range); a kernel of ± one number for each
  filter, like all binary ones, loses nothing by it.
"""

SAME_CLASS = 95.0
"""Share of the images, in percent, whose predicted class must be Keras' own.

It is not 100 because no two implementations round alike, and where the input of a sign is zero but for rounding, the
sign may differ. With trained weights this changes single images; a layer that was converted wrongly changes most.
"""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote, and how it compares with the Keras model.

    Attributes:
        file: Its path.
        precision: See `Precision`.
        file_bytes: Its size.
        memory: Bytes of the model by ``larq.models.summary``.
        binary_layers: Layers whose multiplications that summary counts as 1-bit.
        binary_operations: Binary convolutions in the file: a layer with groups has one for each.
        float_layers: Binary layers that are not binary in the file, by name, with the reason.
        shifted: How many real convolutions with strides begin at another pixel than in Keras.
        operations: How many operations of each kind the file has.
        agreement: The comparison of outputs.
    """

    file: str
    precision: Precision
    file_bytes: int
    memory: int
    binary_layers: int
    binary_operations: int
    float_layers: Mapping[str, str]
    shifted: int
    operations: Mapping[str, int]
    agreement: Agreement


def export(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "binary",
    images: np.ndarray | None = None,
    strict: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write a model as a TensorFlow Lite file for batches of one image, verify it, then put it in place in one step.

    Args:
        model: A functional Keras model of one input of fixed shape and one output, in float32.
        path: The file to write, customarily ``.tflite``.
        precision: See `Precision`. ``"binary"``, the default, needs ``pip install "onebit-zoo[export]"`` and a model
            with binary convolutions of binary activations.
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
        ModuleNotFoundError: The Larq Compute Engine is missing.
        OSError: The file cannot be written.
    """
    path = Path(path)
    check_target(path)
    network = _form(model, precision)
    layers = binary_layers(model)
    if precision == "binary" and not layers:
        raise ValueError(_NOT_BINARY.format(model.name))
    images = default_images(model) if images is None else np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != model.input_shape[1:] or not len(images):
        raise ValueError(
            f"images must be of shape (n, {', '.join(map(str, model.input_shape[1:]))}) with n at least 1, "
            f"not {images.shape}."
        )
    if images.dtype.kind != "f":
        raise ValueError(f"images must be preprocessed, and so floating-point numbers, not {images.dtype}.")
    content = convert_form(network, precision)
    images = images.astype(np.float32, copy=False)
    result = _verify(model, network, path, content, precision, len(layers), images, progress)
    if strict:
        _insist(result)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return result


def _form(model: tf.keras.Model, precision: Precision) -> tf.keras.Model:
    """Return the model's `export_form`, having checked that it can be stored in this precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(map(repr, get_args(Precision)))}, not {precision!r}.")
    form = export_form(model)
    if precision == "binary":
        require_engine()
        check_engine(model)
    return form


_NOT_BINARY = (
    "{} has no layer with both 1-bit weights and 1-bit activations, and the Larq Compute Engine has binary operations "
    "for those only: export it with precision='int8' or 'float16' (--precision), or keep it packed (zoo.save_packed)."
)


def _verify(
    model: tf.keras.Model,
    network: tf.keras.Model,
    path: Path,
    content: bytes,
    precision: Precision,
    layers: int,
    images: np.ndarray,
    progress: Callable[[int], None] | None,
) -> Exported:
    file = read_tflite(content)
    return Exported(
        file=str(path),
        precision=precision,
        file_bytes=len(content),
        memory=count(model).memory,
        binary_layers=layers,
        binary_operations=file.operations[BINARY_CONVOLUTION],
        float_layers=float_fallbacks(model, file) if precision == "binary" else {},
        shifted=shifted_convolutions(network, file) if precision == "binary" else 0,
        operations=dict(file.operations),
        agreement=compare(model, open_interpreter(content), images, progress),
    )


def _insist(result: Exported) -> None:
    if result.float_layers:
        named = "; ".join(f"{name}: {reason}" for name, reason in result.float_layers.items())
        raise ValueError(
            f"{len(result.float_layers)} of {result.binary_layers} binary layers would not be binary on the device: "
            f"{named}. Without strict the file is written all the same."
        )
    if result.shifted:
        raise ValueError(
            f"{result.shifted} convolutions with strides begin at another pixel in the file than in Keras: the "
            "converter took zeros before them for padding='same'. Pad with a ZeroPadding2D layer directly before the "
            "convolution, which the export knows, or build the convolution with padding='same'. Without strict the "
            "file is written all the same."
        )
    agreement = result.agreement
    if not agreement.same_class >= SAME_CLASS:
        raise ValueError(
            f"The file predicts Keras' class for {agreement.same_class:.1f} % of {agreement.images} images, and at "
            f"least {SAME_CLASS:g} % are expected (largest difference {agreement.max_difference:.2g}). Networks that "
            "were never trained may differ so much: many inputs of their signs are zero but for rounding. Without "
            "strict the file is written all the same."
        )


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
    prepare = get_preprocessing(preprocessing_of(model) or "imagenet")
    height, width, channels = model.input_shape[1:]
    return prepare(resized_sample((height, width), count, channels))


def resized_sample(size: tuple[int, int], count: int, channels: int = 3) -> np.ndarray:
    """Return the first of the sample images (`sample_images`), resized.

    Args:
        size: (height, width), each 1 to 4096.
        count: How many, 1 to 1,000.
        channels: 3, in colour, or 1, in grey.

    Returns:
        (count, height, width, channels), uint8.

    Raises:
        ValueError: An argument is out of its range.
    """
    from PIL import Image

    height, width = check_size(size)
    images = sample_images().images
    if not 1 <= count <= len(images):
        raise ValueError(f"count must be from 1 to {len(images)}, not {count}.")
    images = images[:count]
    if images.shape[1:3] != (height, width):
        resize = functools.partial(Image.Image.resize, size=(width, height), resample=Image.Resampling.BILINEAR)
        images = np.stack([np.asarray(resize(Image.fromarray(image))) for image in images])
    return with_channels(images, channels)


_PLAIN = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def convert_to_tflite(model: tf.keras.Model, precision: Precision) -> bytes:
    """Return a model as the content of a TensorFlow Lite file, without the verification of `export`.

    Args:
        model, precision: As there.

    Raises:
        ValueError: The model cannot be converted, or there is no such precision.
        ModuleNotFoundError: The Larq Compute Engine is needed and missing.
    """
    return convert_form(_form(model, precision), precision)


def convert_form(network: tf.keras.Model, precision: Precision) -> bytes:
    """Return a model of `export_form` as the content of a TensorFlow Lite file.

    Raises:
        ValueError: The converter has no operation for something in it; the message has the converter's own words.
    """

    @tf.function(input_signature=[tf.TensorSpec(network.inputs[0].shape, tf.float32, name="image")], autograph=False)
    def predict(image: tf.Tensor) -> tf.Tensor:
        return network(image, training=False)

    with tempfile.TemporaryDirectory() as folder, captured_stderr() as errors:
        try:
            # Without variables the file of the graph, and what is converted from it, takes a fifth of the time.
            frozen = _with_short_names(convert_variables_to_constants_v2(predict.get_concrete_function()))
            tf.saved_model.save(tf.Module(), folder, signatures=frozen, options=_PLAIN)
            return _convert(folder, precision)
        except Exception as error:  # whatever the converters raise
            raise ValueError(f"The model cannot be converted: {_reason(errors()) or error}") from error


def _with_short_names(function: Any) -> Any:
    """Return a frozen function with numbers for names of all operations but its inputs: in small files they count."""
    graph = function.graph.as_graph_def()
    names = {node.name: np.base_repr(number, 36) for number, node in enumerate(graph.node)}
    names.update((tensor.op.name, tensor.op.name) for tensor in function.inputs)
    for node in graph.node:
        node.name = names[node.name]
        # Without those that only order ("^..."): a frozen function has no side effects.
        inputs = [name.split(":") for name in node.input if not name.startswith("^")]
        node.input[:] = [":".join([names[operation], *output]) for operation, *output in inputs]
    outputs = [f"{names[tensor.op.name]}:{tensor.value_index}" for tensor in function.outputs]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return wrapped.prune([tensor.name for tensor in function.inputs], outputs)


def _convert(folder: str, precision: Precision) -> bytes:
    if precision == "binary":
        import larq_compute_engine

        return larq_compute_engine.convert_saved_model(folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _reason(text: str) -> str:
    """Return the converter's errors out of what it wrote, without the places in the graph that it names."""
    errors = [line.split("error:", 1)[1].strip() for line in text.splitlines() if "error:" in line]
    return " ".join(list(dict.fromkeys(errors))[:3])
