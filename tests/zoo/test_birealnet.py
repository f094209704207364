"""Bi-Real Net: larq-zoo's network, and the full-precision one."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.quantizers import LeakyClip
from onebit.zoo.checkpoints.variables import binary_kernels, named_variables


def test_the_unused_convolution_of_50_layers_has_no_place():
    (layout,) = zoo.BiRealNet50.state_dicts
    assert "layers.3.down_conv1x1.weight" in layout.tensors()
    assert "layers.0.down_conv1x1.weight" not in layout.tensors()
    assert "layers.0.down_conv1x1.weight" in layout.ignored


@pytest.mark.slow
def test_the_larq_zoo_variant_computes_what_larq_zoo_does():
    from larq_zoo.literature import BiRealNet

    rng = np.random.default_rng(0)
    theirs = BiRealNet(weights=None, input_shape=(70, 66, 3), num_classes=7)
    theirs.set_weights(
        [rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else rng.normal(0, 0.1, w.shape) for w in theirs.get_weights()]
    )
    ours = zoo.BiRealNet18(variant="larq_zoo", padding="same", input_shape=(70, 66, 3), num_classes=7)
    ours.set_weights(theirs.get_weights())
    official = zoo.BiRealNet18(padding="same", input_shape=(70, 66, 3), num_classes=7)
    official.set_weights(theirs.get_weights())
    x = rng.standard_normal((2, 70, 66, 3)).astype(np.float32)
    logits = [tf.keras.Model(model.input, model.layers[-2].output)(x) for model in (theirs, ours, official)]
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4, atol=1e-4)  # normalisations may round otherwise
    assert np.max(np.abs(logits[2] - logits[0])) > 1e-3


@pytest.mark.slow
def test_the_full_precision_network_hands_its_weights_on(shallow):
    real, binary = zoo.BiRealNet20(quantized=False), zoo.BiRealNet20()
    assert not binary_kernels(real) and len(binary_kernels(binary)) == sum(shallow)
    shapes = [{name: v.shape for name, v in named_variables(model).items()} for model in (real, binary)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("activation", ["relu", "leaky_clip", "clip"])
def test_the_activation_of_the_full_precision_network(activation, shallow):
    real = zoo.BiRealNet20(quantized=False, activation=activation, input_shape=(8, 8, 3))
    kind = tf.keras.layers.ReLU if activation == "relu" else LeakyClip
    layers = [layer for layer in real.layers if isinstance(layer, kind)]
    assert len(layers) == sum(shallow)
    expected = {"relu": [0.0, 0.5, 3.0], "leaky_clip": [-1.2, 0.5, 1.2], "clip": [-1.0, 0.5, 1.0]}[activation]
    np.testing.assert_allclose(layers[0](np.float32([-3.0, 0.5, 3.0])), expected, rtol=1e-6)
