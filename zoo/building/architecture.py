"""What makes a function that builds a network one of the zoo's: the same options, defaults and errors for all."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, ParamSpec, Union, cast, get_args, get_origin, get_type_hints

import tensorflow as tf

from ...util.arguments import (
    check_choice,
    check_data_format,
    check_implied,
    check_num_classes,
    is_input,
    is_keras_tensor,
    to_python,
)
from ..checkpoints.base import Checkpoint
from ..checkpoints.state_dicts import StateDictLayout
from ..checkpoints.weights import Weights, is_tag
from ..images.images import resolve_preprocessing
from ..model_info import ModelInfo, record_model
from ..registry import Architecture, InputSpec, entry, open_for, weights_of
from .budget import limited_to, naming
from .builder import ModelOptions

log = logging.getLogger(__name__)
_P = ParamSpec("_P")

_DEFAULTS = ModelOptions(
    input_shape=None,
    input_tensor=None,
    weights=None,
    include_top=True,
    num_classes=None,
    pooling=None,
    classifier_activation="softmax",
)

_OPTIONS_DOC = """

Arguments that all models of the zoo share, named as in Keras Applications:
    weights: ``None`` (random, the default), the tag of registered weights (see ``zoo.list_weights``), one of these
        weights itself, the path of a checkpoint, whose format is recognised by its content, or the address of one on
        the Hugging Face Hub, ``"hf://USER/REPO"``.
    input_shape: (height, width, channels), channels last; height and width may be ``None``. The default is the
        weights', else the paper's; without the top, height and width are ``None``.
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


def architecture(
    spec: InputSpec,
    *,
    state_dict: StateDictLayout | Iterable[StateDictLayout] = (),
    defaults: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Callable[_P, tf.keras.Model]], Architecture[_P]]:
    """Return a decorator that makes a function which builds a network a public one of the zoo.

    The function declares its own arguments, keyword-only and with defaults, and ``**options: Unpack[ModelOptions]``,
    which it hands to a `ModelBuilder`. It is called with a value for each: what the caller gave; where that is nothing
    or ``None``, what the weights say; else the default. Arguments that are annotated as ``bool`` or ``Literal`` are
    checked before. Its model is then filled with the weights, and recorded for `zoo.model_info`.

    Args:
        spec: What the network is for.
        state_dict: The layout of its official code's PyTorch state dicts, or several, of which the one with the most
            names in common with a file is the file's.
        defaults: For arguments whose default depends on others (and is ``None`` in the signature), functions of these
            others, by name, that return it.
    """

    def decorate(build: Callable[_P, tf.keras.Model]) -> Architecture[_P]:
        signature = inspect.signature(build, eval_str=True)
        own = {name: p for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        choices = {name: found for name, p in own.items() if (found := _choices(p.annotation))}

        def complete(arguments: Mapping[str, Any]) -> dict[str, Any]:
            values = {name: parameter.default for name, parameter in own.items()}
            values.update((name, value) for name, value in arguments.items() if value is not None)
            if unknown := values.keys() - own.keys():
                raise ValueError(f"{build.__name__} has no argument {', '.join(sorted(unknown))}.")
            for name, function in (defaults or {}).items():
                if values[name] is None:
                    values[name] = function(
                        **{other: values[other] for other in inspect.signature(function).parameters}
                    )
            return values

        @functools.wraps(build)
        def public(**arguments: Any) -> tf.keras.Model:
            known = {*own, *_DEFAULTS}
            if unknown := arguments.keys() - known:
                raise TypeError(
                    f"{build.__name__}() has no argument {', '.join(map(repr, sorted(unknown)))}; it takes "
                    f"{', '.join(sorted(known))}."
                )
            check_data_format()
            arguments = {name: to_python(value) for name, value in arguments.items()}
            options = cast(ModelOptions, {name: value for name, value in arguments.items() if name in _DEFAULTS})
            given = {name: arguments[name] for name in own if arguments.get(name) is not None}
            checkpoint = _open(options.get("weights"), described, given)
            with naming(checkpoint):
                implied = checkpoint.arguments if checkpoint else {}
                values = complete({**implied, **given})
                check_implied(build.__name__, given, implied)
                for name, allowed in choices.items():
                    check_choice(name, values[name], allowed)
                settled = settle(build.__name__, spec, options, checkpoint)
                with limited_to(checkpoint, free_top=has_new_top(settled, checkpoint)):
                    model = cast(Any, build)(**values, **settled)
            if checkpoint:
                checkpoint.report_untold(build.__name__, values)
                load_into(model, checkpoint, settled)
            return record(model, build.__name__, spec, values, settled, checkpoint)

        hints = get_type_hints(ModelOptions)
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            for name, default in _DEFAULTS.items()
        ]
        described = cast(Architecture[_P], public)
        public.__signature__ = signature.replace(parameters=[*own.values(), *shared])  # type: ignore[attr-defined]
        described.__doc__ = inspect.cleandoc(build.__doc__ or "") + _OPTIONS_DOC
        described.spec, described.complete = spec, complete
        described.state_dicts = (state_dict,) if isinstance(state_dict, StateDictLayout) else tuple(state_dict)
        for implied in (layout.implies for layout in described.state_dicts):
            complete(implied)
        return described

    return decorate


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return what an argument may be, where its annotation says so: ``bool``, ``Literal``, or one of them and None."""
    if annotation is bool:
        return (True, False)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [each for each in get_args(annotation) if each is not type(None)]
        return _choices(inner[0]) if len(inner) == 1 else ()
    return ()


def _open(weights: Any, function: Architecture[...], given: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint that ``weights`` means for what a function makes with the arguments given."""
    if weights is None:
        return None
    if is_tag(weights) or isinstance(weights, Weights):
        row = weights if isinstance(weights, Weights) else weights_of(function, given, weights)
        if entry(row.model).build is not function:
            raise ValueError(f"The weights {row.tag!r} of {row.model} are not for {function.__name__}.")
        checkpoint = row.open(function.__name__, function.state_dicts)
        checkpoint.arguments, checkpoint.untold = {**entry(row.model).arguments, **checkpoint.arguments}, ()
        return checkpoint
    if isinstance(weights, str | os.PathLike):
        return open_for(function, weights)
    raise ValueError(
        f"weights must be None, the tag of registered weights, a path or an address hf://USER/REPO, not {weights!r}."
    )


