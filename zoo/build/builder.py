"""The beginning and the end of an architecture, which are alike in all: input, top and weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from ...util.arguments import check_choice, check_num_classes, is_input, is_keras_tensor, merge
from .budget import limit
from ..checkpoints.base import Checkpoint
from ..checkpoints.formats import open_checkpoint
from ..images.images import resolve_preprocessing
from ..model_info import ModelInfo, record_model
from .options import OPTIONS, ModelOptions
from ..registry import Task
from ..checkpoints.weights import find_weights

log = logging.getLogger(__name__)


class Scaffold:
    """The beginning and the end of an architecture.

    It resolves ``weights`` first, because these may decide what the architecture's own arguments left open: an argument
    takes the value given, else the weights', else its default; given and weights must agree.

    Args:
        function: Name of the public function that builds the model.
        task: What it was made for: the input and the classes where neither options nor weights name any.
        given: The architecture's own arguments that the caller gave.
        defaults: A value for each of its own arguments.
        options: The `ModelOptions` it was called with.

    Attributes:
        arguments: The architecture's own arguments, resolved.
        inputs: The tensor to start from.
        num_classes, include_top: For the architecture's top.
    """

    def __init__(
        self,
        function: str,
        task: Task,
        given: Mapping[str, Any],
        defaults: Mapping[str, Any],
        options: ModelOptions,
    ) -> None:
        self._function, self._task = function, task
        self._options: dict[str, Any] = {**OPTIONS, **options}
        self._checkpoint = _resolve_weights(function, self._options["weights"], given, defaults)
        budget = limit(self._checkpoint) if self._checkpoint else None
        implied = self._checkpoint.arguments if self._checkpoint else {}
        self.arguments = merge(function, given, implied, defaults)
        self.include_top = self._options["include_top"]
        check_choice("include_top", self.include_top, (True, False))
        if self._checkpoint:
            # How features were pooled does not matter to a new classifier.
            moot = {"pooling"} if self.include_top and not self._checkpoint.has_top else set()
            left_open = self._checkpoint.top_options.keys() - options.keys() - moot
            self._options.update((name, self._checkpoint.top_options[name]) for name in left_open)
        self.num_classes = resolve_classes(self._options["num_classes"], self.include_top, task, self._checkpoint)
        self._new_top = has_new_top(self._checkpoint, self.include_top, self.num_classes)
        if budget:
            budget.free_top = self._new_top
        self._check_pooling()
        self.inputs = resolve_input(
            function, self._options["input_tensor"], self._options["input_shape"], task, self._checkpoint
        )

    def _check_pooling(self) -> None:
        pooling = self._options["pooling"]
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"pooling must be None, 'avg' or 'max', not {pooling!r}.")
        if pooling and self.include_top:
            raise ValueError(f"pooling={pooling!r} is for models without a top: give include_top=False, or no pooling.")

    def finish(self, outputs: tf.Tensor, name: str) -> tf.keras.Model:
        """Return the model, with its weights loaded.

        Args:
            outputs: With the top, the logits, (b, classes); else the last feature map, (b, h, w, c).
            name: Name of the model.
        """
        if self.include_top:
            activation = self._options["classifier_activation"]
            # Probabilities and losses want float32, also where the layers compute in 16 bits.
            dtype = tf.keras.mixed_precision.Policy("float32") if outputs.dtype.size < 4 else None
            outputs = tf.keras.layers.Activation(activation, dtype=dtype, name="predictions")(outputs)
        elif self._options["pooling"] == "avg":
            outputs = tf.keras.layers.GlobalAveragePooling2D(name="avg_pool")(outputs)
        elif self._options["pooling"] == "max":
            outputs = tf.keras.layers.GlobalMaxPooling2D(name="max_pool")(outputs)
        tensor = self._options["input_tensor"]
        inputs = self.inputs if tensor is None else tf.keras.utils.get_source_inputs(tensor)
        model = tf.keras.Model(inputs, outputs, name=name)
        if self._checkpoint is not None:
            load_into(model, self._checkpoint, self.num_classes, self._new_top)
        if not is_input(tensor):
            return model  # no arguments say how to build the layers before it
        activation = self._options["classifier_activation"]
        arguments = {
            **self.arguments,
            "input_shape": tuple(self.inputs.shape[1:]),
            "num_classes": self.num_classes,
            "include_top": self.include_top,
            "pooling": self._options["pooling"],
            "classifier_activation": _named(activation),
        }
        own_top = self.include_top and not self._new_top
        return record_model(model, info_of(self._function, arguments, self._task, self._checkpoint, own_top))


def resolve_classes(given: Any, include_top: bool, task: Task, checkpoint: Checkpoint | None) -> int:
    """Return how many classes to build for: as given, else as the weights have, else as the task has."""
    if given is not None:
        check_num_classes(given)
        return given
    if include_top and checkpoint and not checkpoint.has_top:
        raise ValueError(
            f"{checkpoint.source} holds no classifier: give num_classes for a new one, or include_top=False."
        )
    return (checkpoint.num_classes if checkpoint else None) or task.classes


def resolve_input(function: str, tensor: Any, shape: Any, task: Task, checkpoint: Checkpoint | None) -> tf.Tensor:
    """Return the tensor to start from: as given, or an input of the shape given, else the weights', else the task's."""
    if tensor is not None:
        if not is_keras_tensor(tensor):
            raise ValueError(f"input_tensor must be a Keras tensor, such as tf.keras.Input returns, not {tensor!r}.")
        actual = tuple(tensor.shape[1:])
        if shape is not None and tuple(shape) != actual:
            raise ValueError(f"input_shape={tuple(shape)} and the shape of input_tensor, {actual}, differ.")
        shape = actual
    if shape is None:
        shape = (checkpoint.input_shape if checkpoint else None) or task.input_shape
    valid = isinstance(shape, tuple | list) and len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 0
    if not valid or any(n is not None and (not isinstance(n, int) or n < task.min_size) for n in shape[:2]):
        raise ValueError(
            f"input_shape of {function} must be (height, width, channels) with height and width of at least "
            f"{task.min_size} or None, and at least one channel, not {shape!r}."
        )
    return tensor if tensor is not None else tf.keras.Input(tuple(shape), name="image")


def has_new_top(checkpoint: Checkpoint | None, include_top: bool, num_classes: int) -> bool:
    """Return whether a model's classifier is not the checkpoint's."""
    if checkpoint is None or not include_top:
        return False
    return not checkpoint.has_top or checkpoint.num_classes not in (None, num_classes)


def load_into(model: tf.keras.Model, checkpoint: Checkpoint, num_classes: int, new_top: bool) -> None:
    """Set a model's variables from a checkpoint, all or all but the classifier's, which is then logged."""
    if new_top:
        has = checkpoint.num_classes if checkpoint.has_top else None
        report_new_top(checkpoint.source, has, model.name, num_classes)
    checkpoint.load_into(model, new_top=new_top)


def info_of(
    function: str, arguments: Mapping[str, Any], task: Task, checkpoint: Checkpoint | None, own_top: bool
) -> ModelInfo:
    """Return how a model was made, with what its weights say of images and, if the classifier is theirs, of classes."""
    preprocessing = resolve_preprocessing(checkpoint and checkpoint.preprocessing, task.preprocessing)
    return ModelInfo(function, arguments, preprocessing, checkpoint.class_names if checkpoint and own_top else None)


def report_new_top(source: str, has: int | None, model: str, num_classes: int) -> None:
    """Log that weights of so many classes, or of none, leave the classifier of a model as it is."""
    there = "no classifier" if has is None else f"{has} classes"
    log.warning(
        "%s has %s, but %s has %d classes: the body is loaded, and the classifier starts anew.",
        *(source, there, model, num_classes),
    )


def _named(activation: Any) -> Any:
    """Return an activation's name in Keras, or, where it has none, the activation."""
    if activation is None:
        return None
    try:
        name = tf.keras.activations.serialize(tf.keras.activations.get(activation))
    except TypeError:  # as for a functools.partial
        return activation
    return name if hasattr(tf.keras.activations, str(name)) else activation


def _resolve_weights(
    function: str, weights: Any, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Checkpoint | None:
    if weights is None:
        return None
    if not isinstance(weights, str | os.PathLike):
        raise ValueError(f"weights must be None, the tag of registered weights or a path, not {weights!r}.")
    # A folder of a tag's name, such as a dataset's, does not hide the weights.
    if isinstance(weights, os.PathLike) or os.path.isfile(weights):
        return open_checkpoint(weights, function)
    return find_weights(function, {**defaults, **given}, str(weights)).open()
