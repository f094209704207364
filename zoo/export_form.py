"""The export form of a model: the same network, of layers that the Larq Compute Engine's converter makes binary.

The converter recognises a sign, a convolution whose kernel is ± one number per filter, and TensorFlow's own paddings.
What a model of the zoo has besides is put into these terms here, with the same result for every image:

- **Kernels** are the quantizer's output, so that nothing is left for the converter to evaluate.
- **Symmetric padding with a stride** is TensorFlow's ``same`` on an image enlarged at the bottom and right until
  ``same`` is symmetric; the rows and columns that this adds to the output are cut off. Where one of those that stay
  would see the enlargement, as with 5x5 kernels of stride 2, it is every second pixel of a convolution of stride 1,
  which takes four times as many operations.
- **Groups** are one convolution each: the engine refuses groups.
- **RSign** is a subtraction and a sign.
- **RPReLU** is two additions around TensorFlow Lite's own PReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..quantizers import RPReLU, RSign
from . import latents
from .naming import BinaryKernel

_SIGN_PROBE = np.array([-2.0, -0.5, -1e-7, 0.0, 1e-7, 0.5, 2.0], np.float32)


def export_form(model: tf.keras.Model) -> tf.keras.Model:
    """Return a copy of a model for batches of one image, of layers that convert.

    Args:
        model: A functional Keras model of one input and one output, in float32. It stays as it is.

    Raises:
        ValueError: The model is not of this kind, its input shape is not fixed, or a layer cannot be copied.
    """
    _check(model)
    image = tf.keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    try:
        clone = tf.keras.models.clone_model(model, image, clone_function=_export_layer)
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


def _export_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    if isinstance(layer, lq.layers.QuantConv2D):
        threshold, kernel = sign_threshold(layer.input_quantizer), binary_kernel(layer)
        if threshold is not None and kernel is not None and layer.data_format == "channels_last":
            _check_size(layer)
            return BinaryConvolution(layer, threshold, kernel)
    if type(layer) is RPReLU and layer.axis % len(layer.input_shape) == len(layer.input_shape) - 1:
        return _ShiftedPReLU(layer)
    return type(layer).from_config(layer.get_config())


def _check_size(layer: lq.layers.QuantConv2D) -> None:
    """Raise `ValueError` where the engine would compute something else, measured with version 0.16.

    It pads with +1 and takes that away again, but not where a kernel is larger than the image.
    """
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
    if isinstance(quantizer, RSign):
        alpha = quantizer.alpha.numpy()
        return alpha if alpha.ndim == 1 else None
    if quantizer is None:
        return None
    signs = np.asarray(quantizer(tf.constant(_SIGN_PROBE)))
    return np.zeros(1, np.float32) if np.array_equal(signs, np.where(_SIGN_PROBE < 0, -1, 1)) else None


def binary_kernel(layer: tf.keras.layers.Layer) -> np.ndarray | None:
    """Return a convolution's quantized kernel, (height, width, in, out), if it is ± one number for each filter."""
    if getattr(layer.kernel_quantizer, "precision", None) != 1:
        return None
    latent = tf.convert_to_tensor(layer.kernel).numpy()
    kernel = BinaryKernel(layer, layer.kernel, layer.kernel_quantizer).quantized(latent)
    return kernel if latents.split(latents.as_filters(kernel, [0, 1, 2])) else None


class BinaryConvolution(tf.keras.layers.Layer):
    """What a ``QuantConv2D`` with a binary kernel computes for the sign of its input, as the converter wants it.

    Args:
        layer: The layer to copy.
        threshold: What to subtract before the sign, one number or one for each channel.
        kernel: Its quantized kernel, (height, width, in, out).
    """

    def __init__(self, layer: lq.layers.QuantConv2D, threshold: np.ndarray, kernel: np.ndarray) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._of, self._threshold, self._kernel_value = layer, threshold, kernel
        self._bias = layer.bias.numpy() if layer.use_bias else None

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(
            "kernel", self._kernel_value.shape, initializer=tf.keras.initializers.Constant(self._kernel_value)
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        layer = self._of
        x = inputs - self._threshold if self._threshold.any() else inputs
        if layer.padding == "same" and getattr(layer, "symmetric", False):
            y = self._convolve_symmetric(x)
        else:
            y = self._convolve_groups(x, layer.strides)
        if self._bias is not None:
            y += self._bias
        return layer.activation(y) if layer.activation else y

    def _convolve_symmetric(self, x: tf.Tensor) -> tf.Tensor:
        layer, size = self._of, x.shape[1:3]
        axes = list(zip(size, layer.strides, layer.kernel_size, strict=True))
        added = [(1 - n) % stride for n, stride, _ in axes]
        kept = [-(-n // stride) for n, stride, _ in axes]
        seen = [(out - 1) * stride + k // 2 for out, (_, stride, k) in zip(kept, axes, strict=True)]
        if any(more and last >= n for more, last, n in zip(added, seen, size, strict=True)):
            return self._convolve_groups(x, (1, 1))[:, :: layer.strides[0], :: layer.strides[1]]
        if not any(added):
            return self._convolve_groups(x, layer.strides)
        x = tf.pad(x, [(0, 0), *((0, more) for more in added), (0, 0)])
        return self._convolve_groups(x, layer.strides)[:, : kept[0], : kept[1]]

    def _convolve_groups(self, x: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
        groups = self._of.groups
        if groups == 1:
            return self._convolve(x, self.kernel, strides)
        parts = zip(tf.split(x, groups, -1), tf.split(self.kernel, groups, -1), strict=True)
        return tf.concat([self._convolve(part, kernel, strides) for part, kernel in parts], -1)

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
        layer, padding = self._of, self._of.padding.upper()
        size, x = x.shape[1:3], lq.math.sign(x)
        if padding == "SAME" and layer.pad_values != 0:
            reach = [rate * (k - 1) + 1 for k, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
            total = [
                max((-(-n // stride) - 1) * stride + k - n, 0)
                for n, stride, k in zip(size, strides, reach, strict=True)
            ]
            edges = [(n // 2, n - n // 2) for n in total]
            x, padding = tf.pad(x, [(0, 0), *edges, (0, 0)], constant_values=layer.pad_values), "VALID"
        return tf.nn.conv2d(x, kernel, strides, padding, dilations=layer.dilation_rate)


class _ShiftedPReLU(tf.keras.layers.Layer):
    """RPReLU, as two rectifiers that the converter knows to be a PReLU; the same bits."""

    def __init__(self, layer: RPReLU) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._shift_in, slope, self._shift_out = layer.get_weights()
        # In the shape that the converter recognises, that of an image less its batch.
        self._slope = slope.reshape((1,) * (len(layer.input_shape) - 2) + (-1,))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Short names: in ReActNet-20's file, of 64 kB of weights, these many additions' names count.
        x = tf.add(inputs, self._shift_in, name="x")
        return tf.add(tf.nn.relu(x) + -self._slope * tf.nn.relu(-x), self._shift_out, name="y")
