"""The layers of the zoo that neither Keras nor Larq has."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Literal, get_args

import larq as lq
import numpy as np
import tensorflow as tf

from ...quantizers.base import BinaryQuantizer
from ...quantizers.stated import Stated, build_nested
from ...util.arguments import check_choice
from ...util.graph import Affine, GatherChannels, GraphBuilder, Node, Pad

Padding = Literal["symmetric", "same", "same_one"]
"""How a binary convolution treats the image's border.

- ``"symmetric"``: zeros, as many on each side, put there *after* the sign, as PyTorch and MatConvNet do: a padded tap
  adds nothing. What converted official weights need.
- ``"same"``: TensorFlow's ``same`` with zeros; at stride 2 it pads even sizes at the bottom and right only.
- ``"same_one"``: TensorFlow's ``same`` with +1, a value that a 1-bit tensor can hold: for deployment. For binary
  activations only; networks of real ones refuse it.
"""


@lq.utils.register_keras_custom_object
class BinaryConv2D(Stated, lq.layers.QuantConv2D):
    """Larq's ``QuantConv2D`` with symmetric padding, and with a gradient for groups on CPUs.

    Maps (b, h, w, channels) to (b, h', w', filters). Of the zoo's `Padding`, ``"symmetric"`` is ``padding="same",
    symmetric=True`` here, ``"same"`` is ``padding="same"``, and ``"same_one"`` is ``padding="same", pad_values=1.0``.

    Args:
        filters, kernel_size: As in Keras.
        symmetric: With ``padding="same"``, pad equally on both sides, whatever the stride. Kernels of odd size only.
        **kwargs: For ``larq.layers.QuantConv2D``: ``input_quantizer``, ``kernel_quantizer``, ``pad_values`` and so on.

    Raises:
        ValueError: ``symmetric`` with a kernel of even size, or with padding other than ``"same"`` by zeros.
    """

    def __init__(
        self, filters: int, kernel_size: int | tuple[int, int], symmetric: bool = False, **kwargs: Any
    ) -> None:
        # Larq warns of binary kernels without a constraint; the papers' code has none, and neither do we.
        with _quiet(logging.getLogger("larq.layers_base")):
            super().__init__(filters, kernel_size, **kwargs)
        self.symmetric = symmetric
        even = not all(size % 2 for size in self.kernel_size)
        given = self.padding, self.pad_values, self.data_format
        if symmetric and (even or given != ("same", 0, "channels_last")):
            raise ValueError(
                "symmetric padding needs a kernel of odd size, padding='same', pad_values=0 and channels last, not "
                f"kernel_size={self.kernel_size}, padding={self.padding!r}, pad_values={self.pad_values} and "
                f"{self.data_format}."
            )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        for quantizer, shape in ((self.input_quantizer, input_shape), (self.kernel_quantizer, self.kernel.shape)):
            if isinstance(quantizer, BinaryQuantizer):
                quantizer.serve(self)
            if isinstance(quantizer, tf.keras.layers.Layer):
                build_nested(quantizer, shape)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # Larq's kernel quantizes itself anew at each reading: read it once.
        kernel = tf.convert_to_tensor(kernel)
        padding = self.padding
        if self.data_format == "channels_last":
            if padding == "same" and self.symmetric and self.strides != (1, 1):
                edges = [
                    (rate * (size - 1) // 2,) * 2
                    for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
                ]
                inputs, padding = tf.pad(inputs, [(0, 0), *edges, (0, 0)]), "valid"
            if self._groups_by_ourselves:
                return _convolve_groups(inputs, kernel, self.groups, self.strides, padding.upper())
        with lq.utils.patch_object(self, "padding", padding):
            return super().convolution_op(inputs, kernel)

    @property
    def _groups_by_ourselves(self) -> bool:
        return self.groups > 1 and self.dilation_rate == (1, 1) and self.data_format == "channels_last"

    def _jit_compiled_convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # Keras calls this for groups: only XLA has their gradient on CPUs, at a multiple of the time.
        if self._groups_by_ourselves:
            return self.convolution_op(inputs, kernel)
        return super()._jit_compiled_convolution_op(inputs, kernel)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "symmetric": self.symmetric}


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _convolve_groups(x: tf.Tensor, kernel: tf.Tensor, groups: int, strides: tuple[int, int], padding: str) -> tf.Tensor:
    """Convolve in groups; the gradient goes group by group, because TensorFlow has none for groups on CPUs."""
    options = {"strides": [1, *strides, 1], "padding": padding}

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            parts = [tf.split(each, groups, axis=-1) for each in (x, kernel, dy)]
            dx = [
                tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(xi), filter=ki, out_backprop=dyi, **options)
                for xi, ki, dyi in zip(*parts, strict=True)
            ]
            dkernel = [
                tf.raw_ops.Conv2DBackpropFilter(input=xi, filter_sizes=ki.shape, out_backprop=dyi, **options)
                for xi, ki, dyi in zip(*parts, strict=True)
            ]
            return tf.concat(dx, axis=-1), tf.concat(dkernel, axis=-1)

        return tf.nn.conv2d(x, kernel, strides, padding), grad

    return convolve(x, kernel)


def binary_conv(
    x: tf.Tensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    padding: Padding,
    strides: int = 1,
    groups: int = 1,
    input_quantizer: Any = None,
    kernel_quantizer: Any = None,
    kernel_initializer: Any = "he_normal",
) -> tf.Tensor:
    """Apply a `BinaryConv2D` without bias, with one of the zoo's paddings."""
    check_choice("padding", padding, get_args(Padding))
    if padding == "same_one" and input_quantizer is None and kernel_size > 1:
        raise ValueError("padding='same_one' is for binary activations, and this network's are real.")
    layer = BinaryConv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        symmetric=padding == "symmetric",
        pad_values=1.0 if padding == "same_one" else 0.0,
        groups=groups,
        use_bias=False,
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        kernel_initializer=kernel_initializer,
        name=name,
    )
    return layer(x)


