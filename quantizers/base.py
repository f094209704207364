"""What the quantizers share: 1 bit, the layer that holds them, and parameters with one value per channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from larq.quantizers import _BaseQuantizer  # the class for which Larq's metrics scope is, and no public one
from tf_keras.src.engine.base_layer_utils import call_context

from .binary_set import BinaryActivation, BinarySet
from .elementwise import at_least_float32

__all__ = ["BinaryQuantizer", "ChannelParameters"]

INPUT, KERNEL = "input_quantizer", "kernel_quantizer"
DEPTHWISE, POINTWISE = "depthwise_quantizer", "pointwise_quantizer"


class NoAutoGraph:
    """First base, before a Keras layer, of one whose `call` is plain TensorFlow.

    Keras has AutoGraph rewrite the code of each layer that it builds: a quarter of the time that a network takes.
    """

    def _should_use_autograph(self) -> bool:
        return False


class _Metered(_BaseQuantizer):
    """Larq's base, whose metric counts in any quantizer of 1 bit."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return ``inputs``, the values that a subclass has computed, after Larq's metrics have seen which they are."""
        if hasattr(self, "flip_ratio"):
            # Larq counts changes of integers, which would make 0 of all values below 1.
            self.add_metric(self.flip_ratio(self._upper(inputs)))
        return inputs

    def _upper(self, values: tf.Tensor) -> tf.Tensor:
        """Return which of the two values a quantized tensor has: true where it is the upper one."""
        return values >= 0


class BinaryQuantizer(NoAutoGraph, _Metered):
    """A 1-bit quantizer that takes tensors of any float dtype, and learns which layer calls it and for what.

    The names of its own variables end in ``bias``: `larq.models.summary` takes every other weight that a convolution
    holds for multiplications.

    A subclass computes in `call`, whose result goes through ``super().call`` to Larq's metrics; and has its own
    `binary_activation` and `latent_weights`, where the default ones do not hold.

    Args:
        metrics: Larq's metrics, ``["flip_ratio"]``. Default, for kernels: those of `larq.context.metrics_scope`.
        **kwargs: ``name``, ``dtype`` and so on, for ``tf.keras.layers.Layer``. ``dtype`` is that of the quantizer's own
            variables; the output has the dtype of the input.
    """

    precision = 1

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)

    def add_weight(self, *args: Any, **kwargs: Any) -> tf.Variable:
        # The layer that holds this may compute in more bits than the policy says.
        kwargs.setdefault("experimental_autocast", False)
        return super().add_weight(*args, **kwargs)

    def __call__(self, inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        # Larq hands a quantizer the bare tensor; the layer in whose call we are is the only one to tell what it means.
        self.bind_to(call_context().layer)
        return super().__call__(inputs, *args, **kwargs)

    @tf.autograph.experimental.do_not_convert  # plain Python, which AutoGraph may stumble over
    def bind_to(self, layer: tf.keras.layers.Layer | None) -> None:
        """Learn what this object is for in the layer that holds it; any other layer, or none, changes nothing.

        Raises:
            ValueError: It has no meaning there, such as a quantizer of kernels as ``input_quantizer``.
        """
        if roles := self._roles_in(layer):
            self._bind(layer, roles)

    def _roles_in(self, layer: tf.keras.layers.Layer | None) -> list[str]:
        """Return the arguments of a Larq layer that this object is the value of."""
        return [role for role in (INPUT, KERNEL, DEPTHWISE, POINTWISE) if getattr(layer, role, None) is self]

    def _bind(self, layer: tf.keras.layers.Layer, roles: list[str]) -> None:
        """Prepare for a call by ``layer``, which holds this object as ``roles``; raise where that has no meaning."""

    def binary_activation(self) -> BinaryActivation | None:
        """Return the two values that activations are mapped to, and the threshold between them.

        ``None`` for quantizers of kernels alone, and where there is not one threshold for each channel, the last axis.
        The default is the plain sign.
        """
        return BinaryActivation.sign()

    def latent_weights(self, signs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return latent weights of a kernel which this quantizer maps exactly to ``where(signs, high, low)``.

        The inverse of the forward pass, which packed files need, as they keep the signs and the two values only. The
        default is that very array, for quantizers that map their own output to itself.

        Args:
            signs: (filters, weights in a filter), bool.
            low, high: (filters,), finite, float32 or float64; the result is of their type.
        """
        return BinarySet(low, high).values(signs)

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        # Larq's has none at all, to hide the metric's.
        hidden = {id(variable) for variable in getattr(getattr(self, "flip_ratio", None), "weights", [])}
        return [v for v in tf.keras.layers.Layer.non_trainable_weights.fget(self) if id(v) not in hidden]


class ChannelParameters(NoAutoGraph, tf.keras.layers.Layer):
    """A layer of unchanged shape with learned parameters that each hold one value per channel.

    Args:
        axis: The channel axis of the input; not the batch axis, 0.

    Raises:
        ValueError: When it is built: `axis` is not a channel axis of the input, or its length is unknown. When it is
            called: the input's rank or channel count is not what it was built for.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        rank, channels = len(input_shape), self._channel_shape(input_shape)[0]
        self.input_spec = tf.keras.layers.InputSpec(ndim=rank, axes={self.axis % rank: channels})
        super().build(input_shape)

    def add_channel_weight(self, name: str, input_shape: Any, initializer: Any, **kwargs: Any) -> tf.Variable:
        """Create a variable that broadcasts against the input."""
        return self.add_weight(name, shape=self._channel_shape(input_shape), initializer=initializer, **kwargs)

    def _channel_shape(self, input_shape: Any) -> tuple[int, ...]:
        shape, who = tf.TensorShape(input_shape), f"{type(self).__name__} ({self.name})"
        if shape.rank is None or not -shape.rank <= self.axis < shape.rank or self.axis % shape.rank == 0:
            raise ValueError(f"axis={self.axis} of {who} is not a channel axis of an input of shape {shape}.")
        if shape[self.axis] is None:
            raise ValueError(
                f"{who} needs a known channel count, but axis {self.axis} of its input is None in {shape}."
            )
        return (shape[self.axis],) + (1,) * (shape.rank - 1 - self.axis % shape.rank)

    def _is_last_axis(self) -> bool:
        return self.axis % self.input_spec.ndim == self.input_spec.ndim - 1

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


def get_initializer(given: Any) -> tf.keras.initializers.Initializer:
    """Return a Keras initializer, given as Keras takes it, or as a number to start all values from."""
    if isinstance(given, (int, float, np.number)):
        return tf.keras.initializers.Constant(float(given))
    return tf.keras.initializers.get(given)


def sum_to_channels(value: tf.Tensor, parameter: tf.Tensor) -> tf.Tensor:
    """Sum a gradient over all axes but the channels', to shape and dtype of a parameter of `ChannelParameters`."""
    rank = value.shape.rank
    channel_axis = rank - parameter.shape.rank
    # In 16 bits thousands of small terms would stop adding up.
    total = tf.reduce_sum(at_least_float32(value), [axis for axis in range(rank) if axis != channel_axis])
    return tf.cast(tf.reshape(total, parameter.shape), parameter.dtype)
