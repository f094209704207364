"""The published weights of McDonnell's 1-bit-per-weight Wide ResNets: MATLAB files, in two layouts.

The official Keras code's files hold an array of 0 and 1 for each convolution and the batch normalisations' variances.
The official MATLAB code's files hold deviations in their place, and belong to a network that pads symmetrically and
applies ReLU to the normalised input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...util.files import reading
from .base import Checkpoint
from .mat_file import read_mat
from .variables import assign

EPSILON = 1e-5
"""Of all batch normalisations of the official code; the deviations in MATLAB's files contain it."""


class McDonnellMat(Checkpoint):
    """A ``.mat`` file of `github.com/McDonnell-Lab/1-bit-per-weight`.

    Args:
        path: The file.
        function: The zoo's function that asks, or ``None`` for any; only `WideResNet` has such files.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """

    input_shape = (32, 32, 3)
    preprocessing = "0_255"

    def __init__(self, path: Path, function: str | None) -> None:
        self.source = str(path)
        if function not in (None, "WideResNet"):
            raise ValueError(f"{path} is a MATLAB file, which only WideResNet has; {function} cannot load it.")
        with reading(path, "one of McDonnell's weight files"):
            arrays = read_mat(path)
            is_matlab = "BinaryWeights" in arrays
            self._kernels, self._norms = (_matlab_layout if is_matlab else _keras_layout)(arrays)
        self.sizes = {
            **{f"kernel {i}": kernel.size for i, kernel in enumerate(self._kernels)},
            **{f"norm {i} {part}": value.size for i, norm in enumerate(self._norms) for part, value in norm.items()},
        }
        self.num_classes = self._kernels[-1].shape[-1]
        self.arguments: dict[str, Any] = {
            "depth": len(self._kernels),
            "width": self._kernels[0].shape[-1] // 16,
            "padding": "symmetric" if is_matlab else "same",
            "input_relu": is_matlab,
            "activation": "relu",
            "learned_norm": False,
            "quantized": True,
        }

    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        depth = self.arguments["depth"]
        values = {f"{name}/kernel": kernel for name, kernel in zip(conv_names(depth), self._kernels, strict=True)}
        for name, norm in zip(norm_names(depth), self._norms, strict=True):
            values.update({f"{name}/{part}": value for part, value in norm.items()})
        assign(model, values, self.source, new_top=new_top)


def conv_names(depth: int) -> list[str]:
    """Return the names of the CIFAR network's convolutions, from the input to the logits."""
    blocks = [f"stage{s}_block{b}" for s in (1, 2, 3) for b in range(1, (depth - 2) // 6 + 1)]
    return ["stem_conv", *(f"{block}_conv{i}" for block in blocks for i in (1, 2)), "logits_conv"]


def norm_names(depth: int) -> list[str]:
    """Return the names of its batch normalisations, each before the convolution of the same index, and the last one."""
    blocks = [f"stage{s}_block{b}" for s in (1, 2, 3) for b in range(1, (depth - 2) // 6 + 1)]
    return ["input_bn", *(f"{block}_{i}_bn" for block in blocks for i in (1, 2)), "head_bn", "logits_bn"]


def _keras_layout(arrays: dict[str, Any]) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]]]:
    """Sort the arrays by what they are: their names are running counters, but their order is the layers'."""
    numbers = [array for array in arrays.values() if isinstance(array, np.ndarray)]
    kernels = [_kernel(bits[0]) for bits in numbers if bits.ndim == 5]
    moments = [rows.astype(np.float32) for rows in numbers if rows.ndim == 2]
    _check_counts(kernels, moments)
    if moments[0].shape[0] != 4:
        raise ValueError(f"the first normalisation has the shape {moments[0].shape} instead of (4, channels)")
    (gamma, beta, mean, variance), *others = moments
    first = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    return kernels, [first, *({"moving_mean": m[0], "moving_variance": m[1]} for m in others)]


def _matlab_layout(arrays: dict[str, Any]) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]]]:
    kernels = [_kernel(bits) for bits in arrays["BinaryWeights"]]
    _check_network(arrays, kernels)
    moments = [cell.astype(np.float32) for cell in arrays["Moments"]]
    _check_counts(kernels, moments)
    # MatConvNet's deviation already contains epsilon.
    norms = [{"moving_mean": m[:, 0], "moving_variance": np.square(m[:, 1]) - np.float32(EPSILON)} for m in moments]
    gamma, beta = arrays["BNG"][0], arrays["BNB"][0]
    norms[0].update(gamma=gamma.ravel().astype(np.float32), beta=beta.ravel().astype(np.float32))
    return kernels, norms


def _check_network(arrays: dict[str, Any], kernels: list[np.ndarray]) -> None:
    """Tell the residual network from others that the repository keeps in this layout, such as the plain ones."""
    sums = sum("".join(map(chr, kind.ravel())) == "Residual_sum" for kind in arrays["LayerTypes"])
    if sums != len(kernels) // 2:  # one for each block, and one after the stem
        raise ValueError(f"it is another network: {len(kernels)} convolutions have {sums} residual sums")
    scales = [np.abs(kernel).max() for kernel in kernels]
    if not np.allclose(arrays["LayerWeights"].ravel(), scales, rtol=1e-5):
        raise ValueError("it is another network: its constants are not the square root of 2 over a filter's weights")


def _check_counts(kernels: list[np.ndarray], moments: list[np.ndarray]) -> None:
    n = len(kernels)
    if len(moments) != n + 1 or n < 8 or n % 6 != 2:
        raise ValueError(f"it holds {n} convolutions and {len(moments)} normalisations, not 6n + 2 and one more")


def _kernel(bits: np.ndarray) -> np.ndarray:
    """Return latent weights, (kh, kw, in, out), of the quantized magnitude, from bits of the same shape."""
    if bits.ndim != 4 or not np.isin(bits, (0, 1)).all():
        raise ValueError(f"a convolution's weights must be 4-D and 0 or 1, but have shape {bits.shape}")
    scale = np.sqrt(2.0 / np.prod(bits.shape[:3]))
    return ((2.0 * bits - 1.0) * scale).astype(np.float32)
