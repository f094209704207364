"""What a loop of loading a network, predicting and forgetting it adds to the memory of a process, beside plain Keras.

    python benchmarks/memory.py [--rounds 30]

Each row is a process of its own; the figure is resident memory in MB that a round of the second half adds.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = np.zeros((8, 32, 32, 3), np.float32)


def ours() -> Any:
    """Return a network of the zoo."""
    from onebit import zoo

    return zoo.WideResNet(depth=8, width=1)


def plain() -> Any:
    """Return a network of as many of Keras' own layers."""
    from onebit import zoo  # noqa: F401  (chooses Keras 2)
    import tensorflow as tf  # isort: skip

    layers = tf.keras.layers
    network = tf.keras.Sequential([tf.keras.Input((32, 32, 3))])
    for _ in range(7):
        for layer in (layers.Conv2D(16, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()):
            network.add(layer)
    network.add(layers.GlobalAveragePooling2D())
    return network


def by_predict(network: Any) -> None:
    """Predict by a function that Keras compiles for each network."""
    network.predict(IMAGES, verbose=0)


def eagerly(network: Any) -> None:
    """Predict layer by layer."""
    network(IMAGES, training=False)


def clear_session() -> None:
    """Let Keras forget its global state."""
    import tensorflow as tf

    tf.keras.backend.clear_session()


def release() -> None:
    """Let TensorFlow forget the graphs of custom gradients."""
    from onebit import recipes

    recipes.release_custom_gradients()


Row = tuple[Callable[[], Any], Callable[[Any], None], tuple[Callable[[], None], ...]]
ROWS: dict[str, Row] = {
    "ours, with predict": (ours, by_predict, ()),
    "ours, with predict and release_custom_gradients()": (ours, by_predict, (release,)),
    "ours, called eagerly, with clear_session() and release_custom_gradients()": (
        ours,
        eagerly,
        (clear_session, release),
    ),
    "plain Keras, with predict": (plain, by_predict, ()),
    "plain Keras, with predict and clear_session()": (plain, by_predict, (clear_session,)),
}


def resident() -> float:
    """Return this process' resident memory in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(row: Row, rounds: int) -> float:
    """Return what a round of the second half adds, in MB."""
    build, predict, forget = row
    half = 0.0
    for number in range(rounds):
        if number == rounds // 2:
            half = resident()
        predict(build())
        for each in forget:
            each()
    return (resident() - half) / (rounds - rounds // 2)


def main() -> None:
    """Measure each row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--row", choices=ROWS, help="this one only, in this process")
    options = parser.parse_args()
    if options.row:
        print(f"{measure(ROWS[options.row], options.rounds):.2f}")
        return
    print("| loading, predicting 8 images, forgetting | MB a round |\n|---|--:|")
    for name in ROWS:
        command = [sys.executable, __file__, "--rounds", str(options.rounds), "--row", name]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        figure = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
        print(f"| {name} | {figure.strip()} |", flush=True)


if __name__ == "__main__":
    main()