@lq.utils.register_keras_custom_object
class PadChannels(Stated, tf.keras.layers.Layer):
    """Add channels of zeros before and after: (..., c) becomes (..., before + c + after)."""

    def __init__(self, before: int = 0, after: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.pad(inputs, [[0, 0]] * (inputs.shape.rank - 1) + [[self.before, self.after]])

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(Pad(channels=(self.before, self.after)), x)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        *leading, channels = tf.TensorShape(input_shape)
        return tf.TensorShape([*leading, channels + self.before + self.after])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "before": self.before, "after": self.after}


@lq.utils.register_keras_custom_object
class DuplicateChannels(Stated, tf.keras.layers.Layer):
    """Repeat the channels in order until there are ``channels``: (..., c) becomes (..., channels)."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.concat([inputs] * -(-self.channels // inputs.shape[-1]), axis=-1)[..., : self.channels]

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(GatherChannels(np.arange(self.channels) % x.shape[-1]), x)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([*tf.TensorShape(input_shape)[:-1], self.channels])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@lq.utils.register_keras_custom_object
class ShuffleChannels(Stated, tf.keras.layers.Layer):
    """Deal the channels of each of ``groups`` groups out to all groups: channel g n + i becomes i groups + g."""

    def __init__(self, groups: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape, channels = tf.shape(inputs), inputs.shape[-1]
        x = tf.reshape(inputs, [-1, self.groups, channels // self.groups])
        return tf.reshape(tf.transpose(x, [0, 2, 1]), shape)

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(GatherChannels(np.arange(x.shape[-1]).reshape(self.groups, -1).T.ravel()), x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


@lq.utils.register_keras_custom_object
class Temperature(Stated, tf.keras.layers.Layer):
    """Divide by a constant, to soften logits (McDonnell's shifted-ReLU networks)."""

    def __init__(self, temperature: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs / self.temperature

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(Affine(np.float32(1 / self.temperature)), x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
