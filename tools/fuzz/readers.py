"""What reads files from outside, in a process of its own: for each line on standard input a file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import onebit  # noqa: F401  (selects Keras 2, and so comes before TensorFlow)

Reader = Callable[[Path], object]
"""Reads a file, and returns what tells its content from others'."""


@functools.cache
def network() -> Any:
    """Return the network whose files are made and read."""
    from onebit import zoo

    return zoo.WideResNet(depth=8, width=1)


@functools.cache
def official() -> Any:
    """Return a network that official PyTorch checkpoints are for."""
    from onebit import zoo

    return zoo.load("irnet_resnet20")


def weights(path: Path) -> object:
    """Load a file into the network."""
    from onebit import zoo

    zoo.load_weights(network(), path)
    return network().get_weights()


def packed(path: Path) -> object:
    """Build the network that a packed file describes."""
    from onebit import zoo

    return zoo.load_packed(path).get_weights()


def pytorch(path: Path) -> object:
    """Load an official checkpoint."""
    from onebit import zoo

    zoo.load_weights(official(), path)
    return official().get_weights()


def teacher(path: Path) -> object:
    """Open a teacher."""
    from onebit.recipes.training.teachers import load_teacher

    return load_teacher(str(path), "0_255").get_weights()


def image(path: Path) -> object:
    """Read an image."""
    from onebit import zoo

    return zoo.read_images([path], (32, 32))


def dataset(path: Path) -> object:
    """Read labelled images: an .npz file, or a folder."""
    from onebit.cli.sources import open_dataset

    return list(open_dataset(str(path)).batches((8, 8)))


def tfds(path: Path) -> object:
    """Read a prepared TensorFlow dataset, whose folder is ``cifar10`` in this one."""
    from onebit.cli.sources import open_dataset

    return list(open_dataset("cifar10", data_dir=str(path)).batches((32, 32)))


def classes(path: Path) -> object:
    """Read a list of class names."""
    from onebit.cli.loading import read_class_names

    return read_class_names(str(path))


def history(path: Path) -> object:
    """Read the history of a run."""
    from onebit.recipes.training.records import read_history

    return read_history(path)


def plan(path: Path) -> object:
    """Read the plan of a run."""
    from onebit.recipes.run_folder import read_json

    return read_json(path)


def run_folder(path: Path) -> object:
    """Go on with a run in its folder, as far as its first epoch."""
    from onebit.recipes.run_folder import check_kinds, read_plan

    check_kinds(path)
    settings = read_plan(path)
    network, checkpoint, history = epoch_checkpoint(path)
    checkpoint.restore()
    return settings, network.get_weights(), checkpoint.epoch, history.rows


def epoch_checkpoint(folder: Path) -> tuple[Any, Any, Any]:
    """Return a small network, what checkpoints it in a run's folder, and that run's history."""
    import tensorflow as tf

    from onebit.recipes.training.records import CSVHistory, EpochCheckpoint

    network = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(network.trainable_variables)
    network.compile(optimizer, "mse")
    history = CSVHistory(folder / "history.csv", "binary")
    found = EpochCheckpoint(folder / "checkpoints" / "binary", network, optimizer, history, folder / "best.weights.h5")
    found.set_model(network)
    history.set_model(network)
    return network, found, history


def job(path: Path) -> object:
    """Read what a job has come to elsewhere."""
    from onebit.recipes.backend.job import read_job

    return read_job(path, {"recipe": "any"}, job_step())


def job_step() -> Any:
    """Return a training step of three variables."""
    from onebit.recipes.backend.runner import Program

    state, scalar = ("kernel", "bias", "optimizer/iterations"), ((), "float32")
    kinds = (((3, 3), "float32"), ((3,), "float32"), ((), "int64"))
    return Program(bytes(100), (scalar, *kinds), (scalar, *kinds), 1, state, ((1, 0), (2, 1), (3, 2)), ("loss",))


def exported(path: Path) -> object:
    """Run an exported network on two images; OpenVINO's two files are in a folder."""
    import numpy as np

    from onebit import zoo

    predict = zoo.compile(path / "network.xml" if path.is_dir() else path, threads=1)
    return predict(np.random.default_rng(0).standard_normal((2, *predict.input_shape[1:])))


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (weights, packed, pytorch, teacher, image, dataset, tfds, classes, history, plan, run_folder, job)
} | {"exported": exported}


def _digest(value: Any) -> bytes:
    """Return what tells one content from others: arrays, in lists and dictionaries."""
    if hasattr(value, "tobytes"):
        return value.tobytes()
    if isinstance(value, list | tuple):
        return b"".join(map(_digest, value))
    return repr(value).encode(errors="replace")


def _memory(name: str) -> int:
    """Return a figure of /proc/self/status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _processor_seconds() -> float:
    """Return what this process has taken of the processor, and those that it has started and that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    """Read the files that are named on standard input, and say on standard output what came of each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        reader, path = json.loads(line)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        memory, seconds = _memory("VmRSS"), _processor_seconds()
        result: dict[str, Any]
        try:
            content = hashlib.sha256(_digest(READERS[reader](Path(path)))).hexdigest()
            result = {"outcome": "accepted", "content": content}
        except Exception as error:
            result = {"outcome": "refused", "message": str(error), "type": type(error).__name__}
            # The command line's own are of click.
            result["right"] = isinstance(error, ValueError | OSError | ImportError | click.ClickException)
        result |= {"seconds": _processor_seconds() - seconds, "bytes": _memory("VmHWM") - memory}
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    # Modules beside this one have names of libraries'.
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).resolve().parent)]
    main()
