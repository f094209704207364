"""Jobs for machines without TensorFlow: a stage's lowered step, its state, schedules and images in a folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ... import __version__
from ...util import lock
from ...util.archive import check_archive
from ...util.files import check_source, reading, replacing
from ...util.formatting import brief
from ..data import order
from . import image_folder, run, runner
from .keras import learning_rates
from .runner import Program

_LARGEST = 2**32


def schedule_of(
    trained: tf.keras.Model,
    program: Program,
    state: Sequence[tf.Variable | np.ndarray],
    callbacks: Sequence[tf.keras.callbacks.Callback],
    *,
    epochs: int,
    steps: int,
) -> dict[str, np.ndarray]:
    """Return what a stage's callbacks set at the beginning of each epoch, by the variables' names in the program, and
    ``learning_rate``, (epochs, steps).

    The variables are left as they were.
    """
    held = {name: v for name, v in zip(program.state, state, strict=True) if isinstance(v, tf.Variable)}
    before = {name: variable.numpy() for name, variable in held.items()}
    watched = {name: variable for name, variable in held.items() if not variable.trainable and variable.shape.rank == 0}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in watched}
    rates, following = [], learning_rates(trained.optimizer, steps)
    iterations = trained.optimizer.iterations
    calls = tf.keras.callbacks.CallbackList(list(callbacks), model=trained)
    try:
        calls.on_train_begin()
        for epoch in range(epochs):
            iterations.assign(epoch * steps)
            calls.on_epoch_begin(epoch)
            for name, variable in watched.items():
                rows[name].append(variable.numpy())
            rates.append(following())
    finally:
        for name, variable in held.items():
            variable.assign(before[name])
    set_by_callbacks = {
        name: np.array(values)
        for name, values in rows.items()
        if not name.startswith(("metrics/", "optimizer/")) and any(value != before[name] for value in values)
    }
    return {**set_by_callbacks, "learning_rate": np.array(rates)}


def write_job(
    folder: Path,
    about: Mapping[str, Any],
    programs: Mapping[str, Program],
    state: Sequence[tf.Variable | np.ndarray],
    schedule: Mapping[str, np.ndarray],
    arrays: Mapping[str, Sequence[np.ndarray]],
) -> None:
    """Write a job's folder, new or empty; what it needs to run is in it, but for images that are files.

    Args:
        folder: The folder.
        about: What the job was made from, and what its runner reads, see `run.train`.
        programs: ``"step"``, ``"evaluation"`` and more, see `LoweredStage.prepare`.
        state: The step's.
        schedule: See `schedule_of`.
        arrays: Images, labels and perhaps weights by ``"training"``, ``"val"`` and ``"test"``.

    Raises:
        ValueError: The folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose a new folder for the job.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        program.save(folder / name)
    values = {f"state/{i}": v.numpy() if isinstance(v, tf.Variable) else v for i, v in enumerate(state)}
    np.savez(folder / "start.npz", **values)
    np.savez(folder / "schedule.npz", **schedule)
    for part, of_part in arrays.items():
        for what, array in zip(("images", "labels", "weights"), of_part, strict=False):
            np.save(folder / f"{part}_{what}.npy", array)
    for module in (run, runner, image_folder, order, lock):
        shutil.copyfile(str(module.__file__), folder / Path(str(module.__file__)).name)
    content = {
        **about,
        "format": run.FORMAT,
        "onebit": __version__,
        "programs": list(programs),
        "digests": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _checked(programs)},
    }
    # Last: without it the folder is no job.
    with replacing(folder / "job.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_job(folder: Path, about: Mapping[str, Any], step: Program) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Return a job's state and the figures of its epochs.

    Args:
        folder: The job's.
        about: What the job must have been made from.
        step: The step, lowered anew: its state must be the job's.

    Raises:
        ValueError: It is no job, is damaged, or was made from something else.
    """
    if not (folder / "job.json").exists():
        raise ValueError(f"{folder} holds no job: there is no job.json in it.")
    with reading(folder, "a job"):
        # The runner, which has to do without this package, believes its folder.
        content = json.loads(check_source(folder / "job.json", 2**26).read_text(encoding="utf-8"))
        programs, digests = (content.get(name) for name in ("programs", "digests"))
        if not (isinstance(programs, list) and all(isinstance(name, str) and name.isidentifier() for name in programs)):
            raise ValueError(f"its job.json has the programs {brief(programs)}")
        if not (isinstance(digests, dict) and digests.keys() == set(_checked(programs))):
            raise ValueError("its job.json has digests of other files, or lacks some")
        later = ["checkpoint.npz"] if os.path.lexists(folder / "checkpoint.npz") else []
        for path in (check_source(folder / name, _LARGEST) for name in (*digests, *later)):
            if path.suffix == ".npz":
                check_archive(path)
        found = run.Job(folder)
        state, history = found.load()
        _check_history(history, found.about["initial_epoch"])
    wanted = {"about": json.loads(json.dumps(about)), "onebit": __version__}
    for name, value in wanted.items():
        if found.about.get(name) != value:
            raise ValueError(f"{folder} is a job made from {brief(found.about.get(name), 400)}, not from {value!r}.")
    if found.step.state != step.state:
        raise ValueError(f"{folder} is a job of another network or optimizer.")
    return state, history


def _checked(programs: Iterable[str]) -> list[str]:
    """Return the names of the files whose digests are in a job.json."""
    return ["start.npz", "schedule.npz", *(f"{name}.{end}" for name in programs for end in ("mlir", "json"))]


def _check_history(history: Any, initial_epoch: int) -> None:
    """Raise `ValueError` unless these are the figures of the epochs after one, as `run.train` writes them."""
    rows = history if isinstance(history, list) else [history]
    for epoch, row in enumerate(rows, initial_epoch + 1):
        figures = row if isinstance(row, dict) else {}
        fine = all(name.isidentifier() and type(value) in (int, float) for name, value in figures.items())
        if not fine or figures.get("epoch") != epoch or not all(map(math.isfinite, figures.values())):
            raise ValueError(f"its checkpoint has the figures {brief(row)} in the place of epoch {epoch}")
