"""The layers of the zoo that neither Keras nor Larq has."""

from __future__ import annotations

from typing import Any, Literal, get_args

import larq as lq
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from ...quantizers.base import BinaryQuantizer, NoAutoGraph
from ...util.arguments import check_choice
from ...util.graph import GraphBuilder, Node
from ...util.operations import GatherChannels, Pad

Padding = Literal["symmetric", "same", "same_one"]
"""How a binary convolution treats the image's border.

- ``"symmetric"``: zeros, as many on each side, put there *after* the sign, as PyTorch and MatConvNet do: a padded tap
  adds nothing. What converted official weights need.
- ``"same"``: TensorFlow's ``same`` with zeros; at stride 2 it pads even sizes at the bottom and right only.
- ``"same_one"``: TensorFlow's ``same`` with +1, a value that a 1-bit tensor can hold: for deployment. For binary
  activations only; networks of real ones refuse it.
"""


@lq.utils.register_keras_custom_object
class BinaryConv2D(NoAutoGraph, lq.layers.QuantConv2D):
    """Larq's ``QuantConv2D`` with symmetric padding, with a gradient for groups on CPUs, and safe in threads.

    Maps (b, h, w, channels) to (b, h', w', filters). Of the zoo's `Padding`, ``"symmetric"`` is ``padding="same",
    symmetric=True`` here, ``"same"`` is ``padding="same"``, and ``"same_one"`` is ``padding="same", pad_values=1.0``.

    Args:
        filters, kernel_size: As in Keras.
        symmetric: With ``padding="same"``, pad equally on both sides, whatever the stride. Kernels of odd size only.
        kernel_quantizer: As in Larq.
        **kwargs: For ``larq.layers.QuantConv2D``: ``input_quantizer``, ``pad_values`` and so on.

    Raises:
        ValueError: ``symmetric`` with a kernel of even size, or with padding other than ``"same"`` by zeros.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        symmetric: bool = False,
        kernel_quantizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, **kwargs)
        # Larq warns of binary kernels without a constraint; the papers' code has none, and neither do we.
        self.kernel_quantizer = lq.quantizers.get_kernel_quantizer(kernel_quantizer)
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
        # Not Larq's, which exchanges `padding` for the time of the call.
        tf.keras.layers.Conv2D.build(self, input_shape)
        for quantizer in (self.input_quantizer, self.kernel_quantizer):
            if isinstance(quantizer, BinaryQuantizer):
                quantizer.bind_to(self)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # All of it, because Larq's changes the layer, and the process, for the time of a call: an exception leaves both
        # changed, and another thread sees them so.
        x = inputs if self.input_quantizer is None else self.input_quantizer(inputs)
        kernel = tf.convert_to_tensor(getattr(self.kernel, "latent_variable", self.kernel))
        if self.kernel_quantizer is not None:
            kernel = self.kernel_quantizer(kernel)
        edges = self._edges(x)
        if edges is not None:
            x = tf.pad(x, edges, constant_values=self.pad_values)
        options = {"strides": self.strides, "padding": "VALID" if edges is not None else self.padding.upper()}
        if self.groups > 1 and self.dilation_rate == (1, 1) and self.data_format == "channels_last":
            y = _convolve_groups(x, kernel, self.groups, **options)
        else:
            convolve = tf.nn.convolution if self.groups == 1 else _compiled_convolution
            y = convolve(x, kernel, data_format=self._tf_data_format, dilations=self.dilation_rate, **options)
        if self.use_bias:
            y = tf.nn.bias_add(y, self.bias, data_format=self._tf_data_format)
        if not tf.executing_eagerly():
            y.set_shape(self.compute_output_shape(inputs.shape))
        return y if self.activation is None else self.activation(y)

    def _edges(self, x: tf.Tensor) -> list[Any] | None:
        """Return what to pad before a convolution without padding; ``None`` where TensorFlow pads as is wanted."""
        if not self._is_native_padding:
            return self._get_padding_same(x)
        if not self.symmetric or self.strides == (1, 1):
            return None
        sizes = zip(self.kernel_size, self.dilation_rate, strict=True)
        return [(0, 0), *((rate * (size - 1) // 2,) * 2 for size, rate in sizes), (0, 0)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "symmetric": self.symmetric}


# Only XLA has the gradient of groups on CPUs, at a multiple of the time.
_compiled_convolution = tf.function(tf.nn.convolution, jit_compile=True, autograph=False)


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

    y = convolve(x, kernel)
    # In a graph, TensorFlow makes one operation of this and a batch normalisation behind it, which only oneDNN has.
    return y if _pywrap_util_port.IsMklEnabled() else tf.ensure_shape(y, [None] * 4)


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
class PadChannels(NoAutoGraph, tf.keras.layers.Layer):
    """Add channels of zeros before and after: (..., c) becomes (..., before + c + after)."""

    def __init__(self, before: int = 0, after: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.pad(inputs, [[0, 0]] * (inputs.shape.rank - 1) + [[self.before, self.after]])

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(Pad(channels=(self.before, self.after)), x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "before": self.before, "after": self.after}


@lq.utils.register_keras_custom_object
class DuplicateChannels(NoAutoGraph, tf.keras.layers.Layer):
    """Repeat the channels in order until there are ``channels``: (..., c) becomes (..., channels)."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.concat([inputs] * -(-self.channels // inputs.shape[-1]), axis=-1)[..., : self.channels]

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        return graph.add(GatherChannels(np.arange(self.channels) % x.shape[-1]), x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@lq.utils.register_keras_custom_object
class ShuffleChannels(NoAutoGraph, tf.keras.layers.Layer):
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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}
