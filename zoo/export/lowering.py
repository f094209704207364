"""The export form of a model: the same network, of layers that the Larq Compute Engine's converter makes binary.

The converter recognises a sign, a convolution whose kernel is ± one number per filter, and TensorFlow's own paddings.
What a model of the zoo has besides is put into these terms here, with the same result for every image:

- **Kernels** are the quantizer's output, so that nothing is left for the converter to evaluate.
- **Symmetric padding with a stride** is TensorFlow's ``same`` on an image enlarged at the bottom and right until
  ``same`` is symmetric; the rows and columns that this adds to the output are cut off. Where one of those that stay
  would see the enlargement, as with 5x5 kernels of stride 2, it is every second pixel of a convolution of stride 1,
  which takes four times as many operations.
- **Groups** are one convolution each: the engine refuses groups. A batch normalisation behind them, and an FPReLU's
  positive slopes, are done for each, where they become the convolution's own multiplier. A shuffle is one operation.
- **Zeros before a convolution with strides** are one row and column too many, which are cut off again: the converter
  (version 0.16) would take them for ``same`` wherever the output has the same size, though it begins at another pixel.
- **RSign** is a subtraction and a sign.
- **RPReLU** is two additions around TensorFlow Lite's own PReLU.
- **FPReLU** is that PReLU of the positive slopes' multiple, if all of them are positive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ...quantizers import BinarySet, FPReLU, RPReLU, binary_activation
from ..build.layers import ShuffleChannels
from ..checkpoints import latents
from ..checkpoints.variables import BinaryKernel
from .layers import Affine, BinaryConvolution, CutPadding, GatherChannels, ScaledPReLU, ShiftedPReLU


def export_form(model: tf.keras.Model) -> tf.keras.Model:
    """Return a copy of a model for batches of one image, of layers that convert.

    Args:
        model: A functional Keras model of one input and one output, in float32. It stays as it is.

    Raises:
        ValueError: The model is not of this kind, its input shape is not fixed, or a layer cannot be copied.
    """
    _check(model)
    image = tf.keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    folded: dict[str, Affine] = {}
    done: set[str] = set()  # norms and positive slopes that the convolutions before them take over
    consumers = _consumers(model)
    for layer in model.layers:
        behind = _behind_groups(layer, consumers)
        if behind:
            folded[layer.name] = _affine(layer, *behind)
            done.update(each.name for each in behind)

    def copy_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        if type(layer) is tf.keras.layers.ZeroPadding2D and any(map(has_strides, consumers[layer.name])):
            return CutPadding(layer)
        return _export_layer(layer, folded.get(layer.name), layer.name in done)

    try:
        clone = tf.keras.models.clone_model(model, image, clone_function=copy_layer)
    except (NotImplementedError, TypeError) as error:
        raise ValueError(f"A layer of the model {model.name!r} cannot be copied for the export: {error}") from error
    copies = {layer.name: layer for layer in clone.layers}
    for layer in model.layers:
        copy = copies.get(layer.name)
        # The others took their weights when they were made.
        if copy is not None and type(copy) is type(layer):
            copy.set_weights(layer.get_weights())
    return clone


def _check(model: tf.keras.Model) -> None:
    if not getattr(model, "_is_graph_network", False):
        raise ValueError(
            f"model must be a functional or sequential Keras model that is built, not {type(model).__name__}."
        )
    if nested := [layer.name for layer in model.layers if isinstance(layer, tf.keras.Model)]:
        raise ValueError(
            f"model must not have models among its layers, as {nested[0]!r} is. Chain their layers instead: "
            "tf.keras.Model(body.input, classifier(body.output)) in place of tf.keras.Sequential([body, classifier])."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"model must have one input and one output, not {len(model.inputs)} and {len(model.outputs)}.")
    shape = model.inputs[0].shape[1:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"model must have a fixed input shape, not {tuple(shape)}: a file for a device has no dynamic shapes. "
            "Build it with input_shape=(height, width, channels)."
        )
    other = sorted({layer.compute_dtype for layer in model.layers if layer.compute_dtype} - {"float32"})
    if other:
        raise ValueError(
            f"model must compute in float32, not in {', '.join(other)}: build it under the policy 'float32' and load "
            "its weights."
        )


def _consumers(model: tf.keras.Model) -> dict[str, list[tf.keras.layers.Layer | None]]:
    """Return for each layer, by name, the layers that take its output, ``None`` standing for the model's caller."""
    consumers = defaultdict(list, {model.output_names[0]: [None]})
    for layer in model.layers:
        for node in layer.inbound_nodes:
            for parent in tf.nest.flatten(node.parent_nodes):
                consumers[parent.layer.name].append(layer)
    return consumers


