"""Training a student network towards the outputs of teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ...quantizers.elementwise import at_least_float32
from ...zoo.checkpoints.variables import check_keras_2
from ...zoo.stages import stage_outputs
from .logits import as_list, logits_model
from .losses import Feature, PairLoss, distribution_loss, mean_squared_difference


class Distiller(tf.keras.Model):
    r"""A student and its teachers as one Keras model: what is called, evaluated and saved is the student.

    In ``fit`` the loss of an example is, with the logits \(z\), over the teachers \(i\) and the chosen feature maps,
    \[ \sum_i w_i \Big( T^2 L(z_i / T, z / T) + w_f \sum_f L_f(f_i, f) \Big) + w_l L_l \]
    times ``sample_weight`` and ``class_weight`` where they are given. By default it is ReActNet's: `distribution_loss`
    of one teacher at temperature 1 alone, and the labels serve the metrics. The teachers are frozen, run in inference
    mode and are part of no checkpoint. In ``evaluate`` the loss is the compiled one, of the labels.

    Args:
        student: A Keras model that returns probabilities or logits, see `logits_model`.
        teachers: One model or several, of as many classes; they get the student's input. ``None`` where the training
            batches are (images, (labels, logits, ...)), see `teacher_logits`.
        teacher_weights: \(w_i\); equal parts of 1 by default.
        distillation_loss: \(L\), of (teacher logits, student logits), (b, classes), at least float32; returns (b,).
        temperature: \(T\), positive. The factor \(T^2\) keeps the size of the gradients (Hinton et al.).
        label_weight: \(w_l\), the weight of the compiled loss of the labels, \(L_l\).
        features: Which feature maps of student and teachers are compared. Both must be functional.
        feature_loss: \(L_f\), of (teacher's, student's), each (b, ...) in at least float32; returns (b,).
        feature_weight: \(w_f\).

    Raises:
        ValueError: Student and a teacher have different numbers of classes or, under the default loss, feature maps of
            different shapes; an output is neither probabilities nor logits; or an argument does not suit.

    References:
        - [ReActNet](https://arxiv.org/abs/2003.03488), section 4.3
        - G. Hinton, O. Vinyals, J. Dean, [Distilling the Knowledge in a Neural
            Network](https://arxiv.org/abs/1503.02531), section 2
    """

    def __init__(
        self,
        student: tf.keras.Model,
        teachers: tf.keras.Model | Sequence[tf.keras.Model] | None,
        *,
        teacher_weights: Sequence[float] | None = None,
        distillation_loss: PairLoss = distribution_loss,
        temperature: float = 1.0,
        label_weight: float = 0.0,
        features: Sequence[Feature] = (),
        feature_loss: PairLoss = mean_squared_difference,
        feature_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        masters = as_list(teachers)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature!r}.")
        if teacher_weights is not None and masters and len(teacher_weights) != len(masters):
            raise ValueError(f"teacher_weights must be {len(masters)}, as the teachers are, not {teacher_weights!r}.")
        if features and not masters:
            raise ValueError("features need the teachers: cached logits are not enough.")
        check_keras_2(student)  # a part of another kind would never be trained
        for teacher in masters:
            check_classes(student, teacher)
        self.student = student
        pairs = [(name, name) if isinstance(name, str) else name for name in features]
        logits = logits_model(student)
        self._puts_out_logits = logits is student
        self._outputs = _with_features(student, logits, [own for own, _ in pairs])
        outputs = [
            _with_features(teacher, logits_model(teacher, student), [name for _, name in pairs]) for teacher in masters
        ]
        if feature_loss is mean_squared_difference:
            for model in outputs:
                _check_shapes(pairs, self._outputs.outputs[1:], model.outputs[1:])
        # Keras tracks the models in attributes; behind a function the teachers' variables are not the distiller's.
        self._teach = lambda images: [model(images, training=False) for model in outputs]
        self._has_teachers = bool(masters)
        self._teacher_weights = None if teacher_weights is None else tuple(teacher_weights)
        self._distillation_loss, self._temperature = distillation_loss, temperature
        self._label_weight, self._feature_loss, self._feature_weight = label_weight, feature_loss, feature_weight
        self._mean_loss = tf.keras.metrics.Mean("loss")  # the name by which Keras' bar knows that it is a mean already

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        if self._has_teachers:
            taught = self._teach(images)
        else:
            labels, *targets = labels
            taught = [[target] for target in targets]
        with tf.GradientTape() as tape:
            logits, *features = _precise(self._outputs(images, training=True))
            losses = self._distillation(taught, logits, features)
            if weights is not None:
                # As Keras' losses: a sum over the batch, divided by its size and not by the weights' sum.
                losses *= tf.reshape(tf.cast(weights, losses.dtype), [-1])
            # The gradients of all replicas are added, so each replica contributes its share of the mean.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            loss = (tf.reduce_mean(losses) + sum(self.student.losses)) / replicas
            if self._label_weight:
                output = logits if self._puts_out_logits else tf.nn.softmax(logits)
                of_labels = self._label_weight * self.compiled_loss(labels, output, weights)
                loss += of_labels
                losses += of_labels * replicas
        self.optimizer.minimize(loss, self.student.trainable_variables, tape=tape)
        self._mean_loss.update_state(losses)
        # Softmax changes neither accuracy nor its order, and serves the metrics that want probabilities.
        results = self.compute_metrics(images, labels, tf.nn.softmax(logits), weights)
        return {**results, "loss": self._mean_loss.result()}

    def _distillation(self, taught: Sequence[Any], logits: tf.Tensor, features: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the loss of each example towards the teachers, (b,)."""
        each = self._teacher_weights or [1 / len(taught)] * len(taught)
        total = tf.zeros(tf.shape(logits)[:1], logits.dtype)
        for weight, outputs in zip(each, taught, strict=True):
            target, *maps = (tf.cast(output, logits.dtype) for output in _precise(outputs))
            loss = self._distillation_loss(target / self._temperature, logits / self._temperature)
            loss *= self._temperature**2
            for theirs, ours in zip(maps, features, strict=True):
                loss += self._feature_weight * self._feature_loss(theirs, ours)
            total += weight * loss
        return total

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        outputs = self(images, training=False)
        loss = self.compute_loss(images, labels, outputs, weights) * tf.distribute.get_strategy().num_replicas_in_sync
        # Keras' own mean of this name is one more, of which there is none before the first evaluation.
        self._mean_loss.update_state(loss, tf.shape(outputs)[0])
        return self.compute_metrics(images, labels, outputs, weights)

    def save(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """Save the student, as ``tf.keras.Model.save`` does."""
        self.student.save(filepath, *args, **kwargs)

    def save_weights(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """Save the student's weights, as ``tf.keras.Model.save_weights`` does."""
        self.student.save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath: str, *args: Any, **kwargs: Any) -> Any:
        """Load the student's weights, as ``tf.keras.Model.load_weights`` does."""
        return self.student.load_weights(filepath, *args, **kwargs)


def check_classes(student: tf.keras.Model, teacher: tf.keras.Model) -> None:
    """Raise `ValueError` if student and teacher have different numbers of classes."""
    if student.output_shape[-1] != teacher.output_shape[-1]:
        raise ValueError(
            f"The student has {student.output_shape[-1]} classes and the teacher {teacher.output_shape[-1]}: "
            "give a teacher of the student's classes."
        )


def _precise(outputs: Any) -> list[tf.Tensor]:
    """Return outputs in at least float32."""
    return [at_least_float32(output) for output in tf.nest.flatten(outputs)]


def _with_features(model: tf.keras.Model, logits: tf.keras.Model, names: Sequence[str]) -> tf.keras.Model:
    """Return a model of the logits and the named feature maps."""
    if not names:
        return logits
    if not model.inputs:
        raise ValueError(f"features need functional models, which {model.name!r} is not.")
    outputs = [logits.output]
    for name in names:
        stages = stage_outputs(model) if name.removeprefix("stage").isdigit() else {}
        outputs.append(stages[name] if name in stages else model.get_layer(name).output)
    return tf.keras.Model(model.inputs, outputs)


def _check_shapes(pairs: Sequence[tuple[str, str]], ours: Sequence[tf.Tensor], theirs: Sequence[tf.Tensor]) -> None:
    for (own, name), one, other in zip(pairs, ours, theirs, strict=True):
        if not one.shape.is_compatible_with(other.shape):
            raise ValueError(
                f"The student's {own!r} has shape {one.shape}, the teacher's {name!r} {other.shape}: choose features "
                "of equal shapes, or give a feature_loss that compares these."
            )
