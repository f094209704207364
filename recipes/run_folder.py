"""A run's folder: what is run there and where it was begun, so that no other run writes into it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..util.files import check_source, check_target, reading, replacing
from ..util.formatting import brief
from ..util.lock import lock
from .training.records import writing

log = logging.getLogger(__name__)


def read_plan(output: Path) -> dict[str, Any]:
    """Return what the run in a folder was started with, and where, or nothing.

    Raises:
        ValueError: The file that says it is damaged.
    """
    path = output / "run.json"
    there = read_json(path) if os.path.lexists(path) else {}
    for name, kind in {"settings": dict, "environment": dict, "precision": str}.items():
        if not isinstance(there.get(name, kind()), kind):
            raise ValueError(f"{path} is damaged: its {name} is {brief(there[name])}. Choose another output folder.")
    return there


def check_folder(output: Path, plan: Mapping[str, Any], chief: bool) -> None:
    """Check that a run's folder is this run's, empty or absent.

    A run whose first epoch never ended counts as none. One whose checkpoints were deleted is still a run.

    Raises:
        ValueError: It is another run's, or nothing of a run, or the path is none that checkpoints can have.
    """
    if pattern := re.search(r"[*?\[\]]", str(output)):
        raise ValueError(
            f"output must be a path without {pattern[0]!r}, which TensorFlow takes for a pattern, not {str(output)!r}."
        )
    there, wanted = read_plan(output), json.loads(json.dumps(plan))
    there.pop("environment", None)
    if there and there != wanted and _trained(output):
        found, asked = _flat(there), _flat(wanted)
        different = [
            f"{name} {found.get(name)!r} instead of {asked.get(name)!r}"
            for name in {**asked, **found}
            if found.get(name) != asked.get(name)
        ]
        raise ValueError(f"{output} holds another run, with {'; '.join(different)}. Choose another output folder.")
    # Not counting what `replacing` leaves behind when it is killed.
    if chief and not there and any(path.name[0] != "." for path in output.glob("*")):
        raise ValueError(f"{output} is not empty and holds no run. Choose another output folder.")


def check_kinds(output: Path) -> None:
    """Raise `OSError` if anything in a run's folder is neither a file nor a folder: reading a pipe would never end."""
    if os.path.lexists(output) and not output.is_dir():
        raise OSError(f"{output} is no folder.")
    for path in output.rglob("*"):
        if not (path.is_file() or path.is_dir()):
            raise OSError(f"{path} is neither a file nor a folder. Choose another output folder.")


def start(folder: Path, plan: Mapping[str, Any]) -> None:
    """Start a run in its `working_dir`, or go on with it there: write its plan, and the environment it was begun in.

    Warns if it is to go on in another environment.
    """
    present, trained = _environment(), _trained(folder)
    environment = read_plan(folder).get("environment", present) if trained else present
    if environment != present:
        log.warning(
            "%s was begun with %s and goes on with %s: rounding will part its weights from an uninterrupted run's.",
            *(folder, _listed(environment), _listed(present)),
        )
    if not trained:
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    write_json(folder / "run.json", {**plan, "environment": environment})


def _trained(output: Path) -> bool:
    """Return whether an epoch of the run in a folder has ended."""
    return any((output / name).exists() for name in ("history.csv", "record.json")) or any(
        output.glob("checkpoints/*/*.index")
    )


def _environment() -> dict[str, Any]:
    """Return what decides, besides a run's plan, how its sums are rounded."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or available,
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "tensorflow": tf.__version__,
    }


def _listed(environment: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in environment.items())


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with its settings among the rest."""
    return {**{name: value for name, value in plan.items() if name != "settings"}, **plan.get("settings", {})}


@contextlib.contextmanager
def working_dir(output: Path, chief: bool) -> Iterator[Path]:
    """Yield the folder that a process writes to: the run's, or, but for the chief, a copy that nobody will miss.

    All workers must save what they have, for they put averages together only then.

    Raises:
        ValueError: Another process trains in the run's folder.
    """
    if chief:
        output.mkdir(parents=True, exist_ok=True)
        taken = f"Another process trains in {output}. Wait for its end, or choose another output folder."
        with lock(check_target(output / ".lock"), taken):
            yield output
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        if output.exists():
            shutil.copytree(output, folder, ignore=shutil.ignore_patterns("run.json", ".*"))
        folder.mkdir(exist_ok=True)
        yield folder


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of a run, or raise `ValueError`."""
    with reading(path):
        content = json.loads(check_source(path, 2**26).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object. Choose another output folder.")
        return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of a run in one step."""
    with writing(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
