"""Our training steps by JAX against plain PyTorch, eager and compiled, on one accelerator: a table in under 4 minutes.

    python benchmarks/accelerator.py --prepare FOLDER    # where this package is; no accelerator is needed
    python FOLDER/accelerator.py [--json FILE]           # where the accelerator is; needs jax, torch and NumPy alone

The folder takes about 2 MB; its weights are drawn anew where it runs. A step is what ``fit`` does with a batch:
ours with the recipe's augmentation and normalisation, PyTorch's (`torch_networks`) without them, on images that are
normalised already. Both have the recipe's loss (of the labels), optimizer and decay, their images on the device, and
float32 with TF32. Every cell is a process of its own: those of a wave build and compile side by side, then run in
turns, one at a time, and the table has the median of their rounds. What fails is said in one line; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CASES: dict[str, dict[str, Any]] = {
    # Steps in a window are whole calls of the runner; waves keep what is on the device at a time small.
    "reactnet_a": {
        "recipe": ["reactnet", {"model": "reactnet_a", "dataset": "imagenet2012", "teacher": "labels"}],
        "batch": 64,
        "steps": 20,
        "pool": 256,
        "wave": 0,
        "optimizer": ["Adam", {"lr": 1.25e-3}],
    },
    "irnet_resnet20": {
        "recipe": ["irnet", {}],
        "batch": 128,
        "steps": 195,
        "pool": 2048,
        "wave": 1,
        "optimizer": ["SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}],
    },
    "wide_resnet_20_4": {
        "recipe": ["mcdonnell", {"depth": 20, "width": 4.0}],
        "batch": 125,
        "steps": 100,
        "pool": 2000,
        "wave": 1,
        "optimizer": ["SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}],
    },
}
PRECISIONS = ("float32", "mixed_bfloat16")
WAYS = {"jax": "onebit, JAX", "eager": "PyTorch, eager", "compiled": "PyTorch, compiled"}
LARGE = 4096
"""Variables of more values than this are not kept, but drawn where the benchmark runs."""


def prepare(folder: Path, batch: int | None, names: Sequence[str]) -> None:
    """Lower the steps and write them, and what runs them, into a new folder."""
    import onebit  # noqa: F401, I001  (selects Keras 2 before TensorFlow is imported)
    import tensorflow as tf

    from onebit import recipes
    from onebit.recipes.backend import runner
    from onebit.recipes.backend.stage import LoweredStage
    from onebit.recipes.data.datasets import get_dataset
    from onebit.recipes.data.images import ArrayImages
    from onebit.recipes.run import computing_in
    from onebit.zoo import get_preprocessing
    from onebit.zoo.checkpoints.variables import latent_scope

    folder.mkdir(parents=True)
    cases = {}
    for name in names:
        case = dict(CASES[name])
        case["batch"] = batch or case["batch"]
        recipe = recipes.get_recipe(case["recipe"][0], **case["recipe"][1])
        dataset, stage = get_dataset(recipe.dataset), recipe.stages[-1]
        case |= {"shape": dataset.image_shape, "classes": dataset.num_classes}
        for precision in PRECISIONS:
            tf.keras.backend.clear_session()
            tf.keras.utils.set_random_seed(1)
            with latent_scope(), computing_in(precision):
                network = stage.build(dataset.num_classes, dataset.image_shape)
                optimizer = stage.optimizer(50_000 // case["batch"])
                optimizer.build(network.trainable_variables)
                network.compile(optimizer, stage.loss, metrics=[tf.keras.metrics.SparseCategoricalAccuracy("accuracy")])
                blank = np.zeros((case["batch"], *dataset.image_shape), np.uint8)
                lowered = LoweredStage(
                    stage,
                    network,
                    network,
                    ArrayImages(blank, np.zeros(len(blank), np.int64), dataset.num_classes),
                    batch_size=case["batch"],
                    seed=1,
                    preprocessing=get_preprocessing(recipe.preprocessing),
                    class_weights=None,
                )
            lowered.step.save(folder / f"{name}-{precision}")
            save_state(folder / f"{name}-{precision}.npz", lowered.state)
            print(f"{name} in {precision}", flush=True)
        cases[name] = case
    (folder / "cases.json").write_text(json.dumps(cases, indent=1), encoding="utf-8")
    sources = (HERE / "accelerator.py", HERE / "accelerator_worker.py", HERE / "torch_networks.py", runner.__file__)
    for source in map(Path, sources):
        shutil.copyfile(source, folder / source.name)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB. Where the accelerator is: python {folder.name}/accelerator.py")


def save_state(path: Path, state: Sequence[Any]) -> None:
    """Write a step's variables, of the large ones shape and spread alone."""
    arrays = {}
    for number, variable in enumerate(state):
        value = np.asarray(variable)
        drawn = value.size > LARGE and value.dtype.kind == "f"
        arrays[f"{number}/{'drawn' if drawn else 'value'}"] = (
            np.array([*value.shape, value.std()], np.float64) if drawn else value
        )
    np.savez_compressed(path, **arrays)


