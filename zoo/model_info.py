"""How a model of the zoo was made: remembered beside the model, which stays a plain Keras model."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
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


def model_info(model: tf.keras.Model) -> ModelInfo | None:
    """Return how ``model`` was made.

    ``None`` for a model that the zoo did not build in this session, or not alone: on a tensor that other layers return.
    """
    return _INFO.get(model)


def record_model(model: tf.keras.Model, info: ModelInfo) -> tf.keras.Model:
    """Remember how ``model`` was made, for `model_info`, and return it."""
    _INFO[model] = info
    return model


def preprocessing_of(model: tf.keras.Model) -> Preprocessing | None:
    """Return what a model of the zoo expects at its input; ``None`` for any other model.

    That is what the weights it was built with say. Where they say nothing, it is the convention: larq-zoo's for its
    models, none for the Wide ResNets, which normalise at their input, and ImageNet's for all others, as in their
    papers' code.
    """
    info = model_info(model)
    return None if info is None else info.preprocessing
