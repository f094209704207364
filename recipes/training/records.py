"""What a run writes as it goes: the history of its epochs, checkpoints, and logs for TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ...util.files import check_source, reading, replacing
from ...util.formatting import first_line
from .callbacks import learning_rate

log = logging.getLogger(__name__)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let a failure to write be an `OSError` that names the file, whichever library writes it."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error
    except OSError as error:
        if error.filename is None and str(path) not in str(error):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


class CSVHistory(tf.keras.callbacks.Callback):
    """Keeps one row of figures for each epoch, in memory and as a CSV file that is replaced in one step.

    Keras' ``CSVLogger`` appends: it knows only the columns of its first row, and a row that was written before its
    checkpoint would stay for good.

    Args:
        path: The file. Rows of it up to the epoch at which training starts are kept, later ones dropped.
        stage: The stage's name, a column of the file.
    """

    def __init__(self, path: Path, stage: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage
        self.rows: list[dict[str, Any]] = read_history(path)

    def start_at(self, epoch: int, ended: bool) -> None:
        """Compare the rows with the checkpoints: this stage's must be those of the epochs up to ``epoch``.

        That of the next epoch is dropped: its checkpoint was interrupted after the row was written.

        Args:
            epoch: The number of completed epochs.
            ended: Whether these are all of the stage, so that there can be none of a next one.

        Raises:
            ValueError: Rows are missing, doubled or out of order, or newer checkpoints are: the rows would be lost.
        """
        found = [row["epoch"] for row in self.rows if row["stage"] == self.stage]
        others = {row["stage"] for row in self.rows[-1:]} - {self.stage} and epoch > 0
        wanted = list(range(1, epoch + 1))
        if found != wanted and (ended or others or found != [*wanted, epoch + 1]):
            raise ValueError(
                f"{self.path} has the epochs {found} of the stage {self.stage!r}, but its checkpoints are those of "
                f"{epoch} epochs: one or the other was changed or deleted. Put them back, or choose another output "
                "folder to start afresh."
            )
        self.rows = [row for row in self.rows if row["stage"] != self.stage or row["epoch"] <= epoch]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        rate = figures.pop("learning_rate", learning_rate(self.model))
        # An epoch that was run elsewhere brings its own.
        seconds = figures.pop("seconds", time.perf_counter() - self._started)
        row = {"stage": self.stage, "epoch": epoch + 1, **figures, "learning_rate": rate, "seconds": round(seconds, 2)}
        self.rows.append(row)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (
            writing(self.path),
            replacing(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a history file, numbers as numbers; none where there is no file.

    Raises:
        ValueError: The file is damaged.
        OSError: It is no file.
    """
    if not os.path.lexists(path):
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
    from the one before. There is a best network only where there are validation images: none is chosen by test images.

    Args:
        folder: For the checkpoints; the last two are kept.
        model: The network (a distiller's student), built.
        optimizer: Its optimizer, built.
        history: The rows so far, by which an epoch is the best.
        best: File for the best network's weights.

    Attributes:
        epoch: The number of completed epochs.
        ended: Whether the stage ended with them, be it that a callback stopped it.
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
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self._ended = tf.Variable(False, trainable=False, name="ended")
        self._checkpoint = tf.train.Checkpoint(network=model, epoch=self._epoch, ended=self._ended, optimizer=optimizer)
        try:
            self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=2)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"{folder / 'checkpoint'} is damaged: {first_line(error)} Choose another output folder to start afresh."
            ) from error
        self._folder, self._network, self._history, self._best = folder, model, history, best

    @property
    def epoch(self) -> int:
        return int(self._epoch.numpy())

    @property
    def ended(self) -> bool:
        return bool(self._ended.numpy())

    def restore(self) -> None:
        """Restore the last checkpoint, if there is one, and compare the history with it.

        Where that is damaged, as a power failure may leave it, the one before serves, unless a later stage began with
        what the damaged one held.

        Raises:
            ValueError: None is of this network with this optimizer, and whole; or the history is another one's.
        """
        rows = self._history.rows
        paths = list(reversed(self._manager.checkpoints))
        if rows and rows[-1]["stage"] != self._history.stage:
            paths = paths[:1]
        failures: list[ValueError] = []
        for path in paths:
            failure = self._restore_from(path)
            if failure is None:
                if failures:
                    log.warning("%s is damaged: the run goes on from %s.", paths[0], path)
                break
            failures.append(failure)
        else:
            if failures:
                raise failures[0]
        self._history.start_at(self.epoch, self.ended)

    def _restore_from(self, path: str) -> ValueError | None:
        """Restore a checkpoint, or return why that cannot be."""
        try:
            self._checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            return ValueError(
                f"The checkpoint {path} does not fit the network {self._network.name!r} and its optimizer, or is "
                f"damaged: {first_line(error)} Choose another output folder to start afresh."
            )
        return None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        accuracy = (logs or {}).get("val_accuracy")
        # Of this stage alone: the networks of the stages before are other ones, real-valued and better.
        stage = [row for row in self._history.rows[:-1] if row["stage"] == self._history.stage]
        before = [row["val_accuracy"] for row in stage if "val_accuracy" in row]
        # Whoever stops the training may have put back other weights than those that were measured.
        if accuracy is not None and accuracy >= max(before, default=0.0) and not self.model.stop_training:
            self._check_space(self._best, self._network.weights)
            with writing(self._best), replacing(self._best) as temporary:
                self._network.save_weights(str(temporary))
        self._epoch.assign(epoch + 1)
        self._save()

    def end(self) -> None:
        """Checkpoint the network as the stage leaves it, with the mark that it has ended."""
        self._ended.assign(True)
        self._save()

    def _save(self) -> None:
        self._check_space(self._folder, [*self._network.weights, *self._checkpoint.optimizer.variables])
        with writing(self._folder):
            self._manager.save()

    def _check_space(self, path: Path, weights: Sequence[tf.Variable]) -> None:
        """Raise `OSError` on a full disk, where HDF5 would crash."""
        needed = sum(weight.dtype.size * weight.shape.num_elements() for weight in weights) + 2**20
        if (free := shutil.disk_usage(self._best.parent).free) < needed:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free, and {needed:,} are needed", str(path))


class TensorBoardLog(tf.keras.callbacks.TensorBoard):
    """Keras' ``TensorBoard``, whose failures to write name its folder."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with writing(Path(self.log_dir)):
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with writing(Path(self.log_dir)):
            super().on_train_end(logs)
