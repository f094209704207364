"""Shared fixtures. What they need is imported by them: a process that only hands tests out does without TensorFlow."""

from __future__ import annotations

import gc
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import tensorflow as tf

HERE = Path(__file__).resolve().parent


def pytest_sessionstart(session: pytest.Session) -> None:
    """Set TensorFlow up before a test is imported, but not where others run the tests."""
    if not session.config.getoption("numprocesses", None):
        importlib.import_module("tests.helpers")


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not go through it after every test."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """TensorFlow Datasets asks its bucket for prepared datasets, and an index of other people's for names."""
    from tensorflow_datasets.core import community
    from tensorflow_datasets.core.utils import gcs_utils

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
    import larq as lq
    import tensorflow as tf

    from onebit.util.memory import release_custom_gradients
    from tests.helpers import is_large

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


@pytest.fixture(scope="session")
def strategy() -> tf.distribute.MirroredStrategy:
    """Two replicas, each on its own logical device of the CPU."""
    import tensorflow as tf

    # The default all-reduce of CPUs, by collectives, cannot serve a second model in one process.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.fixture
def float64():
    """Run the test in float64, as the golden vectors were."""
    import tensorflow as tf

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


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of golden vectors."""
    return HERE / "goldens"


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The reader of the golden vectors."""
    from tests.goldens import reference

    return reference


@pytest.fixture
def shallow() -> Iterator[tuple[int, ...]]:
    """See `shallow_networks`."""
    from tests.helpers import shallow_networks

    with shallow_networks() as convs:
        yield convs
