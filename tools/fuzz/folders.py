"""Formats that are folders: datasets, runs and jobs; and texts of a run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from .exported import xml_lie
from .mutations import changed, damaged, in_its_place
from .pictures import save_image
from .readers import epoch_checkpoint, job_step

CLASSES = (b"\xff\xfe\0", bytes(10**6 + 1), b"a\n" * 500_000)
PLAN = json.dumps({"recipe": "irnet", "settings": {"epochs": 2}, "precision": "float32", "environment": {}})
HISTORY = "stage,epoch,loss,val_accuracy,seconds\nbinary,1,2.5,0.1,3.0\nbinary,2,2.0,0.2,3.0\n"


def prepare(folder: Path) -> None:
    """Write a small dataset of TFDS, by the tests' own means."""
    from onebit.recipes.data.datasets import DATASETS

    place = Path(__file__).resolve().parents[2] / "tests" / "recipes" / "prepared.py"
    found = importlib.util.spec_from_file_location("prepared", place)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    importlib.import_module("tensorflow_datasets").disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # TFDS says on the former what it does
        module.prepare(DATASETS["cifar10"], folder, 12)


def save_folders(folder: Path) -> None:
    """Write a folder of images for each of two classes."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for ending in (".png", ".jpg"):
            save_image(folder / name / f"1{ending}")


def save_run(folder: Path) -> None:
    """Write a run's folder after its second epoch."""
    folder.mkdir()
    (folder / "run.json").write_text(PLAN)
    _, checkpoint, history = epoch_checkpoint(folder)
    for epoch in range(2):
        history.on_epoch_begin(epoch)
        history.on_epoch_end(epoch, {"loss": 2.0 - epoch, "seconds": 3.0})
        checkpoint.on_epoch_end(epoch)


def save_job(folder: Path) -> None:
    """Write a job's folder after its second epoch."""
    import numpy as np

    from onebit.recipes.backend.job import write_job
    from onebit.recipes.backend.run import Job

    step = job_step()
    about = {"about": {"recipe": "any"}, "initial_epoch": 0}
    state = [np.ones((3, 3), np.float32), np.zeros(3, np.float32), np.int64(0)]
    schedule = {"learning_rate": np.ones((2, 4))}
    images = {"training": [np.zeros((8, 4, 4, 3)), np.arange(8)]}
    write_job(folder, about, {"step": step, "evaluation": step}, state, schedule, images)
    history = [{"epoch": epoch, "loss": 1.0, "learning_rate": 0.1, "seconds": 2.0} for epoch in (1, 2)]
    Job(folder).save(state, history)


def copies(sound: Path, hostile: Path, rng: random.Random) -> Iterator[str]:
    """Yield what is wrong with ``hostile``, a copy of a folder in which one file is another."""
    files = sorted(path.relative_to(sound) for path in sound.rglob("*") if path.is_file())
    odd = [(kind, path) for path in files for kind in ("pipe", "device")]
    while True:
        shutil.rmtree(hostile, ignore_errors=True)
        shutil.copytree(sound, hostile)
        if odd and rng.random() < 0.5:
            kind, name = odd.pop()
            (hostile / name).unlink()
            with in_its_place(kind, hostile / name):
                yield kind
            continue
        path = hostile / rng.choice(files)
        path.write_bytes(_other(path, rng))
        yield "damage"


def _other(path: Path, rng: random.Random) -> bytes:
    """Return other content for a file: with lies, where there are some for its kind, or damaged."""
    data = path.read_bytes()
    if rng.random() < 0.5:
        if path.suffix == ".json":
            return json.dumps(changed(json.loads(data), rng)).encode()
        if path.suffix == ".xml":
            return xml_lie(data, rng)
        if path.suffix.startswith(".tfrecord"):
            return struct.pack("<Q", rng.choice([2**62, 2**40, 0, len(data)])) + data[8:]
    return damaged(data, rng)
