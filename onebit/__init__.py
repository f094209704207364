"""onebit: a zoo of 1-bit convolutional networks for Keras and Larq.

Larq is built on Keras 2, so importing this package selects it (``TF_USE_LEGACY_KERAS=1``) before TensorFlow is first
imported. Where TensorFlow came first with Keras 3, the import fails with a message that says what to do.

Keras finds the layers in our files once ``onebit.zoo`` has been imported. That happens as soon as Keras is imported, so
that ``import onebit`` alone is enough to open them.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


def _select_keras_2() -> None:
    """Choose Keras 2 for ``tf.keras``, or say why that is no longer possible.

    Raises:
        ImportError: TensorFlow was imported earlier in this process, with Keras 3.
    """
    if "tensorflow" in sys.modules:
        # `from tensorflow.keras import ...`, which Larq uses, is settled when TensorFlow is imported; the attribute
        # `tf.keras` only when it is first used. So it is the former that tells whether it is too late.
        keras = importlib.import_module("tensorflow.keras")
        if not keras.layers.Layer.__module__.startswith("tf_keras."):
            raise ImportError(
                f"onebit needs Keras 2, but TensorFlow was imported before onebit and uses Keras {keras.__version__}. "
                "Import onebit before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1 before Python "
                "starts."
            )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Imports the zoo after Keras 2, once, unless it, or Larq, is what has Keras imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "tf_keras":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                execute(module)
                _import_zoo()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _import_zoo() -> None:
    """Import the zoo, where nothing is being imported that the zoo itself needs."""
    if not {"larq", *(f"{__name__}.{part}" for part in ("quantizers", "zoo", "recipes"))} & sys.modules.keys():
        importlib.import_module(f"{__name__}.zoo")


_select_keras_2()
if "tf_keras" in sys.modules:
    _import_zoo()
else:
    sys.meta_path.insert(0, _AfterKeras())
