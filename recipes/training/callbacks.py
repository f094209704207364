"""What the trainer does between batches and epochs."""

from __future__ import annotations

import csv
import errno
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...quantizers import FPReLU
from ...util.files import check_source, reading, replacing
from ...util.formatting import first_line
from ...zoo.checkpoints.variables import binary_kernels

log = logging.getLogger(__name__)


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number."""


class StopWhenDiverged(tf.keras.callbacks.Callback):
    """Ends the training with `DivergedError` at the first batch whose loss is not finite.

    So it does after an epoch that leaves weights, or an evaluation's loss, that are not: comes after whatever
    evaluates, and before whatever checkpoints. The checkpoint of the last completed epoch stays as it is.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(f"The loss is {loss} at batch {batch + 1} of epoch {self._epoch + 1}.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("val_loss", 0.0)
        if not math.isfinite(loss):
            self._stop(f"The evaluation's loss is {loss} after epoch {epoch + 1}.")
        for weight in student_of(self.model).weights:
            if not np.isfinite(weight.numpy()).all():
                self._stop(f"{weight.name} has values that are not finite after epoch {epoch + 1}.")

    def _stop(self, what: str) -> None:
        raise DivergedError(f"{what} The last completed epoch is kept; try a lower learning rate, in another folder.")


class FlipRatio(tf.keras.callbacks.Callback):
    """Reports ``flip_ratio``, the share of binary weights whose sign an epoch has changed."""

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
        return [kernel.quantized(kernel.variable.numpy()) > 0 for kernel in self._kernels]


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
    """Evaluates validation or test images after chosen epochs, as ``val_loss`` and ``val_accuracy``.

    Args:
        batches: The images in batches (images, labels).
        milestones: Epochs, counted from 1; ``None`` means all.
    """

    def __init__(self, batches: tf.data.Dataset, milestones: Sequence[int] | None) -> None:
        super().__init__()
        self.batches = batches
        self.milestones = None if milestones is None else set(milestones)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and (self.milestones is None or epoch + 1 in self.milestones):
            results = self.model.evaluate(self.batches, verbose=0, return_dict=True)
            logs.update({f"val_{name}": value for name, value in results.items()})


class CSVHistory(tf.keras.callbacks.Callback):
    """Keeps one row of figures for each epoch, in memory and as a CSV file that is replaced in one step.

    Args:
        path: The file. Rows of it up to the epoch at which training starts are kept, later ones dropped.
        stage: The stage's name, a column of the file.
    """

    def __init__(self, path: Path, stage: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage
        self.rows: list[dict[str, Any]] = read_history(path)

    def start_at(self, epoch: int) -> None:
        """Drop this stage's row of ``epoch`` (counted from 0), if a checkpoint was interrupted after it was written.

        Raises:
            ValueError: More epochs than that lack their checkpoint, and would be lost.
        """
        recorded = max((row["epoch"] for row in self.rows if row["stage"] == self.stage), default=0)
        if recorded > epoch + 1:
            raise ValueError(
                f"{self.path} has {recorded} epochs of the stage {self.stage!r}, but {epoch} are all that its "
                "checkpoints know of: newer ones were deleted. Put them back, or choose another output folder to start "
                "afresh."
            )
        self.rows = [row for row in self.rows if row["stage"] != self.stage or row["epoch"] <= epoch]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        rate = float(tf.keras.backend.get_value(self.model.optimizer.learning_rate))
        seconds = time.perf_counter() - self._started
        row = {"stage": self.stage, "epoch": epoch + 1, **figures, "learning_rate": rate, "seconds": round(seconds, 2)}
        self.rows.append(row)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a history file, numbers as numbers; none where there is no file.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.exists():
        return []
    kinds: dict[str, Callable[[str], Any]] = {"stage": str, "epoch": int}
    with reading(path, "a run's history"):
        with check_source(path, 2**26).open(newline="", encoding="utf-8") as file:
            rows = [
                {name: kinds.get(name, float)(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
        if any(not {"stage", "epoch", "seconds"} <= row.keys() for row in rows):
            raise ValueError("it lacks columns or values. Choose another output folder.")
    return rows


class EpochCheckpoint(tf.keras.callbacks.Callback):
    """Checkpoints network, optimizer and epoch after each epoch, and apart the stage's best by ``val_accuracy``.

    A checkpoint counts from the moment that its last file is written, so that a run which is killed meanwhile goes on
    from the one before.

    Args:
        folder: For the checkpoints; the last two are kept.
        model: The network (a distiller's student), built.
        optimizer: Its optimizer, built.
        history: The rows so far, by which an epoch is the best.
        best: File for the best network's weights.
    """

    def __init__(
        self,
        folder: Path,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer,
        history: CSVHistory,
        best: Path,
    ) -> None:
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self._checkpoint = tf.train.Checkpoint(network=model, epoch=self.epoch, optimizer=optimizer)
        try:
            self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=2)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"{folder / 'checkpoint'} is damaged: {first_line(error)} Choose another output folder to start afresh."
            ) from error
        self._network, self._history, self._best = model, history, best

    def restore(self) -> int:
        """Restore the last checkpoint, if there is one, and return the number of completed epochs.

        Where that is damaged, as a power failure may leave it, the one before serves, unless a later stage began with
        what the damaged one held.

        Raises:
            ValueError: None is of this network with this optimizer, and whole.
        """
        rows = self._history.rows
        paths = list(reversed(self._manager.checkpoints))
        if rows and rows[-1]["stage"] != self._history.stage:
            paths = paths[:1]
        failure = None
        for path in paths:
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
            except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
                failure = failure or ValueError(
                    f"The checkpoint {path} does not fit the network {self._network.name!r} and its optimizer, or is "
                    f"damaged: {first_line(error)} Choose another output folder to start afresh."
                )
                continue
            if failure:
                log.warning("%s is damaged: the run goes on from %s.", paths[0], path)
            return int(self.epoch.numpy())
        if failure:
            raise failure
        return 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        accuracy = (logs or {}).get("val_accuracy")
        # Of this stage alone: the networks of the stages before are other ones, real-valued and better.
        stage = [row for row in self._history.rows[:-1] if row["stage"] == self._history.stage]
        before = [row["val_accuracy"] for row in stage if "val_accuracy" in row]
        if accuracy is not None and accuracy >= max(before, default=0.0):
            with replacing(self._best) as temporary:
                self._check_space(temporary.parent)
                self._network.save_weights(str(temporary))
        self.epoch.assign(epoch + 1)
        self._manager.save()

    def _check_space(self, folder: Path) -> None:
        """Raise `OSError` on a full disk, where HDF5 would crash."""
        needed = sum(weight.dtype.size * weight.shape.num_elements() for weight in self._network.weights) + 2**20
        if (free := shutil.disk_usage(folder).free) < needed:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free, and the weights need {needed:,}", str(self._best))


def student_of(model: tf.keras.Model) -> tf.keras.Model:
    """Return a distiller's student, or the model itself."""
    return getattr(model, "student", model)
