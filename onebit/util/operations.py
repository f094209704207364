"""Plain operations on tensors: what the steps of a network compute, whatever engine runs it.

Tensors are float32 and channels last, (batch, height, width, channels) or (batch, features). Each operation says what
it computes, in NumPy: slow and exact, and what the results of engines are compared with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]
"""Of a tensor, without its batch."""

Pads = tuple[tuple[int, int], tuple[int, int]]
"""How much is added before and after the height, and before and after the width."""

Pair = tuple[int, int]
Numbers = np.ndarray | np.floating
"""One number, or one for each channel."""

NO_PADS: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True, eq=False)
class Operation:
    """What one step of a network computes from its inputs."""

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the result; that of the first input unless the operation changes it."""
        return inputs[0]

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the result for a batch."""
        raise NotImplementedError(f"{type(self).__name__} has no computation.")


@dataclass(frozen=True, eq=False)
class Input(Operation):
    """The image. ``dtype`` is what it is given as: ``"float32"``, or an integer type."""

    image: Shape
    dtype: str = "float32"

    def shape(self, *inputs: Shape) -> Shape:
        return self.image


@dataclass(frozen=True, eq=False)
class Window(Operation):
    """How a convolution or a pooling moves over the image. Each class below says what it finds beyond the border."""

    strides: Pair = (1, 1)
    pads: Pads = NO_PADS
    dilations: Pair = (1, 1)

    @property
    def size(self) -> Pair:
        """Height and width of the window, less what dilation adds."""
        raise NotImplementedError

    @property
    def reach(self) -> Pair:
        """Height and width of the window with its dilation."""
        height, width = (rate * (size - 1) + 1 for size, rate in zip(self.size, self.dilations, strict=True))
        return height, width

    def shape(self, *inputs: Shape) -> Shape:
        axes = zip(inputs[0], self.reach, self.strides, self.pads, strict=False)
        return (*(max((n + sum(pads) - k) // stride + 1, 0) for n, k, stride, pads in axes), inputs[0][2])

    def windows(self, x: np.ndarray, border: float) -> np.ndarray:
        """Return what the window sees, (batch, height, width, channels, window's height, window's width)."""
        padded = np.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=border)
        # NumPy's annotations know of one axis only.
        seen = np.lib.stride_tricks.sliding_window_view(padded, self.reach, (1, 2))  # type: ignore[call-overload]
        return seen[:, :: self.strides[0], :: self.strides[1], :, :: self.dilations[0], :: self.dilations[1]]


@dataclass(frozen=True, eq=False)
class Convolution(Window):
    """What real and binary convolutions share. Output channels are in ``groups``, each of which sees as many inputs."""

    groups: int = 1

    @property
    def filters(self) -> np.ndarray:
        """The kernel, (height, width, inputs of a group, outputs)."""
        raise NotImplementedError

    @property
    def size(self) -> Pair:
        height, width = self.filters.shape[:2]
        return height, width

    def shape(self, *inputs: Shape) -> Shape:
        return (*super().shape(*inputs)[:2], self.filters.shape[3])

    def convolve(self, x: np.ndarray, kernel: np.ndarray, border: float) -> np.ndarray:
        """Return the convolution of ``x``, with ``border`` around it."""
        parts = zip(np.split(self.windows(x, border), self.groups, 3), np.split(kernel, self.groups, 3), strict=True)
        return np.concatenate([np.tensordot(seen, each, ((4, 5, 3), (0, 1, 2))) for seen, each in parts], -1)


@dataclass(frozen=True, eq=False)
class Conv(Convolution):
    """A real convolution, padded with zeros. A depthwise one has as many groups as input channels."""

    kernel: np.ndarray = field(kw_only=True)

    @property
    def filters(self) -> np.ndarray:
        return self.kernel

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return self.convolve(inputs[0], self.kernel, 0)


@dataclass(frozen=True, eq=False)
class TapBias(Conv):
    """Add to the first input, wherever a window over the second stands, the ``kernel`` of its taps inside the image.

    That is a convolution, by filters of one channel, of an image of ones: the same everywhere but near the border.
    """

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        y, x = inputs
        return y + self.convolve(np.ones_like(x[:1, ..., :1]), self.kernel, 0)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def table(self, image: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what is added over an image of this height and width, each kind of row and column once.

        Returns:
            ``table``, ``rows`` and ``columns``: ``table[rows[h], columns[w]]`` is added at row h and column w.
        """
        masks, places = [], []
        for axis, (before, after) in enumerate(self.pads):
            first = np.arange(0, image[axis] + before + after - self.reach[axis] + 1, self.strides[axis]) - before
            taps = first[:, None] + self.dilations[axis] * np.arange(self.size[axis])
            kinds, index = np.unique((taps >= 0) & (taps < image[axis]), axis=0, return_inverse=True)
            masks.append(kinds)
            places.append(index.reshape(-1))
        table = np.einsum("rh,cw,hwo->rco", *masks, self.kernel[:, :, 0].astype(np.float64))
        return table.astype(np.float32), *places


