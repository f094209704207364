"""Training a student network towards a teacher's output."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from .losses import distribution_loss


class Distiller(tf.keras.Model):
    """A student and its teacher as one Keras model: what is called, evaluated and saved is the student.

    In ``fit`` the loss is `distribution_loss` alone, times ``sample_weight`` and ``class_weight`` where they are given,
    and the labels serve the metrics. The teacher is frozen, runs in inference mode and is part of no checkpoint. In
    ``evaluate`` the loss is the compiled one, of the labels.

    Args:
        student: A functional Keras model that ends in a softmax, or any model that returns logits.
        teacher: The same, with as many classes; it gets the student's input. ``None`` where the training batches are
            (images, (labels, teacher logits)), see `teacher_logits`.

    Raises:
        ValueError: Student and teacher have different numbers of classes.

    References:
        - [ReActNet](https://arxiv.org/abs/2003.03488), section 4.3
    """

    def __init__(self, student: tf.keras.Model, teacher: tf.keras.Model | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if teacher is not None:
            check_classes(student, teacher)
        self.student = student
        self._logits = logits_model(student)
        self._distillation = tf.keras.metrics.Mean("distillation")
        # Keras tracks the models in attributes; behind a function the teacher's variables are not the distiller's.
        self._teach = functools.partial(logits_model(teacher), training=False) if teacher is not None else None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        if self._teach is not None:
            target = self._teach(images)
        else:
            labels, target = labels
        with tf.GradientTape() as tape:
            logits = tf.cast(self._logits(images, training=True), tf.float32)
            losses = distribution_loss(tf.cast(target, tf.float32), logits)
            if weights is not None:
                # As Keras' losses: a sum over the batch, divided by its size and not by the weights' sum.
                losses *= tf.reshape(tf.cast(weights, losses.dtype), [-1])
            # The gradients of all replicas are added, so each replica contributes its share of the mean.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            loss = (tf.reduce_mean(losses) + sum(self.student.losses)) / replicas
        self.optimizer.minimize(loss, self.student.trainable_variables, tape=tape)
        self._distillation.update_state(losses)
        # Softmax changes neither accuracy nor its order, and serves the metrics that want probabilities.
        results = self.compute_metrics(images, labels, tf.nn.softmax(logits), weights)
        loss = results.pop("distillation")
        return {**results, "loss": loss}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        results = super().test_step(data)
        del results["distillation"]
        return results

    def save(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """Save the student, as ``tf.keras.Model.save`` does."""
        self.student.save(filepath, *args, **kwargs)

    def save_weights(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """Save the student's weights, as ``tf.keras.Model.save_weights`` does."""
        self.student.save_weights(filepath, *args, **kwargs)


def check_classes(student: tf.keras.Model, teacher: tf.keras.Model) -> None:
    """Raise `ValueError` if student and teacher have different numbers of classes."""
    if student.output_shape[-1] != teacher.output_shape[-1]:
        raise ValueError(
            f"The student has {student.output_shape[-1]} classes and the teacher {teacher.output_shape[-1]}: "
            "give a teacher of the student's classes."
        )


def logits_model(model: tf.keras.Model) -> tf.keras.Model:
    """Return a model that shares ``model``'s layers and has no final softmax, or ``model`` if it has none.

    Where the last layer does more than the softmax, as ``Dense(10, activation="softmax")``, the logits are the
    logarithms of the probabilities, whose softmax is the same.

    Args:
        model: Maps images to probabilities or logits, (b, classes).
    """
    if not model.layers:
        return model
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is tf.keras.activations.softmax
    if isinstance(last, tf.keras.layers.Softmax) or (softmax and isinstance(last, tf.keras.layers.Activation)):
        return tf.keras.Model(model.inputs, last.input)
    if softmax:
        probabilities = tf.cast(model.output, tf.float32)
        return tf.keras.Model(model.inputs, tf.math.log(tf.maximum(probabilities, np.finfo(np.float32).tiny)))
    return model


def teacher_logits(teacher: tf.keras.Model, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Run a teacher once over batches in a fixed order, and return (images, (labels, teacher logits)) for `Distiller`.

    Only batches that are the same in every epoch can be cached so: without augmentation, or with one that is drawn
    once.

    Args:
        teacher: A Keras model.
        batches: Finite batches (images, labels).
    """
    logits = logits_model(teacher)
    found = [logits(images, training=False).numpy() for images, _ in batches]
    sizes = np.array([len(part) for part in found])
    # Made here, it is no constant of the dataset's graph, which holds no more than 2 GB.
    cached = tf.constant(np.concatenate(found))
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def attach(place: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        images, labels = batch
        return images, (labels, cached[place[0] : place[0] + place[1]])

    places = tf.data.Dataset.from_tensor_slices(np.stack([offsets, sizes], axis=1))
    return tf.data.Dataset.zip((places, batches)).map(attach)
