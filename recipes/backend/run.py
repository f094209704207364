"""Trains a prepared job where JAX and NumPy are all there is: ``python FOLDER/run.py [--until EPOCH] [--for SECONDS]``.

The folder was written by ``onebit train ... --backend jax --prepare FOLDER``. After every epoch the state is saved in
``checkpoint.npz``, in one step, so that a run that is stopped at any moment goes on from there, on any machine. Bring
the folder back and give it to ``onebit train ... --collect FOLDER``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from ...util.lock import lock
    from ..data.order import epoch_order
    from .image_folder import ImageFolder
    from .runner import Program, Runner, batch_seeds, describe, evaluate, gather, jit, slices
else:  # in a job's folder, which has copies of them beside this file
    try:
        from image_folder import ImageFolder  # type: ignore[no-redef]
        from lock import lock  # type: ignore[no-redef]
        from order import epoch_order  # type: ignore[no-redef]
        from runner import Program, Runner, batch_seeds, describe, evaluate, gather, jit, slices  # type: ignore[no-redef]
    except ImportError as error:
        sys.exit(f"Error: {error}")

import jax  # where it is missing, the runner has said so

FORMAT = 2


class Job:
    """A job's folder.

    Args:
        folder: The folder.
        images: Where the images are, if they are not in the folder itself.

    Raises:
        ValueError: It is no job, one of another version, or a file in it is damaged.
        FileNotFoundError: A file of it is missing.
    """

    def __init__(self, folder: Path, images: Path | None = None) -> None:
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        if self.about.get("format") != FORMAT:
            raise ValueError(f"{folder} is a job of format {self.about.get('format')!r}; this runner runs {FORMAT}.")
        for name, digest in self.about["digests"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{folder / name} is damaged: its digest is not what job.json says.")
        self.programs = {name: Program.load(folder / name) for name in self.about["programs"]}
        self.step, self.evaluation = self.programs["step"], self.programs["evaluation"]
        with np.load(folder / "schedule.npz", allow_pickle=False) as file:
            self.schedule = {name: file[name] for name in file.files}
        self.images = images or folder

    def images_of(self, part: str) -> ImageFolder | tuple[np.ndarray, ...]:
        """Return the images of ``"training"``, ``"val"`` or ``"test"``: files, or `arrays`."""
        described = self.about["images"][part]
        if "folder" not in described:
            return self.arrays(part)
        if self.images == self.folder:
            raise ValueError(
                f"This job's images are files: --images FOLDER names where the folder {described['folder']!r} is, with "
                "a folder for each class in it."
            )
        count, *shape = described["shape"]
        host, crop = jax.local_devices(backend="cpu")[0], jax.jit(self.programs[f"{part}_crop"].function())

        def box(pixels: np.ndarray, seed: np.ndarray) -> dict[str, Any]:
            with jax.default_device(host):
                return crop([], pixels, seed)[1]

        some = self.about["about"]["limit"] is not None
        return ImageFolder(self.images / described["folder"], shape, described["classes"], count, some, box)

    def arrays(self, part: str) -> tuple[np.ndarray, ...]:
        """Return images, labels and perhaps weights of ``"training"``, ``"val"`` or ``"test"``, mapped from files."""
        names = [self.images / f"{part}_{what}.npy" for what in ("images", "labels", "weights")]
        images, *others = (np.load(name, mmap_mode="r", allow_pickle=False) for name in names if name.exists())
        wanted = self.about["images"][part]
        if list(images.shape) != wanted["shape"] or str(images.dtype) != wanted["dtype"]:
            raise ValueError(
                f"{self.images / f'{part}_images.npy'} holds {images.dtype} {images.shape}, and the job was made for "
                f"{wanted['dtype']} {tuple(wanted['shape'])}."
            )
        return images, *map(np.asarray, others)

    def load(self) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
        """Return the state and the figures of the epochs that are done."""
        path = self.folder / "checkpoint.npz"
        with np.load(path if path.exists() else self.folder / "start.npz", allow_pickle=False) as file:
            history = json.loads(str(file["history"])) if "history" in file.files else []
            return [file[f"state/{i}"] for i in range(len(self.step.state))], history

    def save(self, state: list[np.ndarray], history: list[dict[str, Any]]) -> None:
        """Replace the checkpoint, in one step."""
        temporary = self.folder / f".checkpoint.{os.getpid()}.npz"
        arrays = {f"state/{i}": value for i, value in enumerate(state)}
        try:
            np.savez(temporary, history=np.array(json.dumps(history)), **arrays)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / "checkpoint.npz")
        finally:
            temporary.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """Train a job's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", type=int, help="stop after this epoch, counted from 1")
    parser.add_argument("--for", type=float, dest="seconds", help="begin no epoch that would not end by then")
    parser.add_argument("--devices", type=int, help="how many devices share each batch; all by default")
    parser.add_argument("--images", type=Path, help="the folder of the images, if they are not here")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of several machines that train together, the first")
    parser.add_argument("--processes", type=int, help="how many they are; each has this folder, the first one's counts")
    parser.add_argument("--process", type=int, help="which of them this is, counted from 0")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        if options.coordinator:
            jax.distributed.initialize(options.coordinator, options.processes, options.process)
        job = Job(Path(__file__).resolve().parent, options.images)
        train(job, options.until, options.seconds, options.devices, began)
    except (ImportError, OSError, ValueError, ArithmeticError, MemoryError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"Error: {error}")


