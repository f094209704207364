"""Layers that state what they return, so that Keras need not run them to find out.

Keras 2 builds a network by running each layer in a scratch graph of its own, after AutoGraph has rewritten its code.
For a network of this zoo that was two thirds of the time between the imports and the model.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tf_keras.src.engine.input_spec import assert_input_compatibility

KerasTensor = tf.keras.__internal__.KerasTensor


class Stated:
    """First base, before a Keras layer, of a layer that makes of one tensor one of the shape `compute_output_shape`.

    The dtype is that in which it computes. `call` is plain TensorFlow: AutoGraph has nothing to convert in it. What a
    layer holds besides its variables must be complete when it is built, since the first `call` may come much later.
    """

    def _should_use_autograph(self) -> bool:
        return False

    # `self` is the layer. This class is none: Keras exchanges `Layer` among the bases of its classes in plain graphs.
    def _infer_output_signature(self: Any, inputs: Any, args: Any, kwargs: Any, input_masks: Any) -> Any:
        usual = type(inputs) is KerasTensor and inputs.dtype.is_floating and self.activity_regularizer is None
        if not usual or input_masks is not None:
            return tf.keras.layers.Layer._infer_output_signature(self, inputs, args, kwargs, input_masks)
        with tf.name_scope(self._name_scope()):
            self._maybe_build(inputs)
        assert_input_compatibility(self.input_spec, inputs, self.name)
        self._set_save_spec(inputs, args, kwargs)
        dtype = self.compute_dtype if self._autocast else inputs.dtype
        return KerasTensor(tf.TensorSpec(self.compute_output_shape(inputs.shape), dtype))


def build_nested(layer: tf.keras.layers.Layer, shape: Any) -> None:
    """Build a layer that is an attribute of the one being built, and check its input, as its first call would."""
    inputs = tf.TensorSpec(shape, layer.compute_dtype)
    with tf.name_scope(layer._name_scope()):
        layer._maybe_build(inputs)
    assert_input_compatibility(layer.input_spec, inputs, layer.name)
