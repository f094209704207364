"""What every architecture does alike: its arguments, its input, its top and its weights."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

import numpy as np
import tensorflow as tf

from .budget import building, limit
from .checkpoint import Checkpoint, check_arguments, open_checkpoint
from .weights import find_weights

log = logging.getLogger(__name__)

_Build = TypeVar("_Build", bound=Callable[..., tf.keras.Model])


class ModelOptions(TypedDict, total=False):
    """The keyword arguments that every function of the zoo takes; `architecture` documents them."""

    input_shape: tuple[int | None, int | None, int] | None
    input_tensor: tf.Tensor | None
    weights: str | os.PathLike[str] | None
    include_top: bool
    num_classes: int | None
    pooling: Literal["avg", "max"] | None
    classifier_activation: str | Callable[[tf.Tensor], tf.Tensor] | None


_OPTIONS: dict[str, Any] = {
    "input_shape": None,
    "input_tensor": None,
    "weights": None,
    "include_top": True,
    "num_classes": None,
    "pooling": None,
    "classifier_activation": "softmax",
}

_OPTIONS_DOC = """

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


def architecture(build: _Build) -> _Build:
    """Mark a public function of the zoo: give its signature and its docstring the options that all share."""
    signature = inspect.signature(build)
    own = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    hints = get_type_hints(ModelOptions)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in _OPTIONS.items()
    ]

    @functools.wraps(build)
    def checked(**options: Any) -> tf.keras.Model:
        known = {p.name for p in (*own, *shared)}
        for name in options:
            if name not in known:
                raise TypeError(f"{build.__name__}() has no argument {name!r}; it takes {', '.join(sorted(known))}.")
        check_data_format()
        with building():
            return build(**{name: plain(value) for name, value in options.items()})

    checked.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    checked.__doc__ = inspect.cleandoc(build.__doc__ or "") + _OPTIONS_DOC
    return checked  # type: ignore[return-value]


def check_choice(argument: str, value: object, allowed: Iterable[object]) -> None:
    """Raise a ValueError that names the argument and what it may be, unless ``value`` is among ``allowed``."""
    allowed = tuple(allowed)
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def check_data_format() -> None:
    """Raise `ValueError` unless Keras is set to have the channels last, as all networks here take their images."""
    if (given := tf.keras.backend.image_data_format()) != "channels_last":
        raise ValueError(
            f"Keras' image_data_format is {given!r}, but the zoo's networks have the channels last: call "
            "tf.keras.backend.set_image_data_format('channels_last')."
        )


def plain(value: Any) -> Any:
    """Return NumPy's scalars, and those in tuples and lists, as Python's numbers."""
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class ModelInfo:
    """How a model of the zoo was made: enough to build it again.

    Attributes:
        function, arguments: What was called.
        preprocessing: What the weights that it was made with expect at the input; ``None`` where nobody knows.
        class_names: What its classes are called by these weights, in their order; ``None`` where nobody knows.
    """

    function: str
    arguments: Mapping[str, Any]
    preprocessing: str | None = None
    class_names: tuple[str, ...] | None = None


_INFO: weakref.WeakKeyDictionary[tf.keras.Model, ModelInfo] = weakref.WeakKeyDictionary()


def model_info(model: tf.keras.Model) -> ModelInfo | None:
    """Return how ``model`` was made.

    ``None`` for a model that the zoo did not build in this session, or not alone: on a tensor that other layers return.
    """
    return _INFO.get(model)


