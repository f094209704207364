"""The keyword arguments that every architecture of the zoo takes, named as in Keras Applications."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import tensorflow as tf


class ModelOptions(TypedDict, total=False):
    """The keyword arguments that every function of the zoo takes; `architecture` documents them."""

    input_shape: tuple[int | None, int | None, int] | None
    input_tensor: tf.Tensor | None
    weights: str | os.PathLike[str] | None
    include_top: bool
    num_classes: int | None
    pooling: Literal["avg", "max"] | None
    classifier_activation: str | Callable[[tf.Tensor], tf.Tensor] | None


OPTIONS: dict[str, Any] = {
    "input_shape": None,
    "input_tensor": None,
    "weights": None,
    "include_top": True,
    "num_classes": None,
    "pooling": None,
    "classifier_activation": "softmax",
}

OPTIONS_DOC = """

Arguments that all models of the zoo share, named as in Keras Applications:
    weights: ``None`` (random, the default), the tag of registered weights (see ``zoo.list_weights``), or the path of a
        checkpoint, whose format is recognised by its content.
    input_shape: (height, width, channels), channels last; height and width may be ``None``. The default is the
        weights', else the paper's.
    input_tensor: A Keras tensor to use as the input instead of a new one.
    include_top: Whether to end in the classifier. Without it the model returns the last feature map, (b, h, w, c).
    num_classes: Classes of the classifier. The default is the weights', else the paper's; with weights of another
        number, or without a classifier, the body is loaded and the classifier starts anew, which a log message says.
    pooling: Without the top, ``"avg"`` or ``"max"`` pools the feature map to (b, c). The default is a packed file's,
        else none.
    classifier_activation: What follows the logits: ``"softmax"``, any Keras activation, or ``None`` for the logits. The
        default is a packed file's, else ``"softmax"``.

Returns:
    A functional ``tf.keras.Model``.

Raises:
    ValueError: An argument is out of its range, or does not agree with the weights.
    TypeError: There is no such argument.
    FileNotFoundError: There is no such file, or only a person can download it; the message says where.
    ConnectionError: The weights cannot be fetched.
    ImportError: They are a PyTorch checkpoint, and PyTorch is not installed.
"""