def settle(function: str, spec: InputSpec, options: ModelOptions, checkpoint: Checkpoint | None) -> ModelOptions:
    """Return the options of a model: as given, else as the weights have them, else the function's defaults.

    Raises:
        ValueError: One is out of its range.
    """
    settled = cast(ModelOptions, {**_DEFAULTS, **options})
    del settled["weights"]
    check_choice("include_top", settled["include_top"], (True, False))
    if checkpoint:
        # How features were pooled does not matter to a new classifier.
        moot = {"pooling"} if settled["include_top"] and not checkpoint.has_top else set()
        left_open = checkpoint.top_options.keys() - options.keys() - moot
        settled.update(cast(ModelOptions, {name: checkpoint.top_options[name] for name in left_open}))
    check_choice("pooling", settled["pooling"], (None, "avg", "max"))
    if settled["pooling"] and settled["include_top"]:
        raise ValueError(
            f"pooling={settled['pooling']!r} is for models without a top: give include_top=False, or no pooling."
        )
    settled["num_classes"] = _classes(settled["num_classes"], settled["include_top"], spec, checkpoint)
    if settled["include_top"] and settled["num_classes"] == 1 and _named(settled["classifier_activation"]) == "softmax":
        raise ValueError(
            "num_classes=1 with classifier_activation='softmax' is 1 for every image: give 'sigmoid', or num_classes=2."
        )
    tensor, shape = settled["input_tensor"], settled["input_shape"]
    settled["input_shape"] = _shape(function, tensor, shape, settled["include_top"], spec, checkpoint)
    return settled


