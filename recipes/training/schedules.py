"""Learning-rate schedules, as functions of the batch number, so that a restored optimizer continues where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf


def cycle_ends(epochs: int, first: int = 2) -> list[int]:
    """Return the epochs (counted from 1) after which a cycle of warm restarts ends, up to ``epochs``.

    The first cycle is ``first`` epochs long, and each is twice as long as the one before. With the published lengths 2,
    4, 8, ... these are 2, 6, 14, 30, 62, 126, 254. Only there is the accuracy of a network trained with warm restarts
    meaningful.

    Raises:
        ValueError: ``first`` is below 1.
    """
    if first < 1:
        raise ValueError(f"first must be at least 1, not {first!r}.")
    ends, end, length = [], 0, first
    while end + length <= epochs:
        end += length
        ends.append(end)
        length *= 2
    return ends


@lq.utils.register_keras_custom_object
class WarmRestarts(tf.keras.optimizers.schedules.LearningRateSchedule):
    r"""Cosine decay with warm restarts, moved every batch.

    In a cycle of \(T\) epochs, at batch \(b\) of its epoch \(e\) (both from 0) with \(B\) batches an epoch:
    \[ lr = lr_{min} + \frac{lr_{max} - lr_{min}}{2} \left(1 + \cos \pi \frac{e + b / (B - 1)}{T}\right) \]
    The divisor \(B - 1\) is the official Keras code's: the last batch of an epoch and the first of the next share their
    rate, and the last batch before a restart is exactly at the minimum.

    Args:
        steps_per_epoch: \(B\), at least 1.
        lr_max, lr_min: Rates at the start and at the end of a cycle. The paper ends at 1e-4, the released code at 1e-5.
        first_cycle: Length of the first cycle in epochs.
        factor: Each cycle is this many times as long as the one before.

    Raises:
        ValueError: An argument is outside its range.

    References:
        - [Training wide residual networks for deployment using a single bit for each
            weight](https://arxiv.org/abs/1802.08530), section 3.2; `LR_WarmRestart` in
            `McDonnell-Lab/1-bit-per-weight`
    """

    def __init__(
        self, steps_per_epoch: int, lr_max: float = 0.1, lr_min: float = 1e-4, first_cycle: int = 2, factor: int = 2
    ) -> None:
        if steps_per_epoch < 1 or first_cycle < 1 or factor < 2:
            raise ValueError(
                "steps_per_epoch and first_cycle must be at least 1 and factor at least 2, not "
                f"{steps_per_epoch!r}, {first_cycle!r} and {factor!r}."
            )
        if not 0 <= lr_min <= lr_max:
            raise ValueError(f"0 <= lr_min <= lr_max must hold, but lr_min={lr_min!r} and lr_max={lr_max!r}.")
        self.steps_per_epoch, self.lr_max, self.lr_min = steps_per_epoch, lr_max, lr_min
        self.first_cycle, self.factor = first_cycle, factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.int64)
        epoch, batch = step // self.steps_per_epoch, step % self.steps_per_epoch
        # Cycle n starts at epoch first * (factor^n - 1) / (factor - 1). The half keeps the logarithm off whole numbers.
        started = (tf.cast(epoch, tf.float64) + 0.5) * (self.factor - 1) / self.first_cycle + 1
        n = tf.floor(tf.math.log(started) / math.log(self.factor))
        length = self.first_cycle * tf.pow(tf.constant(self.factor, tf.float64), n)
        start = (length - self.first_cycle) / (self.factor - 1)
        within = tf.cast(batch, tf.float64) / max(self.steps_per_epoch - 1, 1)
        progress = (tf.cast(epoch, tf.float64) - start + within) / length
        rate = self.lr_min + 0.5 * (self.lr_max - self.lr_min) * (1 + tf.cos(math.pi * progress))
        return tf.cast(rate, tf.keras.backend.floatx())

    def get_config(self) -> dict[str, Any]:
        return {
            "steps_per_epoch": self.steps_per_epoch,
            "lr_max": self.lr_max,
            "lr_min": self.lr_min,
            "first_cycle": self.first_cycle,
            "factor": self.factor,
        }


class _PerEpoch(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A rate that changes between epochs only.

    Args:
        steps_per_epoch: Batches in an epoch, at least 1.
        epochs: Length of the training, at least 1. Past it the last epoch's rate stays.
        initial: The rate to start from, positive.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(self, steps_per_epoch: int, epochs: int, initial: float) -> None:
        if steps_per_epoch < 1 or epochs < 1 or not initial > 0:
            raise ValueError(
                "steps_per_epoch and epochs must be at least 1 and initial positive, not "
                f"{steps_per_epoch!r}, {epochs!r} and {initial!r}."
            )
        self.steps_per_epoch, self.epochs, self.initial = steps_per_epoch, epochs, initial

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        epoch = tf.minimum(tf.cast(step, tf.int64) // self.steps_per_epoch, self.epochs - 1)
        return tf.cast(self.initial * self._factor(tf.cast(epoch, tf.float64)), tf.keras.backend.floatx())

    def _factor(self, epoch: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {"steps_per_epoch": self.steps_per_epoch, "epochs": self.epochs, "initial": self.initial}


@lq.utils.register_keras_custom_object
class CosineEpochs(_PerEpoch):
    r"""IR-Net's schedule: epoch \(e\) of \(E\), from 0, has the factor \((1 + \cos (\pi e / E)) / 2\).

    The last epoch's rate is still positive. Source: `CIFAR-10/ResNet20/1w1a/trainer.py` in `htqin/IR-Net`.
    """

    def _factor(self, epoch: tf.Tensor) -> tf.Tensor:
        return (1 + tf.cos(math.pi * epoch / self.epochs)) / 2


@lq.utils.register_keras_custom_object
class LinearEpochs(_PerEpoch):
    r"""Bi-Real Net's and ReActNet's schedule: epoch \(e\) of \(E\), from 0, has the factor \(1 - (e + 1) / E\).

    The official scripts step the schedule before each epoch, so that the first epoch is already reduced and the last
    has rate 0 and changes nothing but the statistics of batch normalisation. A training of one epoch, which would learn
    nothing, has the factor 1.
    """

    def _factor(self, epoch: tf.Tensor) -> tf.Tensor:
        return 1 - (epoch + 1) / self.epochs if self.epochs > 1 else tf.ones_like(epoch)


@lq.utils.register_keras_custom_object
class WarmupSteps(tf.keras.optimizers.schedules.LearningRateSchedule):
    """IR-Net's schedule for ImageNet: linear from one rate to another, then a tenth after each of some steps.

    Args:
        peak: The rate after the warm-up, positive.
        drops: The numbers of batches after which the rate falls.
        warmup: Batches of the warm-up, which may be 0.
        start: The rate of the first of them.

    Raises:
        ValueError: An argument is outside its range.

    References:
        - The configurations of `ImageNet/` in `htqin/IR-Net`
    """

    def __init__(self, peak: float, drops: Sequence[int], warmup: int = 0, start: float = 0.0) -> None:
        if not peak > 0 or warmup < 0 or start < 0:
            raise ValueError(
                f"peak must be positive, and warmup and start at least 0, not {peak!r}, {warmup!r} and {start!r}."
            )
        self.peak, self.drops, self.warmup, self.start = peak, list(drops), warmup, start

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float64)
        passed = tf.reduce_sum(tf.cast(step >= tf.constant(self.drops, tf.float64), tf.float64))
        rate = self.peak * tf.pow(tf.constant(0.1, tf.float64), passed)
        rising = self.start + (self.peak - self.start) * step / max(self.warmup, 1)
        return tf.cast(tf.where(step < self.warmup, rising, rate), tf.keras.backend.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "drops": self.drops, "warmup": self.warmup, "start": self.start}