class Cell:
    """A process that builds, compiles and warms up one step, and then runs a window of it when asked."""

    def __init__(self, case: str, precision: str, way: str, options: argparse.Namespace) -> None:
        self.case, self.precision, self.way = case, precision, way
        self.error: str | None = None
        self.about: dict[str, Any] = {}
        self.windows: list[float] = []
        self.started = time.monotonic()
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said = ""
        environment = {
            **os.environ,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the others want memory, too
            "TORCHINDUCTOR_COMPILE_THREADS": "4",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        arguments = [case, precision, way, str(options.steps or 0)]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "accelerator_worker.py"), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(line)
            elif line.strip():  # what a library or the system says
                self._said = line.strip()
        self._lines.put(None)

    def answer(self, deadline: float) -> dict[str, Any]:
        """Return the process' next line; what went wrong is noted as ``error``, and the process ended."""
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line is None:
                found = {"error": f"the process ended with status {self._process.wait()}: {self._said[:300]}"}
            else:
                found = json.loads(line)
        except queue.Empty:
            found = {"error": f"out of time after {time.monotonic() - self.started:.0f} s"}
        if "error" in found:
            self.error = str(found["error"])
            self.close()
        return found

    def wait_until_ready(self, deadline: float) -> None:
        """Wait for the end of the warm-up."""
        self.about = self.answer(deadline)

    def run(self, deadline: float) -> None:
        """Run one window."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, which its answer says
        found = self.answer(deadline)
        if "seconds" in found:
            self.windows.append(found["seconds"])

    def close(self) -> None:
        """End the process, and with it what it holds on the device."""
        self._process.kill()
        self._process.wait()

    def result(self, batch: int) -> dict[str, Any]:
        """Return what was measured, or why nothing was."""
        row: dict[str, Any] = {"network": self.case, "precision": self.precision, "way": self.way, **self.about}
        if self.error is None and self.windows:
            middle = statistics.median(self.windows)
            row |= {
                "batch": batch,
                "milliseconds": round(1000 * middle, 4),
                "fastest": round(1000 * min(self.windows), 4),
                "slowest": round(1000 * max(self.windows), 4),
                "images_per_second": round(batch / middle, 1),
            }
        else:
            row["error"] = self.error or "not measured"
        return row


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all cells, wave by wave, and return their rows; the whole ends in ``--seconds``."""
    end = time.monotonic() + options.seconds
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    chosen = {name: case for name, case in cases.items() if options.only in name}
    waves = sorted({case["wave"] for case in chosen.values()})
    rows = []
    for number, wave in enumerate(waves):
        # An equal share of what is left, nine tenths of it to compile.
        share = (end - time.monotonic()) / (len(waves) - number)
        compiled_by, measured_by = time.monotonic() + 0.75 * share, time.monotonic() + share
        cells = [
            Cell(name, precision, way, options)
            for name, case in chosen.items()
            if case["wave"] == wave
            for precision in PRECISIONS
            for way in WAYS
        ]
        try:
            for cell in cells:
                cell.wait_until_ready(compiled_by)
            for _ in range(options.rounds):
                for cell in cells:
                    if cell.error is None and (not cell.windows or time.monotonic() < measured_by):
                        cell.run(min(measured_by + 5, end))
        finally:
            for cell in cells:
                cell.close()
        for cell in cells:
            rows.append(cell.result(chosen[cell.case]["batch"]))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row for people who wait."""
    said = row.get("error") or (
        f"{row['milliseconds']:.2f} ms ({row['fastest']:.2f} to {row['slowest']:.2f}), "
        f"{row['images_per_second']:,.0f} images/s, ready after {row.get('ready', 0):.0f} s"
    )
    return f"{row['network']}, {row['precision']}, {WAYS[row['way']]}: {said}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown: milliseconds of a step, images per second, and how many times as fast ours is."""
    devices = sorted({row["device"] for row in rows if "device" in row})
    versions = sorted({row["version"] for row in rows if "version" in row})
    heads = ["network", "batch", "precision", *WAYS.values(), "ours / eager", "ours / compiled"]
    used = ", ".join([*versions, f"Python {platform.python_version()}"])
    lines = [
        f"Measured on {', '.join(devices) or 'nothing'} with {used}.",
        "Milliseconds of a step, median (lowest to highest) of the rounds, and images per second.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * 3}{' --: |' * 5}",
    ]
    failed = []
    for name, precision in dict.fromkeys((row["network"], row["precision"]) for row in rows):
        here = {row["way"]: row for row in rows if (row["network"], row["precision"]) == (name, precision)}
        fields, times = [], {}
        for way in WAYS:
            row = here[way]
            if "error" in row:
                fields.append("failed")
                failed.append(line(row))
                continue
            times[way] = row["milliseconds"]
            spread = f"({row['fastest']:.2f} to {row['slowest']:.2f})"
            fields.append(f"{row['milliseconds']:.2f} {spread}, {row['images_per_second']:,.0f}/s")
        ratios = [f"{times[w] / times['jax']:.2f}" if {w, "jax"} <= times.keys() else "" for w in ("eager", "compiled")]
        batch = next((str(row["batch"]) for row in here.values() if "batch" in row), "")
        lines.append(f"| {' | '.join([f'`{name}`', batch, precision, *fields, *ratios])} |")
    remarks = [f"{line(row)}: {row['remark']}" for row in rows if row.get("remark")]
    return "\n".join([*lines, *([""] if failed or remarks else []), *failed, *remarks])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the folder, or measure in it."""
    form = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    form.add_argument("--prepare", type=Path, metavar="FOLDER", help="lower the steps into a new folder, and stop")
    form.add_argument("--batch", type=int, help="with --prepare: another batch than the recipes', for a trial")
    form.add_argument("--only", default="", metavar="TEXT", help="only networks whose name has this in it")
    form.add_argument("--steps", type=int, help="steps in a window, for a trial; by default as many as take a while")
    form.add_argument("--rounds", type=int, default=5, help="windows of each cell (default: %(default)s)")
    form.add_argument("--seconds", type=float, default=225.0, help="end within this time (default: %(default)s)")
    form.add_argument("--json", type=Path, metavar="FILE", help="write the rows as well")
    options = form.parse_args(arguments)
    if options.prepare:
        prepare(options.prepare, options.batch, [name for name in CASES if options.only in name])
        return
    if not (HERE / "cases.json").is_file():
        form.error(f"{HERE} has no prepared steps: --prepare FOLDER, then run FOLDER/{Path(__file__).name}")
    rows = measure(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
