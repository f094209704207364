"""Whether an exported file is the Keras model: its binary layers bit by bit, and its predictions on real images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from ...quantizers import BinarySet
from ..checkpoints import latents
from .lowering import binary_kernel, has_strides, sign_threshold
from .tflite_file import TFLiteFile


class Agreement(NamedTuple):
    """How far a file's outputs are from Keras'.

    Attributes:
        images: How many were compared.
        max_difference, mean_difference: Largest and mean absolute difference of the outputs.
        median_difference: The median image's largest difference. Where it is a rounding error and the maximum is not,
            a few images have a value so near a threshold that rounding decides its sign.
        same_class: Share of the images whose largest output is the same, in percent. Of a model of one output: which
            is on the same side of 0.5 where Keras' are all from 0 to 1, otherwise of 0.
    """

    images: int
    max_difference: float
    mean_difference: float
    median_difference: float
    same_class: float


def compare(
    model: tf.keras.Model,
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Compare a file's outputs with those of the Keras model it was made from.

    Args:
        model: The Keras model.
        predict: Runs the file on one image, (1, height, width, channels).
        images: What to compare on, preprocessed, (n, height, width, channels).
        progress: Called with the number of images after each one.

    Raises:
        ValueError: Keras' own outputs are not all finite: there is nothing to compare with.
    """
    # Called directly: `predict` would first spend seconds on building a graph.
    batches = (images[start : start + 32] for start in range(0, len(images), 32))
    expected = np.concatenate([np.asarray(model(batch, training=False)) for batch in batches]).reshape(len(images), -1)
    if not np.isfinite(expected).all():
        raise ValueError(f"The model {model.name!r} returns NaN or infinity for some of the {len(images)} images.")
    actual = np.empty_like(expected)
    for index in range(len(images)):
        actual[index] = predict(images[index : index + 1]).reshape(-1)
        if progress:
            progress(1)
    difference = np.abs(actual - expected)
    return Agreement(
        images=len(images),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        median_difference=float(np.median(difference.max(axis=1))),
        same_class=float(100 * (_decided(actual, expected) == _decided(expected, expected)).mean()),
    )


def _decided(outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which class each image has by its outputs, (n, classes) or (n, 1)."""
    if expected.shape[1] > 1:
        return outputs.argmax(axis=1)
    probabilities = expected.min() >= 0 and expected.max() <= 1
    return outputs[:, 0] > (0.5 if probabilities else 0.0)


def binary_layers(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """Return the layers whose multiplications ``larq.models.summary`` counts as 1-bit."""
    from larq.models import ModelProfile

    profiles = ModelProfile(model).layer_profiles
    return [profile._layer for profile in profiles if profile.op_count("mac", 1)]


def float_fallbacks(model: tf.keras.Model, file: TFLiteFile) -> dict[str, str]:
    """Return the binary layers that are not binary in the file, by name, each with the reason.

    A layer is binary in the file if each of its groups' kernels is there as the kernel of a binary convolution, bit for
    bit. A kernel of the file stands for one layer only.
    """
    found = Counter(_key(kernel) for kernel in file.binary_kernels)
    missing = {}
    for layer in binary_layers(model):
        kernel = binary_kernel(layer) if isinstance(layer, lq.layers.QuantConv2D) else None
        wanted: Counter[Any] = Counter()
        if kernel is not None:
            signs = kernel.transpose(3, 0, 1, 2) >= 0
            wanted.update(_key(part) for part in np.split(signs, layer.groups))
        if kernel is None or wanted - found:
            missing[layer.name] = _reason(layer)
        else:
            found -= wanted
    return missing


def _key(signs: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return signs.shape, np.packbits(signs).tobytes()


def _reason(layer: tf.keras.layers.Layer) -> str:
    """Return why the engine has no binary operation for a layer."""
    if not isinstance(layer, lq.layers.QuantConv2D):
        return f"the engine has no binary {type(layer).__name__}, only QuantConv2D"
    if layer.data_format != "channels_last":
        return f"its data_format is {layer.data_format!r}, the engine's is 'channels_last'"
    if sign_threshold(layer.input_quantizer) is None:
        return f"its input_quantizer, {_name(layer.input_quantizer)}, is not a sign (or is one along another axis)"
    kernel = layer.kernel_quantizer(tf.convert_to_tensor(layer.kernel)).numpy()
    parts = BinarySet.of_filters(latents.as_filters(kernel, [0, 1, 2]))
    if parts is None or not parts[1].is_symmetric:
        return f"its kernel_quantizer, {_name(layer.kernel_quantizer)}, does not give ± one number for each filter"
    if not np.abs(kernel).all():
        return "the scale of a filter is 0"
    if layer.padding == "same" and layer.pad_values not in (0, 1):
        return f"it pads with {layer.pad_values}, the engine with 0 or 1"
    return "the converter did not recognise it"


def _name(quantizer: Any) -> str:
    return getattr(quantizer, "name", None) or type(quantizer).__name__


def shifted_convolutions(form: tf.keras.Model, file: TFLiteFile) -> int:
    """Return how many convolutions with strides are padded as ``same`` in the file, but not in the network.

    They begin at another pixel than they should: the converter takes zeros before a convolution for ``same`` wherever
    that returns as many pixels.

    Args:
        form: The network that was converted, of `export_form`.
        file: What came of it.
    """
    same = [layer for layer in form.layers if has_strides(layer) and layer.padding == "same"]
    return max(file.strided_same - sum(not getattr(layer, "symmetric", False) for layer in same), 0)
