"""RSign: the sign with a learned threshold for each channel."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from .base import INPUT, BinaryQuantizer, ChannelParameters, get_initializer, sum_to_channels
from .binary_set import BinaryActivation
from .elementwise import fused, sign, tent

__all__ = ["RSign"]


@fused
def _gradient(x: tf.Tensor, alpha: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy * tent(x - alpha)


@lq.utils.register_alias("rsign")
@lq.utils.register_keras_custom_object
class RSign(ChannelParameters, BinaryQuantizer):
    r"""The sign of the distance to a learned, channel-wise threshold \(\alpha\).

    Forward:
    \[ q(x) = \mathrm{sign}(x - \alpha), \qquad \mathrm{sign}(0) = +1 \]
    Backward, as Bi-Real Net's ApproxSign; the threshold's gradient is summed over all positions of its channel:
    \[ \partial q / \partial x = \max(0, 2 - 2 |x - \alpha|), \qquad
       \partial q / \partial \alpha = -\partial q / \partial x \]

    Input and output: activations of any rank, channels along `axis`. It is a trainable quantizer for
    `input_quantizer=`, so that Larq counts the convolution's operations as binary.

    The paper's threshold gradient is a plain -1; this is the official code's, which released results were trained with.
    The official code adds a bias, `sign(x + b)`: \(\alpha = -b\); its `sign(0)` is 0, and the paper's is -1.

    Args:
        axis: The channel axis of the input; not the batch axis, 0.
        alpha_initializer, alpha_regularizer, alpha_constraint: For the threshold, a Keras object or name, the first
            also a number. The default start is 0.

    Raises:
        ValueError: When a layer calls it: it is not the layer's `input_quantizer`, `axis` is not a channel axis of the
            input or has no known length, or the input is not of the rank and channel count it was built for.

    References:
        - [ReActNet: Towards Precise Binary Neural Network with Generalized Activation
            Functions](https://arxiv.org/abs/2003.03488), section 4.2
        - `LearnableBias` and `BinaryActivation` in `liuzechun/ReActNet`
    """

    def __init__(
        self,
        axis: int = -1,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(axis=axis, **kwargs)
        self.alpha_initializer = get_initializer(alpha_initializer)
        self.alpha_regularizer = tf.keras.regularizers.get(alpha_regularizer)
        self.alpha_constraint = tf.keras.constraints.get(alpha_constraint)

    def build(self, input_shape: Any) -> None:
        self.alpha = self.add_channel_weight(
            "alpha_bias",
            input_shape,
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        super().build(input_shape)

    def _bind(self, layer: tf.keras.layers.Layer, roles: list[str]) -> None:
        if any(role != INPUT for role in roles):
            raise ValueError(
                f"RSign quantizes activations and cannot be the {roles[-1]} of {type(layer).__name__} ({layer.name}). "
                "For kernels see ScaledSign, LibraPB and McDonnellSign."
            )

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        @tf.custom_gradient
        def rsign(x: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                dx = _gradient(x, alpha, dy)
                return dx, -sum_to_channels(dx, alpha)

            return sign(x, alpha, training=training), grad

        return super().call(rsign(inputs, tf.cast(self.alpha, inputs.dtype)))

    def binary_activation(self) -> BinaryActivation | None:
        return BinaryActivation.sign(self.alpha.numpy()) if self.alpha.shape.rank == 1 else None

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha_initializer": tf.keras.initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": tf.keras.regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": tf.keras.constraints.serialize(self.alpha_constraint),
        }
