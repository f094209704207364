"""The beginning and the end of a network, which are alike in all: its input, and what follows the last feature map."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, TypedDict

import tensorflow as tf

from ..checkpoints.weights import Weights


class ModelOptions(TypedDict, total=False):
    """The keyword arguments that every function of the zoo takes, named as in Keras Applications.

    `architecture` documents them and settles them: the function that it decorates gets a value for each but
    ``weights``, and hands them to its `ModelBuilder`.
    """

    input_shape: tuple[int | None, int | None, int] | None
    input_tensor: tf.Tensor | None
    weights: str | os.PathLike[str] | Weights | None
    include_top: bool
    num_classes: int | None
    pooling: Literal["avg", "max"] | None
    classifier_activation: str | Callable[[tf.Tensor], tf.Tensor] | None


class ModelBuilder:
    """The beginning and the end of a network.

    Args:
        input_shape, input_tensor, include_top, num_classes, pooling, classifier_activation: See `ModelOptions`.
        weights: None: `architecture` loads them into the finished model.

    Attributes:
        inputs: The tensor to start from, (b, h, w, c).
        include_top, num_classes: What to end in.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int | None, int | None, int] | None = None,
        input_tensor: tf.Tensor | None = None,
        weights: str | os.PathLike[str] | Weights | None = None,
        include_top: bool = True,
        num_classes: int | None = None,
        pooling: Literal["avg", "max"] | None = None,
        classifier_activation: str | Callable[[tf.Tensor], tf.Tensor] | None = "softmax",
    ) -> None:
        if num_classes is None or weights is not None:
            raise ValueError(
                "A ModelBuilder is for functions that `architecture` decorates, which settles its options."
            )
        self.inputs = tf.keras.Input(input_shape, name="image") if input_tensor is None else input_tensor
        self.include_top = include_top
        self.num_classes = num_classes
        self._pooling = pooling
        self._activation = classifier_activation

    def finish(self, outputs: tf.Tensor, name: str) -> tf.keras.Model:
        """Return the model.

        Args:
            outputs: With the top, the logits, (b, classes); else the last feature map, (b, h, w, c).
            name: Name of the model.
        """
        if self.include_top:
            # Probabilities and losses want float32, also where the layers compute in 16 bits.
            dtype = tf.keras.mixed_precision.Policy("float32") if outputs.dtype.size < 4 else None
            outputs = tf.keras.layers.Activation(self._activation, dtype=dtype, name="predictions")(outputs)
        elif self._pooling == "avg":
            outputs = tf.keras.layers.GlobalAveragePooling2D(name="avg_pool")(outputs)
        elif self._pooling == "max":
            outputs = tf.keras.layers.GlobalMaxPooling2D(name="max_pool")(outputs)
        return tf.keras.Model(tf.keras.utils.get_source_inputs(self.inputs), outputs, name=name)
