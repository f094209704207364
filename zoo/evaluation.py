"""How good a classifier is on labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Evaluation:
    """Accuracy over a set of images.

    Attributes:
        top1: Share of the images whose most probable class is theirs, in percent.
        top5: Share whose class is among the five most probable, in percent; ``None`` for five classes or fewer.
        images: How many were evaluated.
        seconds: How long that took, reading and preprocessing included.
    """

    top1: float
    top5: float | None
    images: int
    seconds: float


def evaluate(
    model: tf.keras.Model,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a classifier.

    Args:
        model: Maps images to probabilities or logits, (b, classes).
        batches: Preprocessed images (b, height, width, channels) and integer labels (b,) or (b, 1): arrays, or a
            ``tf.data.Dataset`` of such.
        progress: Called with the number of images after each batch.

    Raises:
        ValueError: There are no images, the labels are no integers or do not suit the model's classes, or the model has
            not one output of two classes or more.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or not (shape[-1] or 0) > 1:
        raise ValueError(f"The model must have one output (b, classes) of two or more, not {shape}.")
    if isinstance(batches, tuple) and hasattr(batches[0], "shape"):
        raise ValueError("batches must be such of (images, labels), not one pair: [(images, labels)] is one batch.")
    classes = shape[-1]
    start, count, first, fifth = time.perf_counter(), 0, 0, 0
    for images, given in batches:
        labels = np.asarray(given)
        if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
            raise ValueError(
                f"Labels must be one integer for each of the {len(images)} images of a batch, not {labels.dtype} of "
                f"shape {labels.shape}."
            )
        labels = labels.reshape(-1).astype(np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"The labels range from {labels.min()} to {labels.max()}, but the model has {classes} classes."
            )
        scores = model.predict_on_batch(np.asarray(images))
        correct = np.take_along_axis(scores, labels[:, None], axis=1)
        # Equal scores rank in the order of the classes, as argmax does; a model that returns NaN is never right.
        before = (scores > correct) | ((scores == correct) & (np.arange(classes) < labels[:, None]))
        rank = np.where(np.isfinite(scores).all(axis=1), before.sum(axis=1), classes)
        count += len(labels)
        first += int((rank < 1).sum())
        fifth += int((rank < 5).sum())
        if progress:
            progress(len(labels))
    if not count:
        raise ValueError("There are no images to evaluate on.")
    top5 = 100 * fifth / count if classes > 5 else None
    return Evaluation(100 * first / count, top5, count, time.perf_counter() - start)