def _behind_groups(
    layer: tf.keras.layers.Layer, consumers: Mapping[str, list[tf.keras.layers.Layer | None]]
) -> list[tf.keras.layers.Layer]:
    """Return the batch normalisation behind a convolution in groups, and the FPReLU behind that, if they can be its."""
    if not isinstance(layer, lq.layers.QuantConv2D) or layer.groups == 1 or _binary(layer) is None:
        return []
    linear = layer.activation in (None, tf.keras.activations.linear)
    norms = consumers[layer.name]
    if not linear or len(norms) != 1 or not isinstance(norms[0], tf.keras.layers.BatchNormalization):
        return []
    acts = consumers[norms[0].name]
    return [*norms, *acts] if len(acts) == 1 and _is_scaled_prelu(acts[0]) else norms


def has_strides(layer: tf.keras.layers.Layer | None) -> bool:
    """Return whether a layer is a convolution, of all channels or of each, with strides."""
    convolutions = (tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D)
    return isinstance(layer, convolutions) and layer.strides != (1, 1)


def _affine(
    layer: lq.layers.QuantConv2D, norm: tf.keras.layers.BatchNormalization, act: FPReLU | None = None
) -> Affine:
    """Return what a convolution has to be multiplied by, and then increased by, to do the others' part as well."""
    gamma = norm.gamma.numpy() if norm.scale else 1
    beta = norm.beta.numpy() if norm.center else 0
    bias = layer.bias.numpy() if layer.use_bias else 0
    scale = gamma / np.sqrt(norm.moving_variance.numpy() + np.float32(norm.epsilon))
    offset = (bias - norm.moving_mean.numpy()) * scale + beta
    slope = 1 if act is None else act.positive_slope.numpy()
    return Affine(scale * slope, offset * slope)


def _export_layer(layer: tf.keras.layers.Layer, affine: Affine | None, done: bool) -> tf.keras.layers.Layer:
    binary = _binary(layer)
    if binary is not None:
        return BinaryConvolution(layer, *binary, affine)
    if isinstance(layer, RPReLU) and _channels_last(layer):
        return ShiftedPReLU(layer)
    if _is_scaled_prelu(layer):
        return ScaledPReLU(layer, scaled=done)
    if done:
        return tf.keras.layers.Activation("linear", name=layer.name)
    if type(layer) is ShuffleChannels:
        return GatherChannels(layer)
    return type(layer).from_config(layer.get_config())


def _channels_last(layer: RPReLU | FPReLU) -> bool:
    return layer.axis % len(layer.input_shape) == len(layer.input_shape) - 1


def _is_scaled_prelu(layer: tf.keras.layers.Layer | None) -> bool:
    return type(layer) is FPReLU and _channels_last(layer) and bool((layer.positive_slope.numpy() > 0).all())


def _binary(layer: tf.keras.layers.Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the threshold and the kernel of a convolution that the engine can compute, ``None`` for other layers."""
    if not isinstance(layer, lq.layers.QuantConv2D) or layer.data_format != "channels_last":
        return None
    threshold, kernel = sign_threshold(layer.input_quantizer), binary_kernel(layer)
    return None if threshold is None or kernel is None else (threshold, kernel)


def check_engine(model: tf.keras.Model) -> None:
    """Raise `ValueError` where the Larq Compute Engine would compute something else, measured with version 0.16.

    It pads with +1 and takes that away again, but not where a kernel is larger than the image.
    """
    for layer in model.layers:
        if _binary(layer) is not None:
            _check_size(layer)


def _check_size(layer: lq.layers.QuantConv2D) -> None:
    size = layer.input_shape[1:3]
    if getattr(layer, "symmetric", False):
        size = tuple(n + (1 - n) % stride for n, stride in zip(size, layer.strides, strict=True))
    reach = tuple(rate * (k - 1) + 1 for k, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    zeros = layer.padding == "same" and layer.pad_values == 0
    if zeros and any(n < k for n, k in zip(size, reach, strict=True)):
        raise ValueError(
            f"The layer {layer.name} pads an image of {size[0]} x {size[1]} pixels with zeros for a kernel of "
            f"{reach[0]} x {reach[1]}, which the Larq Compute Engine gets wrong: build the model for larger images, or "
            "with padding='same_one'."
        )


def sign_threshold(quantizer: Callable[[Any], Any] | None) -> np.ndarray | None:
    """Return where an input quantizer's sign changes, one number or one for each channel; ``None`` if it is no sign."""
    binary = binary_activation(quantizer)
    if binary is None or (binary.low, binary.high) != (-1, 1):
        return None
    return np.atleast_1d(binary.threshold).astype(np.float32)


def binary_kernel(layer: tf.keras.layers.Layer) -> np.ndarray | None:
    """Return a convolution's quantized kernel, (height, width, in, out), if it is ± one number for each filter."""
    if getattr(layer.kernel_quantizer, "precision", None) != 1:
        return None
    latent = tf.convert_to_tensor(layer.kernel).numpy()
    kernel = BinaryKernel(layer, layer.kernel, layer.kernel_quantizer).quantized(latent)
    parts = BinarySet.of_filters(latents.as_filters(kernel, [0, 1, 2]))
    return kernel if parts and parts[1].is_symmetric else None
