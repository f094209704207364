"""What the callbacks report of a network, counted by hand."""

from __future__ import annotations

import functools

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes
from onebit.quantizers import AdaBinKernel, FPReLU, ScaledSign


def figures(callback, model, change):
    """Return what a callback reports of an epoch in which ``change`` happened."""
    callback.set_model(model)
    callback.on_train_begin()
    change()
    logs: dict[str, float] = {}
    callback.on_epoch_end(0, logs)
    return logs


def test_flip_ratio():
    """Of binary weights alone: 3 of 36 + 12."""
    image = tf.keras.Input((4, 4, 3))
    convolutions = [
        lq.layers.QuantConv2D(4, 1, kernel_quantizer=ScaledSign(), name="first"),
        tf.keras.layers.Conv2D(3, 1, name="real"),
        lq.layers.QuantConv2D(12, 1, kernel_quantizer=ScaledSign(), name="second"),
    ]
    x = image
    for layer in convolutions:
        x = layer(x)
    model = tf.keras.Model(image, x)

    def flip():
        for name, count in (("first", 2), ("real", 5), ("second", 1)):
            variable = model.get_layer(name).weights[0]
            value = variable.numpy().ravel()
            value[:count] *= -1
            value[count:] *= 3
            variable.assign(value.reshape(variable.shape))

    callback = recipes.FlipRatio()
    assert figures(callback, model, flip) == {"flip_ratio": pytest.approx(3 / 48)}
    logs: dict[str, float] = {}
    callback.on_epoch_end(1, logs)
    assert logs == {"flip_ratio": 0.0}, "since the epoch before"
    real = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
    assert figures(recipes.FlipRatio(), real, lambda: None) == {}


def test_flip_ratio_of_values_of_one_sign():
    """AdaBin's two values of a filter may both be positive: 1 of 4 weights takes the other one."""
    dense = lq.layers.QuantDense(1, kernel_quantizer=AdaBinKernel(), input_shape=(4,))
    model = tf.keras.Sequential([dense])
    dense.kernel.assign([[4.0], [6], [4], [6]])
    change = functools.partial(dense.kernel.assign, [[4.0], [6], [4], [4]])
    assert figures(recipes.FlipRatio(), model, change) == {"flip_ratio": pytest.approx(1 / 4)}


def test_negative_slopes():
    """Of FPReLU's two and PReLU's one for each channel: 3 of 12."""
    image = tf.keras.Input((2, 2, 4))
    x = FPReLU(name="fprelu")(image)
    model = tf.keras.Model(image, tf.keras.layers.PReLU(shared_axes=[1, 2], name="prelu")(x))

    def turn():
        model.get_layer("fprelu").set_weights([np.array([-1.0, 1, 1, 1]), np.array([-0.1, 0, -0.1, 1])])
        model.get_layer("prelu").set_weights([np.full((1, 1, 4), 0.25)])

    assert figures(recipes.NegativeSlopes(), model, turn) == {"negative_slopes": 0.25}
    assert figures(recipes.NegativeSlopes(), tf.keras.Sequential(), lambda: None) == {}