def _classes(given: Any, include_top: bool, spec: InputSpec, checkpoint: Checkpoint | None) -> int:
    if given is not None:
        check_num_classes(given)
        return given
    if include_top and checkpoint and not checkpoint.has_top:
        raise ValueError(
            f"{checkpoint.source} holds no classifier: give num_classes for a new one, or include_top=False."
        )
    return (checkpoint.num_classes if checkpoint else None) or spec.num_classes


def _shape(
    function: str, tensor: Any, given: Any, include_top: bool, spec: InputSpec, checkpoint: Checkpoint | None
) -> tuple[int | None, int | None, int]:
    shape = given
    if tensor is not None:
        if not is_keras_tensor(tensor):
            raise ValueError(f"input_tensor must be a Keras tensor, such as tf.keras.Input returns, not {tensor!r}.")
        shape = tuple(tensor.shape[1:])
        if given is not None and tuple(given) != shape:
            raise ValueError(f"input_shape={tuple(given)} and the shape of input_tensor, {shape}, differ.")
    if shape is None:
        shape = (checkpoint.input_shape if checkpoint else None) or spec.input_shape
        height, width, channels = shape
        has_top = checkpoint is None or checkpoint.has_top
        if not include_top and has_top:
            shape = (None, None, channels)
        elif include_top and not has_top:  # a body takes images of any size
            shape = (height or spec.input_shape[0], width or spec.input_shape[1], channels)
    valid = isinstance(shape, tuple | list) and len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 0
    if not valid or any(n is not None and (not isinstance(n, int) or n < spec.min_size) for n in shape[:2]):
        raise ValueError(
            f"input_shape of {function} must be (height, width, channels) with height and width of at least "
            f"{spec.min_size} or None, and at least one channel, not {shape!r}."
        )
    return tuple(shape)


def has_new_top(settled: ModelOptions, checkpoint: Checkpoint | None) -> bool:
    """Return whether a model's classifier is not the checkpoint's."""
    if checkpoint is None or not settled["include_top"]:
        return False
    return not checkpoint.has_top or checkpoint.num_classes not in (None, settled["num_classes"])


def load_into(model: tf.keras.Model, checkpoint: Checkpoint, settled: ModelOptions) -> None:
    """Set a model's variables from a checkpoint, all or all but the classifier's, which is then logged."""
    new_top = has_new_top(settled, checkpoint)
    if new_top:
        has = checkpoint.num_classes if checkpoint.has_top else None
        report_new_top(checkpoint.source, has, model.name, settled["num_classes"])
    try:
        checkpoint.load_into(model, new_top=new_top)
    except ValueError as error:
        if model.input_shape[-1] != 1:
            raise
        raise ValueError(
            f"{error} Where the weights are for colours, grey images go in three times: give "
            "input_tensor=tf.keras.layers.Concatenate()([image] * 3)."
        ) from error


def record(
    model: tf.keras.Model,
    function: str,
    spec: InputSpec,
    arguments: Mapping[str, Any],
    settled: ModelOptions,
    checkpoint: Checkpoint | None,
) -> tf.keras.Model:
    """Remember how a model was made, and what its weights say of images and, if the classifier is theirs, of classes.

    Not of a model on a tensor that other layers return: no arguments say how to build those.
    """
    if not is_input(settled["input_tensor"]):
        return model
    recorded = {name: value for name, value in settled.items() if name != "input_tensor"}
    if "classifier_activation" in recorded:
        recorded["classifier_activation"] = _named(recorded["classifier_activation"])
    preprocessing = resolve_preprocessing(checkpoint.preprocessing if checkpoint else None, spec.preprocessing)
    own_top = checkpoint is not None and settled["include_top"] and not has_new_top(settled, checkpoint)
    names = checkpoint.class_names if checkpoint and own_top else None
    row = checkpoint.row if checkpoint else None
    return record_model(model, ModelInfo(function, {**arguments, **recorded}, preprocessing, names, row))


def report_new_top(source: str, has: int | None, model: str, num_classes: int | None) -> None:
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
