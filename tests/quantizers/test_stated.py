"""Stated outputs are the computed ones, and what the first call would find out is found out without it."""

import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, ApproxSign, FPReLU, LeakyClip, LibraPB, RPReLU, RSign, ScaledSign, ShiftedReLU
from onebit.zoo.build.layers import BinaryConv2D, DuplicateChannels, PadChannels, ShuffleChannels, Temperature
from onebit.zoo.build.torch_layers import (
    ExactBatchNormalization,
    HardTanh,
    SymmetricMaxPool2D,
    UnbiasedBatchNormalization,
)

LAYERS = {
    "ApproxSign": ApproxSign,
    "EDE": EDE,
    "RSign": RSign,
    "RPReLU": RPReLU,
    "FPReLU": FPReLU,
    "ShiftedReLU": ShiftedReLU,
    "LeakyClip": LeakyClip,
    "HardTanh": HardTanh,
    "PadChannels": lambda: PadChannels(1, 2),
    "DuplicateChannels": lambda: DuplicateChannels(10),
    "ShuffleChannels": lambda: ShuffleChannels(2),
    "Temperature": lambda: Temperature(2.0),
    "SymmetricMaxPool2D": lambda: SymmetricMaxPool2D(3, 2),
    "ExactBatchNormalization": ExactBatchNormalization,
    "UnbiasedBatchNormalization": UnbiasedBatchNormalization,
    "BinaryConv2D": lambda: BinaryConv2D(6, 3, padding="same", input_quantizer=RSign(), kernel_quantizer=ScaledSign()),
    "BinaryConv2D, symmetric": lambda: BinaryConv2D(
        6, 3, strides=2, padding="same", symmetric=True, input_quantizer=EDE(), kernel_quantizer=LibraPB()
    ),
    "BinaryConv2D, ones": lambda: BinaryConv2D(6, 3, strides=2, padding="same", pad_values=1.0, use_bias=False),
    "BinaryConv2D, valid": lambda: BinaryConv2D(6, (3, 1), dilation_rate=2, kernel_quantizer=ApproxSign()),
    "BinaryConv2D, groups": lambda: BinaryConv2D(6, 3, groups=2, padding="same", kernel_quantizer=ScaledSign()),
}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_output(name, policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        layer = LAYERS[name]()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    stated = layer(tf.keras.Input((9, 6, 4), batch_size=2))
    variables = [(variable.name, variable.shape) for variable in layer.variables]
    computed = layer(np.random.default_rng(0).standard_normal((2, 9, 6, 4)).astype(np.float32))
    assert stated.shape == computed.shape
    assert stated.dtype == computed.dtype
    assert [(variable.name, variable.shape) for variable in layer.variables] == variables, "all made before the call"


def test_unknown_size():
    x = tf.keras.Input((None, None, 4))
    assert LAYERS["BinaryConv2D, symmetric"]()(x).shape.as_list() == [None, None, None, 6]


@pytest.mark.parametrize("name", ["RPReLU", "BinaryConv2D", "ExactBatchNormalization"])
def test_a_second_input_that_does_not_fit(name):
    layer = LAYERS[name]()
    layer(tf.keras.Input((9, 6, 4)))
    with pytest.raises(ValueError, match="expected axis"):
        layer(tf.keras.Input((9, 6, 5)))


def test_a_quantizer_without_meaning_is_refused_at_once():
    with pytest.raises(ValueError, match="ScaledSign quantizes kernels and cannot be the input_quantizer"):
        BinaryConv2D(6, 3, input_quantizer=ScaledSign())(tf.keras.Input((9, 6, 4)))


def test_a_shared_quantizer_that_does_not_fit():
    rsign = RSign()
    BinaryConv2D(6, 3, input_quantizer=rsign)(tf.keras.Input((9, 6, 4)))
    with pytest.raises(ValueError, match="expected axis"):
        BinaryConv2D(6, 3, input_quantizer=rsign)(tf.keras.Input((9, 6, 5)))


def test_what_cannot_be_stated_is_computed():
    """Integers, which a layer does not cast, and layers with a loss on their output."""
    assert PadChannels(0, 1)(tf.keras.Input((9, 6, 4), dtype=tf.int32)).dtype == tf.int32
    layer = BinaryConv2D(6, 3, activity_regularizer="l2")
    model = tf.keras.Sequential([tf.keras.Input((9, 6, 4)), layer])
    assert len(model.losses) == 1
