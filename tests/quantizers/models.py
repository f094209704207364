"""The package's quantizers and non-linearities by what they are for, and a small model that holds all of them."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf

from onebit import quantizers
from onebit.quantizers import (
    EDE,
    ApproxSign,
    FPReLU,
    KernelQuantizer,
    LeakyClip,
    LibraPB,
    MagnitudeAwareSign,
    McDonnellSign,
    RPReLU,
    RSign,
    ScaledSign,
    ShiftedReLU,
)
from onebit.quantizers.base import BinaryQuantizer

_LAYERS = [each for each in map(vars(quantizers).get, quantizers.__all__) if isinstance(each, type)]
_LAYERS = [each for each in _LAYERS if issubclass(each, tf.keras.layers.Layer) and "call" in vars(each)]
FILTERWISE = [each for each in _LAYERS if issubclass(each, KernelQuantizer)]
KERNELS = [*FILTERWISE, MagnitudeAwareSign, EDE, ApproxSign]
INPUTS = [each for each in _LAYERS if issubclass(each, BinaryQuantizer) and each not in FILTERWISE]
ACTIVATIONS = [each for each in _LAYERS if not issubclass(each, lq.quantizers.Quantizer)]


def every_quantizer() -> tf.keras.Model:
    """Return a model from (5, 5, 4) to 2 outputs; a part of it is a nested model."""
    inner = tf.keras.Sequential(
        [
            lq.layers.QuantConv2D(4, 2, input_quantizer=EDE(), kernel_quantizer=LibraPB(t=0.5), input_shape=(5, 5, 4)),
            FPReLU(),
        ]
    )
    return tf.keras.Sequential(
        [
            lq.layers.QuantConv2D(
                4, 3, padding="same", input_quantizer=RSign(), kernel_quantizer=ScaledSign(), input_shape=(5, 5, 4)
            ),
            RPReLU(),
            inner,
            lq.layers.QuantSeparableConv2D(
                4,
                2,
                depth_multiplier=2,
                input_quantizer="ede",
                depthwise_quantizer="scaled_sign",
                pointwise_quantizer=McDonnellSign(gain=1.0),
            ),
            LeakyClip(slope=0.2),
            lq.layers.QuantConv2DTranspose(4, 2, input_quantizer=ApproxSign(), kernel_quantizer=EDE(k=1.0)),
            ShiftedReLU(),
            tf.keras.layers.Flatten(),
            lq.layers.QuantDense(2, input_quantizer="rsign", kernel_quantizer=MagnitudeAwareSign()),
        ]
    )


def move_state(layer: tf.keras.layers.Layer) -> None:
    """Move EDE's k and t, RSign's thresholds and the slopes and shifts away from where they start."""
    rng = np.random.default_rng(3)
    for variable in layer.weights:
        if variable.shape.rank < 2:
            variable.assign(variable + rng.uniform(0.05, 0.3, variable.shape).astype(variable.dtype.as_numpy_dtype))
