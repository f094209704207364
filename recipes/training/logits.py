"""The logits of a model, whatever it puts out and however that is spelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# What a classifier's last operation is where its outputs are any numbers, and so logits even if they happen to lie
# between 0 and 1.
_AFFINE = {"AddV2", "BiasAdd", "Conv2D", "Einsum", "FusedBatchNormV3", "MatMul", "Mean", "Mul", "Sub"}
_PASSING = {"Cast", "Identity", "Reshape", "Squeeze", "StopGradient"}


def logits_model(model: tf.keras.Model, like: tf.keras.Model | None = None) -> tf.keras.Model:
    """Return a model that shares ``model``'s layers and puts out logits; ``model`` itself if it does so already.

    What the model puts out for some noise decides, in inference mode: rows that are nowhere negative and add up to 1
    are probabilities. The logits are then what a final softmax layer gets, where there is one, else the logarithms of
    the probabilities, whose softmax is the same.

    Args:
        model: Maps one tensor of images to probabilities or logits, (b, classes).
        like: A model of the same input, for one that is neither functional nor has been called.

    Raises:
        ValueError: It is no model of ``tf.keras``, or its output is neither, such as independent probabilities of each
            class, feature maps, or a single class.
    """
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            f"A model of tf.keras is needed, not a {type(model).__module__}.{type(model).__qualname__}. The package "
            "keras, imported by itself, is Keras 3."
        )
    inputs = _inputs(model) or (_inputs(like) if like is not None else [])
    if not inputs or len(inputs) != 1:
        raise ValueError(
            f"The model {model.name!r} must have one input, and that a known one: make it functional, or call it once."
        )
    model = model if model.inputs else _functional(model, inputs[0])
    outputs = tf.nest.flatten(model.outputs)
    if len(outputs) != 1 or outputs[0].shape.rank != 2 or not (outputs[0].shape[-1] or 0) > 1:
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise ValueError(f"The model {model.name!r} must have one output (b, classes) of two or more, not {shapes}.")
    noise = _noise(inputs[0])
    values = _values(model, noise)
    noise, values = (part[np.isfinite(values).all(1)] for part in (noise, values))
    if not len(values):
        raise ValueError(f"The model {model.name!r} puts out numbers that are not finite.")
    if _are_probabilities(values, outputs[0].dtype):
        exact = _before_softmax(model)
        if exact is not None and np.allclose(tf.nn.softmax(_values(exact, noise)), values, atol=1e-2):
            return exact
        probabilities = tf.cast(outputs[0], tf.float32)
        return tf.keras.Model(model.inputs, tf.math.log(tf.maximum(probabilities, np.finfo(np.float32).tiny)))
    if ((values >= 0) & (values <= 1)).all() and _last_operation(model) not in _AFFINE:
        raise ValueError(
            f"The model {model.name!r} puts out numbers from 0 to 1 whose sum over the classes is not 1, as a sigmoid "
            "does: neither probabilities of classes nor logits. Let it end in a softmax, or in no activation."
        )
    return model


def _inputs(model: tf.keras.Model) -> list[Any]:
    """Return a model's inputs; those that it was last called with if it is not functional, none if it was not."""
    specs = model.save_spec()
    return model.inputs or ([] if specs is None else tf.nest.flatten(specs[0]))


def _functional(model: tf.keras.Model, spec: tf.TensorSpec) -> tf.keras.Model:
    image = tf.keras.Input(spec.shape[1:], dtype=spec.dtype)
    return tf.keras.Model(image, model(image), name=model.name)


def _noise(spec: Any) -> np.ndarray:
    """Return a few inputs, some like pixels from 0 to 255, some like normalised ones."""
    shape = [64 if length is None else length for length in spec.shape[1:]]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, *shape))
    return np.concatenate([pixels, rng.standard_normal((2, *shape))]).astype(tf.as_dtype(spec.dtype).as_numpy_dtype)


def _values(model: tf.keras.Model, inputs: np.ndarray) -> np.ndarray:
    return tf.cast(model(inputs, training=False), tf.float32).numpy()


def _are_probabilities(values: np.ndarray, dtype: tf.DType) -> bool:
    tolerance = 1e-3 if dtype.size > 2 else 0.05
    return bool((values >= 0).all() and np.allclose(values.sum(1), 1, atol=tolerance))


def _before_softmax(model: tf.keras.Model) -> tf.keras.Model | None:
    """Return the model without its last layer, where that is a softmax, also within a last layer that is a model."""
    last, node, _ = model.outputs[0]._keras_history
    inputs = last.get_input_at(node)
    activation = getattr(last, "activation", None)
    if isinstance(last, tf.keras.layers.Softmax) or (
        isinstance(last, tf.keras.layers.Activation) and activation in (tf.keras.activations.softmax, tf.nn.softmax)
    ):
        return tf.keras.Model(model.inputs, inputs)
    if isinstance(last, tf.keras.Model) and last.inputs:
        inner = _before_softmax(last)
        return None if inner is None else tf.keras.Model(model.inputs, inner(inputs))
    return None


def _last_operation(model: tf.keras.Model) -> str:
    """Return the kind of TensorFlow operation that computes a model's output."""
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in model.inputs]
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(*specs)
    operation = graph.outputs[0].op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    return operation.type


def teacher_logits(teachers: tf.keras.Model | Sequence[tf.keras.Model], batches: tf.data.Dataset) -> tf.data.Dataset:
    """Run teachers once over batches in a fixed order, and attach their logits to the labels, for `Distiller`.

    Only batches that are the same in every epoch can be cached so: without augmentation, or with one that is drawn
    once.

    Args:
        teachers: One or several Keras models.
        batches: Finite batches (images, labels), or (images, labels, weights).

    Returns:
        Batches (images, (labels, logits, ...)), with the logits of each teacher, and the weights where there are some.
    """
    models = [logits_model(teacher) for teacher in as_list(teachers)]
    found = [[model(images, training=False).numpy() for model in models] for images, *_ in batches]
    sizes = np.array([len(parts[0]) for parts in found])
    # Made here, they are no constants of the dataset's graph, which holds no more than 2 GB.
    cached = [tf.constant(np.concatenate(parts)) for parts in zip(*found, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def attach(place: tf.Tensor, batch: Any) -> Any:
        images, labels, *weights = batch
        return images, (labels, *(logits[place[0] : place[0] + place[1]] for logits in cached)), *weights

    places = tf.data.Dataset.from_tensor_slices(np.stack([offsets, sizes], axis=1))
    return tf.data.Dataset.zip((places, batches)).map(attach)


def as_list(teachers: tf.keras.Model | Sequence[tf.keras.Model] | None) -> list[tf.keras.Model]:
    """Return teachers, of which there may be one, several or none, as a list."""
    if teachers is None:
        return []
    return list(teachers) if isinstance(teachers, list | tuple) else [teachers]
