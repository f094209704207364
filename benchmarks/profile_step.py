"""Where the time of a training step or a prediction goes, and how near its convolutions come to the machine's limit.

    python benchmarks/profile_step.py [irnet_resnet20] [--batch 128] [--task train] [--precision float32] [--json]

TensorFlow's profiler, over some steps after a warm-up. TensorFlow runs two operations at once where it can, each on all
processors; `share` is of the time that its threads were busy. The limit is the time that the step's convolutions would
take at the speed of a large matrix product of the same precision, and nothing else any time at all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onebit import zoo

# isort: split
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from speed_worker import keras_step

# What the profiler has in place of the name of an operation that does not block.
ASYNCHRONOUS = "ProcessAsync::Start"
# The first of these that an operation's type contains says what it is.
KINDS = {
    "Conv2DBackpropInput": "convolution, gradient of the input",
    "Conv2DBackpropFilter": "convolution, gradient of the kernel",
    "Conv2D": "convolution",
    "BatchNorm": "batch normalisation",
    ASYNCHRONOUS: "compiled by XLA: quantizers and activations",
    "Pool": "pooling",
    "Sign": "sign",
    "Slice": "padding, slices and concatenation",
    "Pad": "padding, slices and concatenation",
    "Concat": "padding, slices and concatenation",
    "Add": "sums: shortcuts and their gradients",
    "MatMul": "matrix products",
    "ResourceApply": "optimizer",
}
OTHER = "other"


def busy_milliseconds(folder: Path) -> Counter[str]:
    """Return how long TensorFlow's threads were busy with operations of each kind, from the profile in a folder."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    times: Counter[str] = Counter()
    for file in folder.rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(file.read_bytes()).planes:
            names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
            for line in plane.lines:
                if not line.name.startswith("tf_Compute"):
                    continue
                for event in line.events:
                    name = names[event.metadata_id]
                    if "::" in name and ASYNCHRONOUS not in name:
                        continue  # what runs the operations
                    operation = ASYNCHRONOUS if ASYNCHRONOUS in name else name.rpartition(":")[2]
                    kind = next((kind for part, kind in KINDS.items() if part in operation), OTHER)
                    times[kind] += event.duration_ps / 1e9
    return times


def matrix_product_speed(dtype: tf.DType, size: int = 2048) -> float:
    """Return the multiply-accumulates per second of a large matrix product."""
    x = tf.cast(tf.random.normal([size, size]), dtype)
    return size**3 / seconds(lambda: tf.linalg.matmul(x, x).numpy(), 7)


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the median of a function's times, after a first call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def profile(model: str, task: str, precision: str, batch: int, steps: int) -> dict[str, Any]:
    """Return the milliseconds of a step by kind of operation, and those at the machine's limit."""
    entry, counts = zoo.entry(model), zoo.recorded_counts()[model]
    classes = 10 if entry.native_shape[0] < 100 else 1000
    step = keras_step({
        "model": model, "task": task, "precision": precision, "batch": batch, "source": "onebit",
        "shape": entry.native_shape, "classes": classes,
    })  # fmt: skip
    taken = seconds(step, steps)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        busy = busy_milliseconds(Path(folder))
    macs = (counts.binary_macs + counts.float_macs) * batch * (3 if task == "train" else 1)
    speed = matrix_product_speed(tf.as_dtype(tf.keras.mixed_precision.Policy(precision).compute_dtype))
    return {
        "model": model,
        "task": task,
        "precision": precision,
        "batch": batch,
        "milliseconds": 1000 * taken,
        "limit_milliseconds": 1000 * macs / speed,
        "matrix_product_gflops": 2 * speed / 1e9,
        "busy_milliseconds": {kind: time / steps for kind, time in busy.most_common()},
    }


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="irnet_resnet20", help="(default: irnet_resnet20)")
    parser.add_argument("--batch", type=int, default=128, help="(default: 128)")
    parser.add_argument("--task", choices=["train", "predict"], default="train", help="(default: train)")
    parser.add_argument("--precision", default="float32", help="a Keras policy (default: float32)")
    parser.add_argument("--steps", type=int, default=5, help="how many steps (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, not {options.steps}")
    row = profile(options.model, options.task, options.precision, options.batch, options.steps)
    if options.json:
        print(json.dumps(row, indent=2))
        return
    total = sum(row["busy_milliseconds"].values())
    table = Table("operations", "busy, ms a step", "share")
    for kind, milliseconds in row["busy_milliseconds"].items():
        table.add_row(kind, f"{milliseconds:.1f}", f"{milliseconds / total:.1%}")
    Console().print(table)
    taken, limit = row["milliseconds"], row["limit_milliseconds"]
    print(f"{row['model']}, {row['task']}, batch {row['batch']}, {row['precision']}: {taken:.0f} ms a step.")
    print(
        f"Its convolutions alone, at the speed of a matrix product ({row['matrix_product_gflops']:.0f} GFLOP/s): "
        f"{limit:.0f} ms, {limit / taken:.0%} of it."
    )


if __name__ == "__main__":
    main()
