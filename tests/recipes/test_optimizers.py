"""Coupled L2: the same as an L2 term in the loss, for kernels alone."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import McDonnellSign
from onebit.recipes.ftbnn import decay_real_kernels
from onebit.recipes.reactnet import decay_reactnet_convolutions
from onebit.recipes.training.optimizers import L2SGD, L2Adam, decay_all, decay_kernels
from onebit.recipes.training.schedules import CosineEpochs

L2 = 0.3


def network():
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input((6, 6, 3)),
            lq.layers.QuantConv2D(4, 3, kernel_quantizer=McDonnellSign(), name="binary"),
            tf.keras.layers.BatchNormalization(name="bn"),
            lq.layers.QuantSeparableConv2D(
                4, 2, depthwise_quantizer="ste_sign", pointwise_quantizer="ste_sign", name="separable"
            ),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(2, name="logits", bias_initializer="ones"),
        ]
    )


X = np.random.default_rng(0).standard_normal((8, 6, 6, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((8, 2)).astype(np.float32)


def train(optimizer, term=None, steps=3):
    """Train for some steps, with ``term`` of the trainable variables added to the loss."""
    model = network()
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(X, training=True) - Y))
            if term is not None:
                loss += term(model.trainable_variables)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model.get_weights()


def half_squares(chosen):
    """The sum of squares of the latent weights: read outside their layers, they are not quantized."""
    return lambda variables: L2 / 2 * tf.add_n([tf.reduce_sum(tf.square(v)) for v in variables if chosen(v.name)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (lambda **l2: L2SGD(0.05, **l2), lambda: tf.keras.optimizers.SGD(0.05)),
        (lambda **l2: L2SGD(0.05, momentum=0.9, **l2), lambda: tf.keras.optimizers.SGD(0.05, momentum=0.9)),
        (lambda **l2: L2Adam(0.05, **l2), lambda: L2Adam(0.05)),
    ],
)
@pytest.mark.parametrize("decays", [None, decay_all])
def test_equals_a_term_in_the_loss(ours, plain, decays):
    actual = train(ours(l2=L2, decays=decays))
    expected = train(plain(), half_squares(decays or decay_kernels))
    without = train(plain())
    assert not all(np.allclose(a, b, atol=1e-3) for a, b in zip(actual, without, strict=True))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e-3])
def test_adam_is_pytorchs(scale, float64):
    """The first steps, where the correction of the second moment's bias is largest, by PyTorch's formula."""
    gradients = scale * np.array([1.0, 2.0, -3.0, 0.5])
    variable, optimizer = tf.Variable(np.ones(1), name="kernel"), L2Adam(1e-3)
    value, m, v = 1.0, 0.0, 0.0
    for step, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        value -= 1e-3 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        optimizer.apply_gradients([(tf.constant([g]), variable)])
        np.testing.assert_allclose(variable.numpy() - 1, value - 1, rtol=3e-5)  # Keras holds rates in float32


def test_kernels_and_nothing_else():
    model = network()
    decayed = {v.name.split(":")[0] for v in model.trainable_variables if decay_kernels(v.name)}
    assert decayed == {"binary/kernel", "separable/depthwise_kernel", "separable/pointwise_kernel", "logits/kernel"}


def test_the_decay_is_of_the_latent_weights():
    """Also where a failed call has left Larq's scope on, in which kernels read as binary."""
    kernels = []
    for scope in (False, True):
        model = network()
        optimizer = L2SGD(0.1, l2=L2)
        with lq.context.quantized_scope(scope):
            optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
        kernels.append(model.get_weights())
    for one, other in zip(*kernels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_variables_without_a_gradient_stay():
    variable = tf.Variable([1.0, 2.0], name="kernel")
    other = tf.Variable([1.0], name="other/kernel")
    L2SGD(0.1, l2=L2).apply_gradients([(None, variable), (tf.constant([0.0]), other)])
    np.testing.assert_array_equal(variable, [1, 2])
    np.testing.assert_allclose(other, [1 - 0.1 * L2])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["model.keras", "model.h5", "folder"])
@pytest.mark.parametrize(
    ("kind", "decays"), [(L2SGD, decay_all), (L2Adam, decay_real_kernels), (L2Adam, decay_reactnet_convolutions)]
)
def test_saved_with_a_model(kind, decays, form, tmp_path):
    """The loaded model is compiled with what it was saved with, and its next step is the same."""
    model = network()
    model.compile(kind(CosineEpochs(1, 4, 0.01), l2=L2, decays=decays), "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / form)
    again = tf.keras.models.load_model(tmp_path / form)
    assert type(again.optimizer) is kind
    assert again.optimizer.decays is decays
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert 0 < len(again.optimizer.get_config()["decaying"]) <= len(model.trainable_variables)
    if form == "folder":
        again.optimizer.build(again.trainable_variables)
        for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
            one.assign(other)  # Keras restores none from there
    for each in (model, again):
        each.fit(X, Y, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_optimizer_for_another_model():
    """The places of what decays are not those of the model that it was built for before."""
    first, second = L2SGD(0.1, l2=L2), [tf.Variable([1.0], name="bn/gamma"), tf.Variable([1.0], name="conv/kernel")]
    first.build(network().trainable_variables)
    again = L2SGD.from_config(first.get_config())
    again.apply_gradients([(tf.constant([0.0]), variable) for variable in second])
    np.testing.assert_allclose([variable.numpy()[0] for variable in second], [1, 1 - 0.1 * L2])


def test_what_decays_must_be_registered():
    config = L2SGD(0.1, decays=lambda name: False).get_config()
    with pytest.raises(ValueError, match="decays='<lambda>' is not a registered function"):
        L2SGD.from_config(config)


@pytest.mark.parametrize("scaled", [False, True])
def test_replicas_do_not_change_it(scaled, strategy):
    """Gradients of nought leave the decay alone: as much on two replicas as on one, with a loss scale or without."""
    with strategy.scope():
        kernel = tf.Variable([1.0, -2.0], name="kernel")
        optimizer = L2SGD(0.1, l2=L2)
        if scaled:
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        optimizer.build([kernel])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.zeros(2), kernel)]))
    strategy.run(step)
    np.testing.assert_allclose(kernel.numpy(), (1 - 0.1 * L2) * np.array([1.0, -2.0]), rtol=1e-6)
