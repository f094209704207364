"""What is watched and measured between batches and epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...quantizers import FPReLU
from ...zoo.checkpoints.variables import binary_kernels


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number."""


class StopWhenDiverged(tf.keras.callbacks.Callback):
    """Ends the training with `DivergedError` at the first batch whose loss is not finite.

    So it does after an epoch that leaves weights, or an evaluation's loss, that are not: comes after whatever
    evaluates, and before whatever checkpoints. The checkpoint of the last completed epoch stays as it is; Keras'
    ``TerminateOnNaN`` would let the epoch's end be reached, and the damage be saved.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(f"The loss is {loss} at batch {batch + 1} of epoch {self._epoch + 1}.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, loss in (logs or {}).items():
            if name.endswith("_loss") and not math.isfinite(loss):
                self._stop(f"{name} is {loss} after epoch {epoch + 1}.")
        for weight in student_of(self.model).weights:
            if not np.isfinite(weight.numpy()).all():
                self._stop(f"{weight.name} has values that are not finite after epoch {epoch + 1}.")

    def _stop(self, what: str) -> None:
        raise DivergedError(f"{what} The last completed epoch is kept; try a lower learning rate, in another folder.")


class KeepSchedule(tf.keras.callbacks.Callback):
    """Raises `ValueError` where another callback has set the learning rate that the optimizer's schedule decides.

    The schedule would overwrite it at the next batch: nothing would come of it but a wrong figure in the history.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        self._active = isinstance(optimizer._learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule)
        self._rate: float | None = learning_rate(self.model)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 0:
            self._check()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._rate = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._rate = (logs or {}).get("learning_rate")
        self._check()

    def _check(self) -> None:
        if self._active and self._rate is not None and learning_rate(self.model) != self._rate:
            raise ValueError(
                "callbacks must not set the learning rate, which the recipe's schedule decides: change the recipe's "
                "settings instead, such as lr."
            )


def learning_rate(model: tf.keras.Model) -> float:
    """Return the rate of the last batch, or the one to start with."""
    return float(tf.keras.backend.get_value(model.optimizer.learning_rate))


class FlipRatio(tf.keras.callbacks.Callback):
    """Reports ``flip_ratio``, the share of binary weights that took the other of their filter's values in an epoch."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._kernels = list(binary_kernels(student_of(self.model)).values())
        self._signs = self._read()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        signs = self._read()
        flipped = sum(int(np.count_nonzero(now != before)) for now, before in zip(signs, self._signs, strict=True))
        if logs is not None and signs:
            logs["flip_ratio"] = flipped / sum(sign.size for sign in signs)
        self._signs = signs

    def _read(self) -> list[np.ndarray]:
        return [kernel.signs(kernel.variable).numpy() for kernel in self._kernels]


class NegativeSlopes(tf.keras.callbacks.Callback):
    """Reports ``negative_slopes``, the share of the learned slopes of `FPReLU` and PReLU that are below zero.

    Nothing keeps them from it, and where the slope of positive values is, the channel's signs have turned round.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        kinds = (FPReLU, tf.keras.layers.PReLU)
        slopes = [layer.get_weights() for layer in student_of(self.model).layers if isinstance(layer, kinds)]
        values = [value.ravel() for weights in slopes for value in weights]
        if logs is not None and values:
            logs["negative_slopes"] = float(np.mean(np.concatenate(values) < 0))


class EvaluateAt(tf.keras.callbacks.Callback):
    """Evaluates images after chosen epochs, as ``val_loss`` and ``val_accuracy``, or under another prefix.

    Args:
        evaluate: Called with the model; returns the figures by name, as ``Model.evaluate`` does.
        milestones: Epochs, counted from 1; ``None`` means all.
        prefix: ``"val"`` for validation images, ``"test"`` for test images.
    """

    def __init__(
        self,
        evaluate: Callable[[tf.keras.Model], Mapping[str, float]],
        milestones: Sequence[int] | None,
        prefix: str = "val",
    ) -> None:
        super().__init__()
        self.evaluate, self.prefix = evaluate, prefix
        self.milestones = None if milestones is None else set(milestones)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and (self.milestones is None or epoch + 1 in self.milestones):
            results = self.evaluate(self.model)
            logs.update({f"{self.prefix}_{name}": value for name, value in results.items()})


def student_of(model: tf.keras.Model) -> tf.keras.Model:
    """Return a distiller's student, or the model itself."""
    return getattr(model, "student", model)
