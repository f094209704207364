"""What the quantizers of kernels share: which weights form one filter."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import larq as lq
import tensorflow as tf
from tf_keras.src.engine.base_layer_utils import call_context

from .base import DEPTHWISE, INPUT, POINTWISE, BinaryQuantizer
from .binary_set import upper_values

__all__ = ["KernelQuantizer"]

_TRANSPOSED = (tf.keras.layers.Conv1DTranspose, tf.keras.layers.Conv2DTranspose, tf.keras.layers.Conv3DTranspose)
_LOCAL = (tf.keras.layers.LocallyConnected1D, tf.keras.layers.LocallyConnected2D)

_CHANNEL_AXES: ContextVar[tuple[int, ...] | None] = ContextVar("_CHANNEL_AXES", default=None)
"""During a call, the axes that number the filters: layers of several kinds, in several threads, may share an object."""


def _owners(attributes: object) -> list[Any]:
    """Return the objects whose attributes a dictionary holds, if that is what it is."""
    return gc.get_referrers(attributes) if isinstance(attributes, dict) else []


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
        self._channel_axes: tuple[int, ...] | None = None  # of the layer that this object was bound to last
        if channel_axis is not None:
            axes = tuple(channel_axis) if isinstance(channel_axis, Sequence) else (channel_axis,)
            if not axes or not all(isinstance(axis, int) for axis in axes):
                raise ValueError(
                    f"channel_axis of {type(self).__name__} must be None, an axis or several, not {channel_axis!r}."
                )
            self._channel_axes = axes

    def __call__(self, inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        layer = call_context().layer
        if layer is None and self._channel_axes is None and lq.context.should_quantize():
            layer = self._find_layer()
        token = _CHANNEL_AXES.set(self._axes_in(layer))
        try:
            return super().__call__(inputs, *args, **kwargs)
        finally:
            _CHANNEL_AXES.reset(token)

    def _bind(self, layer: tf.keras.layers.Layer, roles: list[str]) -> None:
        self._channel_axes = self._axes_in(layer)

    def _axes_in(self, layer: tf.keras.layers.Layer | None) -> tuple[int, ...] | None:
        """Return the axes that number the filters of a layer's kernel; ``None`` if the layer does not hold this."""
        roles = self._roles_in(layer)
        name, caller = type(self).__name__, f"{type(layer).__name__} ({getattr(layer, 'name', '')})"
        if INPUT in roles:
            raise ValueError(
                f"{name} quantizes kernels and cannot be the input_quantizer of {caller}. For activations see RSign, "
                "ApproxSign and EDE."
            )
        if not roles or self.channel_axis is not None:
            return self._channel_axes if roles else None
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
        if DEPTHWISE in roles:
            return -2, -1
        return (-2,) if isinstance(layer, _TRANSPOSED) else (-1,)

    def _find_layer(self) -> tf.keras.layers.Layer | None:
        """Return the layer that holds this object, whose quantized kernel is read before its first call.

        Larq tells a quantizer nothing of its layer, so that the layer must be looked for among all objects.
        """
        owners = [owner for each in gc.get_referrers(self) for owner in (each, *_owners(each))]
        layers = [owner for owner in owners if isinstance(owner, tf.keras.layers.Layer) and self._roles_in(owner)]
        if len({self._axes_in(layer) for layer in layers}) > 1:
            raise ValueError(
                f"{type(self).__name__} ({self.name}) is shared by layers whose filters lie along different axes: call "
                "the model once before reading its quantized kernels."
            )
        return layers[0] if layers else None

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
        axes = _CHANNEL_AXES.get() or self._channel_axes or (-1,)
        channels = {axis % shape.rank for axis in axes}
        if len(channels) == shape.rank or any(not -shape.rank <= axis < shape.rank for axis in axes):
            raise ValueError(
                f"channel_axis={self.channel_axis!r} of {type(self).__name__} does not fit a kernel of shape {shape}: "
                "it must name axes of the kernel, and leave at least one that lies inside a filter."
            )
        return [axis for axis in range(shape.rank) if axis not in channels]

    def _upper(self, values: tf.Tensor) -> tf.Tensor:
        return upper_values(values, self.filter_axes(values.shape))  # both may be of one sign

    def get_config(self) -> dict[str, Any]:
        axis = self.channel_axis
        return {**super().get_config(), "channel_axis": axis if axis is None or isinstance(axis, int) else list(axis)}
