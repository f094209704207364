"""What the quantizers of kernels share: which weights form one filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .base import DEPTHWISE, INPUT, POINTWISE, BinaryQuantizer

_TRANSPOSED = (tf.keras.layers.Conv1DTranspose, tf.keras.layers.Conv2DTranspose, tf.keras.layers.Conv3DTranspose)
_LOCAL = (tf.keras.layers.LocallyConnected1D, tf.keras.layers.LocallyConnected2D)


class KernelQuantizer(BinaryQuantizer):
    """Base of the 1-bit kernel quantizers whose formula speaks of *filters*.

    A filter is all the weights that make one output channel. Its axes follow from the layer that calls the quantizer:

    | layer | kernel shape | one filter per | averaged or counted over |
    |---|---|---|---|
    | QuantDense | (in, out) | out | in |
    | QuantConv1D/2D/3D, also with ``groups`` | (\\*k, in / groups, out) | out | \\*k, in / groups |
    | QuantDepthwiseConv2D | (\\*k, in, multiplier) | in, multiplier | \\*k |
    | QuantSeparableConv1D/2D | depthwise and pointwise as above | | |
    | QuantConv2D/3DTranspose | (\\*k, out, in) | out | \\*k, in |
    | QuantLocallyConnected1D/2D | - | an error: the papers define no scale for unshared filters | |

    Args:
        channel_axis: The axis or axes of the kernel that number its filters. ``None`` (the default) takes them from
            the calling Larq layer, and the last axis where the quantizer is called on its own.
        **kwargs: See `BinaryQuantizer`.

    Raises:
        ValueError: `channel_axis` is not an axis or a sequence of axes. When a layer calls it: it is the layer's
            `input_quantizer`, the layer has no filters, or its kernel has no such axes.
    """

    def __init__(self, channel_axis: int | Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channel_axis = channel_axis
        self._channel_axes: tuple[int, ...] = (-1,)
        if channel_axis is not None:
            axes = tuple(channel_axis) if isinstance(channel_axis, Sequence) else (channel_axis,)
            if not axes or not all(isinstance(axis, int) for axis in axes):
                raise ValueError(
                    f"channel_axis of {type(self).__name__} must be None, an axis or several, not {channel_axis!r}."
                )
            self._channel_axes = axes

    def _serve(self, layer: tf.keras.layers.Layer, roles: Sequence[str]) -> None:
        name, caller = type(self).__name__, f"{type(layer).__name__} ({layer.name})"
        if INPUT in roles:
            raise ValueError(
                f"{name} quantizes kernels and cannot be the input_quantizer of {caller}. For activations see RSign, "
                "ApproxSign and EDE."
            )
        if self.channel_axis is not None:
            return
        if isinstance(layer, _LOCAL):
            raise ValueError(
                f"{name} is not defined for {caller}: the weights of a filter are not shared between positions. Use an "
                "unscaled quantizer, such as EDE or larq's SteSign."
            )
        if DEPTHWISE in roles and POINTWISE in roles:
            raise ValueError(
                f"{caller} uses one {name} object for its depthwise and its pointwise kernel, whose filters lie along "
                "different axes: give each kernel a quantizer object of its own."
            )
        # The answer stays for when the quantized kernel is read outside a call.
        if DEPTHWISE in roles:
            self._channel_axes = (-2, -1)
        else:
            self._channel_axes = (-2,) if isinstance(layer, _TRANSPOSED) else (-1,)

    def binary_activation(self) -> None:
        return None

    def build(self, input_shape: Any) -> None:
        self.filter_axes(input_shape)
        super().build(input_shape)

    def filter_axes(self, shape: Any) -> list[int]:
        """Return the axes of a kernel of this shape that lie inside one filter.

        Raises:
            ValueError: It is not a kernel's shape (fewer than two axes, or axes of unknown length, as activations
                have), or ``channel_axis`` names axes it does not have, or all of them.
        """
        shape = tf.TensorShape(shape)
        if shape.rank is None or shape.rank < 2 or not shape.is_fully_defined():
            raise ValueError(
                f"{type(self).__name__} quantizes kernels: its input must have at least 2 axes, all of known length, "
                f"but has shape {shape}. Use it as kernel_quantizer; for activations see RSign, ApproxSign and EDE."
            )
        channels = {axis % shape.rank for axis in self._channel_axes}
        if len(channels) == shape.rank or any(not -shape.rank <= axis < shape.rank for axis in self._channel_axes):
            raise ValueError(
                f"channel_axis={self.channel_axis!r} of {type(self).__name__} does not fit a kernel of shape {shape}: "
                "it must name axes of the kernel, and leave at least one that lies inside a filter."
            )
        return [axis for axis in range(shape.rank) if axis not in channels]

    def get_config(self) -> dict[str, Any]:
        axis = self.channel_axis
        return {**super().get_config(), "channel_axis": axis if axis is None or isinstance(axis, int) else list(axis)}
