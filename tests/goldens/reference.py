"""Reads the golden vectors beside this file, and draws the weights and inputs that they were recorded with.

The ``.npz`` files hold outputs and gradients alone. Weights, inputs, cotangents and the places of probes follow rules
(README.md), each with a random generator of its own; NumPy suffices.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SEED = 1
INPUT_STREAM, COTANGENT_STREAM, PROBE_STREAM = 7, 8, 9
PROBE_SIZE = 64


def load_manifest(path: str | Path) -> dict[str, Any]:
    """Read a model's manifest, ``NAME.json``."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def draw(entry: dict[str, Any], seed: int = SEED) -> np.ndarray:
    """Return the value of an item of a manifest's ``state_dict``, float64 but holding float32 numbers."""
    name, kind, shape = entry["name"], entry["kind"], tuple(entry["shape"])
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if kind == "bn_count":
        return np.zeros(shape, np.int64)
    if kind in ("conv_weight", "linear_weight"):
        value = rng.standard_normal(shape) * math.sqrt(2 / entry["fan_in"])
    elif kind in ("bn_weight", "bn_var", "learnable_scale"):
        value = rng.uniform(0.5, 1.5, shape)
    elif kind in ("bn_bias", "bn_mean", "learnable_bias", "linear_bias"):
        value = 0.1 * rng.standard_normal(shape)
    elif kind == "prelu_weight":
        value = rng.uniform(0.1, 0.4, shape)
    else:
        raise ValueError(f"{name}: unknown kind {kind!r}")
    return np.asarray(value * entry.get("scale", 1.0)).astype(np.float32).astype(np.float64)


def state_dict(manifest: str | Path, seed: int = SEED) -> dict[str, np.ndarray]:
    """Return the official state dict that a model was recorded with, in its order."""
    return {entry["name"]: draw(entry, seed) for entry in load_manifest(manifest)["state_dict"]}


def example_input(manifest: str | Path, seed: int = SEED, layout: str = "NCHW") -> np.ndarray:
    """Return the recorded input batch; it is drawn as NCHW, and transposed for ``layout="NHWC"``."""
    x = np.random.default_rng([seed, INPUT_STREAM]).standard_normal(load_manifest(manifest)["input_shape"])
    return {"NCHW": x, "NHWC": np.ascontiguousarray(x.transpose(0, 2, 3, 1))}[layout]


def cotangent(shape: tuple[int, ...], seed: int = SEED) -> np.ndarray:
    """Return R: the recorded gradients are those of sum(logits * R)."""
    return np.random.default_rng([seed, COTANGENT_STREAM]).standard_normal(shape)


def probe(array: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Return 64 entries of an array, and behind them its sum of squares: (65,)."""
    flat = np.ascontiguousarray(array, dtype=np.float64).ravel()
    places = np.random.default_rng([seed, PROBE_STREAM]).integers(0, flat.size, PROBE_SIZE)
    return np.append(flat[places], np.square(flat).sum())


def save_checkpoint(path: str | Path, manifest: str | Path, seed: int = SEED) -> None:
    """Write the state dict as the papers' training scripts do: float32, with ``module.`` before each name.

    Needs PyTorch.
    """
    import torch

    tensors = {}
    for name, value in state_dict(manifest, seed).items():
        tensors[f"module.{name}"] = torch.tensor(value if value.dtype == np.int64 else value.astype(np.float32))
    torch.save({"epoch": 0, "state_dict": tensors, "best_top1_acc": 0.0}, str(path))
