"""Shared fixtures: the Keras 2 switch comes first, and what lies outside the repository may be absent."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import onebit  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_datasets.core import community
from tensorflow_datasets.core.utils import gcs_utils

from onebit.util.memory import release_custom_gradients
from onebit.zoo import building

# A second logical device lets MirroredStrategy run on any machine. It has to exist before TensorFlow's first operation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# What was imported stays: the garbage collector need not go through it after every test.
gc.freeze()

HERE = Path(__file__).resolve().parent
GOLDENS = HERE / "goldens"
SHARED = HERE.parents[1] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """TensorFlow Datasets asks its bucket for prepared datasets, and an index of other people's for names."""
    register = community.community_register
    register = register() if callable(register) else register  # a function since TFDS 4.9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcs_utils, "_is_gcs_disabled", True)
        patch.setattr(register, "list_builders", list)
        patch.setattr(register, "has_namespace", lambda name: False)
        yield


@pytest.fixture(autouse=True)
def _fresh_keras_state(request):
    """Every test starts without Keras' global state, with the same random numbers, and with the default dtypes."""
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(1)
    # An error inside a layer's call leaves Larq's quantized scope open, where weights read as quantized.
    with lq.context.quantized_scope(False):
        yield
    tf.keras.backend.set_floatx("float32")
    tf.keras.mixed_precision.set_global_policy("float32")
    # Large models are let go of, but for the one that the tests of a registered model share.
    if request.node.get_closest_marker("slow") and "name" not in request.fixturenames and is_large():
        release_custom_gradients()


def is_large() -> bool:
    """Return whether this process has more than 2 GB of memory, as far as Linux tells."""
    statistics = Path("/proc/self/statm")
    return not statistics.exists() or int(statistics.read_text().split()[1]) * resource.getpagesize() > 2e9


@pytest.fixture(scope="session")
def strategy() -> tf.distribute.MirroredStrategy:
    """Two replicas, each on its own logical device of the CPU."""
    # The default all-reduce of CPUs, by collectives, cannot serve a second model in one process.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.fixture
def float64():
    """Run the test in float64, as the golden vectors were."""
    tf.keras.backend.set_floatx("float64")
    tf.keras.mixed_precision.set_global_policy("float64")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation's site, built without a warning."""
    for package in ("material", "mkdocstrings"):
        pytest.importorskip(package, reason="pip install '.[docs]'")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, env=environment)
    if missing := re.search(r"The site needs npm .*|npm could not fetch .*", result.stderr):
        pytest.skip(missing[0])
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def shared(*parts: str) -> Path:
    """Return a path under the shared folder, or skip the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(('shared', *parts))}, which is not part of the repository")
    return path


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of golden vectors."""
    return GOLDENS


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The reader of the golden vectors."""
    from tests.goldens import reference

    return reference


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


@pytest.fixture
def shallow() -> Iterator[tuple[int, ...]]:
    """See `shallow_networks`."""
    with shallow_networks() as convs:
        yield convs
