"""The layers of the export form: what `export_form` puts in place of the zoo's, in the converter's own terms."""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from ...quantizers import FPReLU, RPReLU
from ..build.layers import ShuffleChannels


class Affine(NamedTuple):
    """A factor and an offset for each output channel."""

    scale: np.ndarray
    offset: np.ndarray


class BinaryConvolution(tf.keras.layers.Layer):
    """What a ``QuantConv2D`` with a binary kernel computes for the sign of its input, as the converter wants it.

    Args:
        layer: The layer to copy.
        threshold: What to subtract before the sign, one number or one for each channel.
        kernel: Its quantized kernel, (height, width, in, out).
        affine: What is done to the result of each group.
    """

    def __init__(
        self,
        layer: lq.layers.QuantConv2D,
        threshold: np.ndarray,
        kernel: np.ndarray,
        affine: Affine | None = None,
    ) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._of, self._threshold, self._kernel_value, self._affine = layer, threshold, kernel, affine
        self._bias = layer.bias.numpy() if layer.use_bias and affine is None else None

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
        results = [self._convolve(part, kernel, strides) for part, kernel in parts]
        if self._affine is not None:
            affine = (np.split(value, groups) for value in self._affine)
            results = [y * scale + offset for y, scale, offset in zip(results, *affine, strict=True)]
        return tf.concat(results, -1)

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


class CutPadding(tf.keras.layers.Layer):
    """Zeros around an image, some of which are cut off again."""

    def __init__(self, layer: tf.keras.layers.ZeroPadding2D) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._padding = layer.padding

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        (top, bottom), (left, right) = self._padding
        return tf.pad(inputs, [(0, 0), (top, bottom + 1), (left, right + 1), (0, 0)])[:, :-1, :-1]


class GatherChannels(tf.keras.layers.Layer):
    """A channel shuffle as one operation, where a reshape, a transposition and a reshape would be three."""

    def __init__(self, layer: ShuffleChannels) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._index = np.arange(layer.input_shape[-1], dtype=np.int32).reshape(layer.groups, -1).T.ravel()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.gather(inputs, self._index, axis=-1)


class ShiftedPReLU(tf.keras.layers.Layer):
    """RPReLU around the PReLU that the converter knows; the same bits."""

    def __init__(self, layer: RPReLU) -> None:
        super().__init__(name=layer.name, trainable=False)
        self._shift_in, slope, self._shift_out = layer.get_weights()
        self._slope = _as_alpha(slope, layer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _prelu(inputs + self._shift_in, self._slope) + self._shift_out


class ScaledPReLU(tf.keras.layers.Layer):
    """FPReLU with positive slopes p above zero and q below, as p x and a PReLU of slope q / p; ``scaled`` has p x."""

    def __init__(self, layer: FPReLU, scaled: bool) -> None:
        super().__init__(name=layer.name, trainable=False)
        positive, negative = layer.positive_slope.numpy(), layer.negative_slope.numpy()
        self._scale = None if scaled else positive
        self._slope = _as_alpha(negative / positive, layer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _prelu(inputs if self._scale is None else inputs * self._scale, self._slope)


def _as_alpha(slope: np.ndarray, layer: tf.keras.layers.Layer) -> np.ndarray:
    """Return slopes in the shape that the converter recognises, that of an image less its batch."""
    return slope.reshape((1,) * (len(layer.input_shape) - 2) + (-1,))


def _prelu(x: tf.Tensor, slope: np.ndarray) -> tf.Tensor:
    """Return a PReLU as the two rectifiers in which the converter sees one."""
    return tf.nn.relu(x) + -slope * tf.nn.relu(-x)
