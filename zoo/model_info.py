"""How a model of the zoo was made: remembered beside the model, which stays a plain Keras model."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .images.images import Preprocessing

if TYPE_CHECKING:
    from .checkpoints.weights import Weights


@dataclass(frozen=True)
class ModelInfo:
    """How a model of the zoo was made: enough to build it again.

    Attributes:
        function, arguments: What was called.
        preprocessing: What the model expects at its input: as its weights say, else the convention of its paper's code.
        class_names: What its classes are called by its weights, in their order; ``None`` if unknown.
        weights: The registered weights that it began with, if it did. It may have been trained on since then.
    """

    function: str
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    weights: Weights | None = field(default=None, compare=False, repr=False)


_INFO: weakref.WeakKeyDictionary[tf.keras.Model, ModelInfo] = weakref.WeakKeyDictionary()
_STRUCTURES: weakref.WeakKeyDictionary[tf.keras.Model, str | None] = weakref.WeakKeyDictionary()

# Settings of layers that training alone depends on, which may be changed in a network that stays what it is.
_OF_TRAINING = {"momentum", "synchronized", "trainable"}
_OF_TRAINING |= {
    f"{name}_{kind}"
    for name in ("alpha", "beta", "bias", "depthwise", "gamma", "kernel", "pointwise")
    for kind in ("constraint", "initializer", "regularizer")
}


def model_info(model: tf.keras.Model) -> ModelInfo | None:
    """Return how ``model`` was made.

    ``None`` for a model that the zoo did not build in this session, or not alone: on a tensor that other layers return.
    """
    return _INFO.get(model)


def record_model(model: tf.keras.Model, info: ModelInfo) -> tf.keras.Model:
    """Remember how ``model`` was made, for `model_info`, and return it."""
    _INFO[model] = info
    if model not in _STRUCTURES:
        _STRUCTURES[model] = _computation(model)
    return model


def is_changed(model: tf.keras.Model) -> bool:
    """Return whether a model that the zoo built no longer computes what its function builds.

    Be it that a layer has another quantizer, activation or setting by now, or that another layer has its place.
    """
    return _STRUCTURES[model] != _computation(model)


def _computation(model: tf.keras.Model) -> str | None:
    """Return a digest of what a model computes; ``None`` where a layer has something that Keras cannot describe."""
    try:
        return structure(model, _OF_TRAINING)
    except Exception:  # whatever a layer's own configuration comes to
        return None


def preprocessing_of(model: tf.keras.Model) -> Preprocessing | None:
    """Return what a model of the zoo expects at its input; ``None`` for any other model.

    That is what the weights it was built with say. Where they say nothing, it is the convention: larq-zoo's for its
    models, none for the Wide ResNets, which normalise at their input, and ImageNet's for all others, as in their
    papers' code.
    """
    info = model_info(model)
    return None if info is None else info.preprocessing


def structure(network: tf.keras.Model, ignored: Collection[str] = ()) -> str:
    """Return a digest of a network's layers, their settings and connections, but not of automatic names.

    Args:
        network: Any Keras model.
        ignored: Names of settings that do not count.
    """
    places = {network.name: "network"}
    for prefix, layer in enumerate(network.layers):
        places[layer.name] = f"layer {prefix}"

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            # Of the names that quantizers and the like have, those that nobody gave are numbered in their order.
            kept = {key: part for key, part in value.items() if key != "name" or part in places}
            kept = {key: part for key, part in kept.items() if key not in ignored}
            return {str(key): plain(part) for key, part in kept.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return places.get(value, value) if isinstance(value, str) else value

    try:
        config = plain(network.get_config())
    except NotImplementedError:  # a subclass of Model
        config = type(network).__qualname__
    shapes = [list(weight.shape) for weight in network.weights]
    text = json.dumps([config, shapes], sort_keys=True, default=lambda value: type(value).__qualname__)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
