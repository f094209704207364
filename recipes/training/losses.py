"""The papers' loss functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import tensorflow as tf

PairLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Gets what a teacher and the student have, each (b, ...); returns the loss of each example, (b,)."""

Feature = str | tuple[str, str]
"""The name of a stage, such as ``"stage3"``, or of a layer: in student and teacher alike, or (student's, teacher's)."""


def distribution_loss(teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    r"""Return ReActNet's distributional loss of each example, shape (batch,).

    The cross-entropy of the student's distribution with the teacher's as its target, at temperature 1 and without
    labels:
    \[ L = -\sum_c p_c^{teacher} \log p_c^{student} \]
    The paper writes a Kullback-Leibler divergence; the official code leaves out the teacher's entropy, a constant: same
    gradients, larger value.

    Args:
        teacher_logits: (batch, classes); no gradient flows to it.
        student_logits: (batch, classes).

    References:
        - [ReActNet](https://arxiv.org/abs/2003.03488), section 4.3; `DistributionLoss` in `liuzechun/ReActNet`
    """
    target = tf.stop_gradient(tf.nn.softmax(teacher_logits))
    return tf.nn.softmax_cross_entropy_with_logits(target, student_logits)


def mean_squared_difference(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Return the mean squared difference of two feature maps (b, ...) of one shape for each example, (b,)."""
    squares = tf.math.squared_difference(tf.stop_gradient(teacher), student)
    return tf.reduce_mean(squares, axis=tf.range(1, tf.rank(squares)))


@lq.utils.register_keras_custom_object
class SmoothedCrossentropy(tf.keras.losses.Loss):
    r"""Cross-entropy of integer labels with label smoothing: the target is \((1 - \epsilon)\,\mathrm{onehot} +
    \epsilon / C\).

    Takes labels (b,) or (b, 1) and predictions (b, classes).

    Args:
        label_smoothing: \(\epsilon\), from 0 to 1. 0 is plain cross-entropy.
        from_logits: Whether predictions are logits; probabilities by default, as the zoo's models return.

    Raises:
        ValueError: ``label_smoothing`` is outside its range.

    References:
        - `CrossEntropyLabelSmooth` in `liuzechun/Bi-Real-net`, with 0.1
    """

    def __init__(self, label_smoothing: float = 0.0, from_logits: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"name": "smoothed_crossentropy", **kwargs})
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must lie between 0 and 1, not {label_smoothing!r}.")
        self.label_smoothing, self.from_logits = label_smoothing, from_logits

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        labels = tf.reshape(tf.cast(y_true, tf.int64), [-1])
        target = tf.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        return tf.keras.losses.categorical_crossentropy(
            target, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "from_logits": self.from_logits}