def record_model(
    model: tf.keras.Model,
    function: str,
    arguments: Mapping[str, Any],
    preprocessing: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> tf.keras.Model:
    """Remember how ``model`` was made, for `model_info`, and return it."""
    _INFO[model] = ModelInfo(function, arguments, preprocessing, class_names)
    return model


class Scaffold:
    """The beginning and the end of an architecture.

    It resolves ``weights`` first, because these may decide what the architecture's own arguments left open (``None``):
    an argument takes the value given, else the weights', else its default; given and weights must agree.

    Args:
        function: Name of the public function that builds the model.
        options: The `ModelOptions` it was called with.
        given: The architecture's own arguments as given, ``None`` where left open.
        defaults: A value for each of them.
        native_shape: Input shape to use where neither options nor weights name one.
        native_classes: The same for the number of classes.
        min_size: Smallest height and width that make sense.

    Attributes:
        arguments: The architecture's own arguments, resolved.
        inputs: The tensor to start from.
        num_classes, include_top: For the architecture's top.
    """

    def __init__(
        self,
        function: str,
        options: ModelOptions,
        *,
        given: Mapping[str, Any],
        defaults: Mapping[str, Any],
        native_shape: tuple[int, int, int],
        native_classes: int,
        min_size: int = 1,
    ) -> None:
        self._function = function
        self._options: dict[str, Any] = {**_OPTIONS, **options}
        self._checkpoint = _resolve_weights(function, self._options["weights"], given, defaults)
        budget = limit(self._checkpoint) if self._checkpoint else None
        implied = self._checkpoint.arguments if self._checkpoint else {}
        self.arguments = _merge(function, given, implied, defaults)
        self.include_top = self._options["include_top"]
        if not isinstance(self.include_top, bool):
            raise ValueError(f"include_top must be True or False, not {self.include_top!r}.")
        if self._checkpoint:
            # How features were pooled does not matter to a new classifier.
            moot = {"pooling"} if self.include_top and not self._checkpoint.has_top else set()
            left_open = self._checkpoint.top_options.keys() - options.keys() - moot
            self._options.update((name, self._checkpoint.top_options[name]) for name in left_open)
        self.num_classes = self._resolve_classes(native_classes)
        self._new_top = self._has_new_top()
        if budget:
            budget.free_top = self._new_top
        self._check_pooling()
        self.inputs = self._resolve_input(native_shape, min_size)

    def _resolve_classes(self, native: int) -> int:
        classes = self._options["num_classes"]
        if classes is None:
            if self.include_top and self._checkpoint and not self._checkpoint.has_top:
                raise ValueError(
                    f"{self._checkpoint.source} holds no classifier: give num_classes for a new one, or "
                    "include_top=False."
                )
            return (self._checkpoint.num_classes if self._checkpoint else None) or native
        if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
            raise ValueError(f"num_classes must be a positive integer, not {classes!r}.")
        return classes

    def _check_pooling(self) -> None:
        pooling = self._options["pooling"]
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"pooling must be None, 'avg' or 'max', not {pooling!r}.")
        if pooling and self.include_top:
            raise ValueError(f"pooling={pooling!r} is for models without a top: give include_top=False, or no pooling.")

    def _resolve_input(self, native: tuple[int, int, int], min_size: int) -> tf.Tensor:
        tensor, shape = self._options["input_tensor"], self._options["input_shape"]
        if tensor is not None:
            if not _is_keras_tensor(tensor):
                raise ValueError(
                    f"input_tensor must be a Keras tensor, such as tf.keras.Input returns, not {tensor!r}."
                )
            actual = tuple(tensor.shape[1:])
            if shape is not None and tuple(shape) != actual:
                raise ValueError(f"input_shape={tuple(shape)} and the shape of input_tensor, {actual}, differ.")
            shape = actual
        if shape is None:
            shape = (self._checkpoint.input_shape if self._checkpoint else None) or native
        valid = isinstance(shape, tuple | list) and len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 0
        if not valid or any(n is not None and (not isinstance(n, int) or n < min_size) for n in shape[:2]):
            raise ValueError(
                f"input_shape of {self._function} must be (height, width, channels) with height and width of at least "
                f"{min_size} or None, and at least one channel, not {shape!r}."
            )
        return tensor if tensor is not None else tf.keras.Input(tuple(shape), name="image")

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
        self._load_into(model)
        if not is_input(tensor):
            return model  # no arguments say how to build the layers before it
        activation = self._options["classifier_activation"]
        return record_model(
            model,
            self._function,
            {
                **self.arguments,
                "input_shape": tuple(self.inputs.shape[1:]),
                "num_classes": self.num_classes,
                "include_top": self.include_top,
                "pooling": self._options["pooling"],
                "classifier_activation": activation
                if activation is None
                else tf.keras.activations.serialize(tf.keras.activations.get(activation)),
            },
            self._checkpoint.preprocessing if self._checkpoint else None,
            self._checkpoint.class_names if self._checkpoint and self.include_top and not self._new_top else None,
        )

    def _has_new_top(self) -> bool:
        checkpoint = self._checkpoint
        if checkpoint is None or not self.include_top:
            return False
        return not checkpoint.has_top or checkpoint.num_classes not in (None, self.num_classes)

    def _load_into(self, model: tf.keras.Model) -> None:
        if self._checkpoint is None:
            return
        if self._new_top:
            has = self._checkpoint.num_classes
            log.warning(
                "%s has %s, but %s has %d classes: the body is loaded, and the classifier starts anew.",
                self._checkpoint.source,
                f"{has} classes" if self._checkpoint.has_top else "no classifier",
                model.name,
                self.num_classes,
            )
        self._checkpoint.load_into(model, new_top=self._new_top)


def is_input(tensor: tf.Tensor | None) -> bool:
    """Return whether an ``input_tensor`` is no more than an input, or not given."""
    return tensor is None or isinstance(tensor._keras_history.layer, tf.keras.layers.InputLayer)


def _is_keras_tensor(value: Any) -> bool:
    try:
        return tf.keras.backend.is_keras_tensor(value)
    except ValueError:  # not even a tensor
        return False


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
    identity = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    return find_weights(function, identity, str(weights)).open()


def _merge(
    function: str, given: Mapping[str, Any], implied: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    if implied.keys() - defaults.keys():
        raise ValueError(
            f"{function} has no argument {', '.join(sorted(implied.keys() - defaults.keys()))} of the weights."
        )
    check_arguments(function, given, implied)
    return {
        name: given[name] if given[name] is not None else implied.get(name, default)
        for name, default in defaults.items()
    }