def train(job: Job, until: int | None, seconds: float | None, devices: int | None, began: float) -> None:
    """Run epochs until the job's end, the epoch ``until``, or the time is up.

    Raises:
        FloatingPointError: The loss or a weight is no longer a finite number.
        ValueError: Another process trains in the folder.
    """
    about, chief = job.about, jax.process_index() == 0
    runner = Runner(job.step, devices)
    epochs, steps = about["epochs"], about["steps"]
    last = min(epochs, until or epochs)
    batches = _training(job, runner)
    measured = {part: job.images_of(part) for part in about["measured"]}
    measure = jit(job.evaluation.function())
    kernels = job.programs.get("signs")
    find_signs = jit(kernels.function()) if kernels else None
    names = {name: i for i, name in enumerate(job.step.state)}

    def on_host(values: list[Any], wanted: Sequence[str]) -> list[np.ndarray]:
        return runner.get([values[names[name]] for name in wanted])

    def signs(values: list[Any]) -> list[np.ndarray]:
        found = find_signs(on_host(values, kernels.state))[1] if find_signs and kernels else {}
        return [np.asarray(each) for each in found.values()]

    taken = f"Another process trains in {job.folder}. Wait for its end."
    with lock(job.folder / ".lock", taken) if chief else contextlib.nullcontext():
        state, history = job.load()
        done = history[-1]["epoch"] if history else about["initial_epoch"]
        print(f"{about['about']['stage']}: epochs {done + 1} to {last} on {describe(devices)}", flush=True)
        values = runner.put(state)
        before, longest = signs(values), 0.0
        for epoch in range(done, last):
            started = time.monotonic()
            if seconds is not None and started - began + longest > seconds:
                break
            for name, every in job.schedule.items():
                if name in names:
                    values[names[name]] = runner.put([every[epoch].astype(state[names[name]].dtype)])[0]
            for name, place in names.items():
                if name.startswith("metrics/"):
                    values[place] = runner.put([np.zeros_like(state[place])])[0]
            shown = 0 if about["repeats"] else epoch
            seeds = batch_seeds(about["seed"], shown, steps)
            rates = job.schedule["learning_rate"][epoch]
            values, figures = runner.epoch(values, batches(shown), seeds, rates, _watch(epoch))
            if kernels:
                now = signs(values)
                flipped = sum(int((a != b).sum()) for a, b in zip(now, before, strict=True))
                figures["flip_ratio"] = flipped / sum(each.size for each in now)
                before = now
            if about["milestones"] is None or epoch + 1 in about["milestones"] or epoch + 1 == epochs:
                network, size = on_host(values, job.evaluation.state), about["evaluation_batch"]
                for prefix, images in measured.items():
                    parts = (
                        images.in_order(size) if isinstance(images, ImageFolder) else slices(images[0], images[1], size)
                    )
                    found = evaluate(measure, network, parts, size)
                    figures |= {f"{prefix}_{name}": value for name, value in found.items()}
            weights = on_host(values, [name for name in names if name.startswith("network/")])
            total = sum(float(np.sum(each, dtype=np.float64)) for each in weights)
            _check_finite(epoch, figures | {"the sum of the weights": total})
            rate, took = float(rates[-1]), time.monotonic() - started
            history.append({"epoch": epoch + 1, **figures, "learning_rate": rate, "seconds": round(took, 2)})
            if chief:
                job.save(runner.get(values), history)
                print(_row(history[-1]), flush=True)
            # The first epoch compiles.
            longest = max(time.monotonic() - started, longest if epoch > done + 1 else 0.0)
    if history and history[-1]["epoch"] == epochs and chief:
        print(f"Done: {epochs} epochs. Bring the folder back for onebit train ... --collect {job.folder.name}")


def _training(job: Job, runner: Runner) -> Callable[[int], Iterable[tuple[Any, ...]]]:
    """Return a function of an epoch's number that yields its batches, as `Runner.epoch` takes them."""
    steps, batch, seed = job.about["steps"], job.about["batch"], job.about["seed"]
    images = job.images_of("training")
    parts = [] if isinstance(images, ImageFolder) else runner.hold(images)

    def batches(epoch: int) -> Iterable[tuple[Any, ...]]:
        count, *shape = job.about["images"]["training"]["shape"]
        order = epoch_order(count, seed, epoch)[: steps * batch].reshape(steps, batch)
        if isinstance(images, ImageFolder):
            return gather(images.batches(order, (seed, epoch)), runner.streamed(steps, batch * math.prod(shape)))
        return runner.chunks(parts, order)

    return batches


def _watch(epoch: int) -> Callable[[int, Mapping[str, Any]], None]:
    """Return what checks an epoch's figures after each call, one call late: then they are there, and nothing waits."""
    earlier: Mapping[str, Any] = {}

    def progress(done: int, results: Mapping[str, Any]) -> None:
        nonlocal earlier
        _check_finite(epoch, earlier)
        earlier = results

    return progress


def _check_finite(epoch: int, figures: Mapping[str, Any]) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} is {float(value)} in epoch {epoch + 1}. The last completed epoch is kept; prepare another "
                "job, with a lower learning rate or in float32."
            )


def _row(row: dict[str, Any]) -> str:
    parts = [f"epoch {row['epoch']}", f"{row['seconds']:.1f} s"]
    parts += [f"{name} {value:.4f}" for name, value in row.items() if name not in ("epoch", "seconds")]
    return "  ".join(parts)


if __name__ == "__main__":
    main()