@dataclass(frozen=True, eq=False)
class BinaryConv(Convolution):
    """A convolution of signs by signs.

    The input's sign is +1 from ``threshold`` on and -1 below it. What is beyond the border is ``border`` *after* the
    sign: 0, which adds nothing, or 1.

    Attributes:
        signs: Of the kernel, bool, True for +1.
        scale: What each output channel is multiplied by.
        threshold: One for each input channel.
    """

    signs: np.ndarray = field(kw_only=True)
    scale: np.ndarray = field(kw_only=True)
    threshold: np.ndarray = field(kw_only=True)
    border: int = 0

    @property
    def filters(self) -> np.ndarray:
        return self.signs

    @property
    def taps(self) -> int:
        """How many signs one output value adds up."""
        return math.prod(self.signs.shape[:3])

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        signs = np.where(inputs[0] >= self.threshold, np.float32(1), np.float32(-1))
        return self.convolve(signs, np.where(self.signs, np.float32(1), np.float32(-1)), self.border) * self.scale


@dataclass(frozen=True, eq=False)
class Binarize(Operation):
    """``high`` from ``threshold`` on, and ``low`` below it, each one number or one for each channel."""

    threshold: Numbers
    low: Numbers
    high: Numbers

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return np.where(inputs[0] >= self.threshold, self.high, self.low)


@dataclass(frozen=True, eq=False)
class Dense(Operation):
    """A product with a matrix, (in, out)."""

    kernel: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], self.kernel.shape[1])

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0] @ self.kernel


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """x ``scale`` + ``offset``, each of one number or one for each channel, or ``None``."""

    scale: Numbers | None = None
    offset: Numbers | None = None

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        y = inputs[0] if self.scale is None else inputs[0] * self.scale
        return y if self.offset is None else y + self.offset


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """The sum of its inputs, which may have one pixel or one channel for all."""

    def shape(self, *inputs: Shape) -> Shape:
        return np.broadcast_shapes(*inputs)

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return functools.reduce(np.add, inputs)


@dataclass(frozen=True, eq=False)
class Multiply(Add):
    """The product of its inputs, which may have one pixel or one channel for all."""

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return functools.reduce(np.multiply, inputs)


@dataclass(frozen=True, eq=False)
class Concatenate(Operation):
    """Its inputs' channels, one after the other."""

    def shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], sum(each[-1] for each in inputs))

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, -1)


@dataclass(frozen=True, eq=False)
class Pool(Window):
    """What both poolings share."""

    window: Pair = field(kw_only=True)

    @property
    def size(self) -> Pair:
        return self.window


@dataclass(frozen=True, eq=False)
class MaxPool(Pool):
    """The largest value in each window, minus infinity beyond the border."""

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return self.windows(inputs[0], -np.inf).max((4, 5))


@dataclass(frozen=True, eq=False)
class AveragePool(Pool):
    """The mean in each window of what lies inside the image."""

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        total = self.windows(inputs[0], 0).sum((4, 5))
        return total / self.windows(np.ones_like(inputs[0][:1, ..., :1]), 0).sum((4, 5))


@dataclass(frozen=True, eq=False)
class GlobalAveragePool(Operation):
    """The mean over height and width, which are 1 after it, or fall away."""

    keep: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        return (1, 1, inputs[0][-1]) if self.keep else inputs[0][-1:]

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0].mean((1, 2), keepdims=self.keep)


@dataclass(frozen=True, eq=False)
class TwoSlopes(Operation):
    """``positive`` x above zero and ``negative`` x from zero down, one slope for each channel or one for all."""

    positive: np.ndarray
    negative: np.ndarray

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0] * np.where(inputs[0] > 0, self.positive, self.negative)


@dataclass(frozen=True, eq=False)
class Clip(Operation):
    """x, but at least ``low`` and at most ``high``. From 0 to infinity it is ReLU."""

    low: float
    high: float = math.inf

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return np.clip(inputs[0], np.float32(self.low), np.float32(self.high))


@dataclass(frozen=True, eq=False)
class Sigmoid(Operation):
    """1 / (1 + exp(-x))."""

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-inputs[0]))


@dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """Over the last axis."""

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        e = np.exp(inputs[0] - inputs[0].max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Pad(Operation):
    """``value`` around the image, and before and after its channels."""

    pads: Pads = NO_PADS
    channels: Pair = (0, 0)
    value: float = 0.0

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(n + sum(pads) for n, pads in zip(inputs[0], (*self.pads, self.channels), strict=True))

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return np.pad(inputs[0], ((0, 0), *self.pads, self.channels), constant_values=self.value)


@dataclass(frozen=True, eq=False)
class GatherChannels(Operation):
    """The channels of these indices, in this order."""

    index: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], len(self.index))

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0][..., self.index]

    def repeats(self, channels: int) -> int:
        """Return how often it takes all of so many channels in their order, or 0 if that is not what it does."""
        times, rest = divmod(len(self.index), channels)
        return times if not rest and np.array_equal(self.index, np.tile(np.arange(channels), times)) else 0


@dataclass(frozen=True, eq=False)
class Reshape(Operation):
    """The same values in the same order in another shape, such as a vector."""

    target: Shape

    def shape(self, *inputs: Shape) -> Shape:
        return self.target

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0].reshape(-1, *self.target)


@dataclass(frozen=True, eq=False)
class Opaque(Operation):
    """Something else: a function of tensors for emitters that can call it. The others refuse it by its ``kind``."""

    function: Callable[..., Any]
    kind: str
    result: Shape

    def shape(self, *inputs: Shape) -> Shape:
        return self.result

    def compute(self, *inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(*inputs))


def same_pads(image: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> Pads:
    """Return TensorFlow's ``same`` for an image of this height and width: the odd pixel is added after."""
    total = (max((-(-n // stride) - 1) * stride + k - n, 0) for n, k, stride in zip(image, reach, strides, strict=True))
    vertical, horizontal = ((each // 2, each - each // 2) for each in total)
    return vertical, horizontal
