"""What tests share beside fixtures. Importing it selects Keras 2, and sets up TensorFlow's devices."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import onebit  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
import numpy as np
import pytest
import tensorflow as tf

from onebit.zoo import building

# A second logical device lets MirroredStrategy run on any machine. It has to exist before TensorFlow's first operation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

HERE = Path(__file__).resolve().parent
GOLDENS = HERE / "goldens"
SHARED = HERE.parents[1] / "shared"


def shared(*parts: str) -> Path:
    """Return a path under the shared folder, or skip the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(('shared', *parts))}, which is not part of the repository")
    return path


def is_large() -> bool:
    """Return whether this process has more than 2 GB of memory, as far as Linux tells."""
    statistics = Path("/proc/self/statm")
    return not statistics.exists() or int(statistics.read_text().split()[1]) * resource.getpagesize() > 2e9


def assert_golden(actual: object, golden: np.ndarray, tolerance: float = 1e-9) -> None:
    """Assert agreement by the golden vectors' own rule, max|a - b| <= tolerance * max|b|."""
    actual = np.asarray(actual)
    assert actual.shape == golden.shape
    assert np.max(np.abs(actual - golden), initial=0) <= tolerance * np.max(np.abs(golden), initial=0)


def value_and_gradients(function, x, g, variables=()) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the value of ``function`` at ``x``, and the gradients of sum(value * g) for ``x`` and ``variables``."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        loss = tf.reduce_sum(y * g)
    dx, gradients = tape.gradient(loss, (x, list(variables)))
    return y.numpy(), dx.numpy(), [gradient.numpy() for gradient in gradients]


def start_python(script: str, *arguments: object, **environment: str) -> subprocess.Popen:
    """Run a script that imports from ``tests`` in a process of its own; its output is in ``stdout``."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def shallow_networks() -> Iterator[tuple[int, ...]]:
    """Take two thirds of the blocks out of the networks with 20 layers; yield how many convolutions each stage has."""
    spec = building.ResNetSpec("cifar", (16, 32, 64), (2, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        for module in (building, building.resnet):
            patch.setattr(module, "CIFAR_20", spec)
        yield spec.convs
