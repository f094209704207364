"""Our PyTorch transcription of the papers' networks: what the benchmarks time, and what the tests compare with.

The tests compare with recordings of the official code as well (``tests/goldens``); this is for the networks that have
none, and was written by the same hands as the package. Each network is a function of a state dict under the official
PyTorch code's names, a batch of images (b, 3, h, w), and whether the batch's statistics are used, which then move the
running ones in the state dict. It returns logits (b, classes). Tensors that a state dict lacks are drawn and put there.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Tensor = torch.Tensor


class ApproxSign(torch.autograd.Function):
    """sign(x), with the slope max(0, 2 - 2 abs(x))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return dy * torch.clamp(2 - 2 * x.abs(), min=0)


class EDESign(torch.autograd.Function):
    """sign(x), with the slope k t (1 - tanh(t x)^2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: float, t: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.k, ctx.t = k, t
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return dy * (ctx.k * ctx.t * (1 - torch.tanh(ctx.t * x) ** 2)), None, None


def ede_sign(x: Tensor) -> Tensor:
    """EDE in the state in which IR-Net's layers are made."""
    return EDESign.apply(x, 10.0, 0.1)


def scaled_sign(w: Tensor) -> Tensor:
    """The mean magnitude of each filter times the sign, with the slope 1 from -1 to 1."""
    clipped = torch.clamp(w, -1, 1)
    scale = w.abs().mean((1, 2, 3), keepdim=True)
    return (scale * torch.sign(w) - clipped).detach() + clipped


def libra_pb(w: Tensor) -> Tensor:
    """IR-Net's kernel: standardised, a power of two times the sign."""
    w = w - w.mean((1, 2, 3), keepdim=True)
    w = w / w.std((1, 2, 3), keepdim=True)
    return 2 ** torch.round(torch.log2(w.detach().abs().mean((1, 2, 3), keepdim=True))) * ede_sign(w)


def mcdonnell_sign(w: Tensor) -> Tensor:
    """The sign, times the deviation that He's rule draws weights with, straight through."""
    scale = math.sqrt(2 / math.prod(w.shape[1:]))
    return (scale * torch.sign(w) - w).detach() + w


class Net:
    """A state dict, and the modules that read it."""

    def __init__(self, state: dict[str, Tensor], training: bool) -> None:
        self.state, self.training = state, training

    def tensor(self, name: str, shape: tuple[int, ...], start: float | None = None) -> Tensor:
        """Return a tensor; where there is none yet, one of ``start``, or drawn by He's rule."""
        if name not in self.state:
            drawn = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:])) if start is None else None
            tensor = torch.full(shape, start) if drawn is None else drawn
            self.state[name] = tensor.requires_grad_("running" not in name)
        return self.state[name]

    def conv(
        self,
        x: Tensor,
        weight: str,
        filters: int,
        size: int = 3,
        stride: int = 1,
        quantize: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        # Where the official tensor is flat, whoever makes the state dict gives it its shape.
        w = self.tensor(weight, (filters, x.shape[1], size, size))
        return F.conv2d(x, quantize(w) if quantize else w, stride=stride, padding=size // 2)

    def bn(self, x: Tensor, name: str) -> Tensor:
        starts = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
        vectors = [self.tensor(f"{name}.{key}", x.shape[1:2], start) for key, start in starts.items()]
        return F.batch_norm(x, *vectors, self.training, 0.1, 1e-5)

    def linear(self, x: Tensor, name: str, classes: int) -> Tensor:
        weight = self.tensor(f"{name}.weight", (classes, x.shape[1]))
        return F.linear(x, weight, self.tensor(f"{name}.bias", (classes,), 0.0))

    def shift(self, x: Tensor, name: str) -> Tensor:
        return x + self.tensor(f"{name}.bias", x.shape[1:2], 0.0).reshape(1, -1, 1, 1)

    def rprelu(self, x: Tensor, first: str, slope: str, last: str) -> Tensor:
        x = F.prelu(self.shift(x, first), self.tensor(f"{slope}.weight", x.shape[1:2], 0.25))
        return self.shift(x, last)

    def stem(self, x: Tensor, width: int, imagenet: bool, activate: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        x = self.bn(self.conv(x, "conv1.weight", width, *((7, 2) if imagenet else (3, 1))), "bn1")
        x = activate(x) if activate else x
        return F.max_pool2d(x, 3, 2, 1) if imagenet else x


def walk(blocks: tuple[int, ...], width: int) -> Iterator[tuple[str, int, int]]:
    """Yield each block's name, filters and stride."""
    for stage, count in enumerate(blocks):
        for block in range(count):
            yield f"layer{stage + 1}.{block}", width << stage, 2 if stage and not block else 1


def birealnet(
    state: dict[str, Tensor],
    x: Tensor,
    training: bool,
    blocks: tuple[int, ...],
    width: int = 64,
    imagenet: bool = True,
    react: bool = False,
    binary: bool = True,
    classes: int = 10,
) -> Tensor:
    """Bi-Real Net of one-convolution blocks; with ``react`` ReActNet's ResNet, whose first step is not ``binary``."""
    net = Net(state, training)
    x = net.stem(x, width, imagenet)
    for name, filters, stride in walk(blocks, width):
        shortcut = x
        if stride == 2:
            shortcut = net.bn(
                net.conv(F.avg_pool2d(x, 2, 2), f"{name}.downsample.1.weight", filters, 1), f"{name}.downsample.2"
            )
        y = ApproxSign.apply(net.shift(x, f"{name}.move0") if react else x)
        weight = f"{name}.binary_conv.{'weight' if react else 'weights'}"
        y = net.conv(y, weight, filters, 3, stride, scaled_sign if binary else None)
        x = net.bn(y, f"{name}.bn1") + shortcut
        if react:
            x = net.rprelu(x, f"{name}.move1", f"{name}.prelu", f"{name}.move2")
    return net.linear(x.mean((2, 3)), "fc", classes)


def birealnet50(state: dict[str, Tensor], x: Tensor, training: bool, classes: int = 10) -> Tensor:
    """Bi-Real Net's bottlenecks, which pass two streams on."""
    net = Net(state, training)
    narrow = wide = net.stem(x, 64, True)
    for index, (block, filters, stride) in enumerate(walk((3, 4, 6, 3), 64)):
        name, first = f"layers.{index}", block.endswith(".0")
        if index == 0:
            clipped = torch.where(wide.abs() > 1, 0.1 * wide + 0.9 * torch.sign(wide), wide)
            y = net.bn(net.conv(clipped, f"{name}.conv1.weight", filters, 1), f"{name}.bn1")
        else:
            shortcut = net.conv(narrow, f"{name}.down_conv1x1.weight", filters, 1) if first else narrow
            y = net.conv(ApproxSign.apply(wide), f"{name}.conv1.weight", filters, 1, 1, scaled_sign)
            y = net.bn(y, f"{name}.bn1") + shortcut
        narrow = net.bn(
            net.conv(ApproxSign.apply(y), f"{name}.conv2.weight", filters, 3, stride, scaled_sign), f"{name}.bn2"
        )
        narrow = narrow + (F.avg_pool2d(y, 2, 2) if stride == 2 else y)
        z = net.conv(ApproxSign.apply(narrow), f"{name}.conv3.weight", 4 * filters, 1, 1, scaled_sign)
        if first:
            wide = net.conv(F.avg_pool2d(wide, stride, stride), f"{name}.downsample.1.weight", 4 * filters, 1)
            wide = net.bn(wide, f"{name}.downsample.2")
        wide = net.bn(z, f"{name}.bn3") + wide
    return net.linear(wide.mean((2, 3)), "fc", classes)


def reactnet_a(state: dict[str, Tensor], x: Tensor, training: bool, binary: bool = True, classes: int = 10) -> Tensor:
    """ReActNet-A: blocks of a 3 x 3 and a 1 x 1 convolution; the latter twice where the channels double."""
    net = Net(state, training)
    quantize, weight = (scaled_sign, "weights") if binary else (None, "weight")
    x = net.bn(net.conv(x, "feature.0.conv1.weight", 32, 3, 2), "feature.0.bn1")
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    for index, (width, filters) in enumerate(itertools.pairwise(widths), 1):
        name, stride = f"feature.{index}", 2 if index in (2, 4, 6, 12) else 1
        y = ApproxSign.apply(net.shift(x, f"{name}.move11"))
        y = net.bn(net.conv(y, f"{name}.binary_3x3.{weight}", width, 3, stride, quantize), f"{name}.bn1")
        x = y + (F.avg_pool2d(x, 2, 2) if stride == 2 else x)
        x = net.rprelu(x, f"{name}.move12", f"{name}.prelu1", f"{name}.move13")
        signs = ApproxSign.apply(net.shift(x, f"{name}.move21"))
        branches = {"binary_pw": "bn2"}
        if filters > width:
            branches = {"binary_pw_down1": "bn2_1", "binary_pw_down2": "bn2_2"}
        parts = [
            net.bn(net.conv(signs, f"{name}.{conv}.{weight}", width, 1, 1, quantize), f"{name}.{bn}") + x
            for conv, bn in branches.items()
        ]
        x = net.rprelu(torch.cat(parts, 1), f"{name}.move22", f"{name}.prelu2", f"{name}.move23")
    return net.linear(x.mean((2, 3)), "fc", classes)


def irnet_resnet(
    state: dict[str, Tensor],
    x: Tensor,
    training: bool,
    blocks: tuple[int, ...],
    kind: str,
    bits: int = 1,
    bireal: bool | None = None,
    classes: int = 10,
) -> Tensor:
    """IR-Net's ResNets of two-convolution blocks; ``kind`` is ``"cifar20"``, ``"cifar18"`` or ``"imagenet"``."""
    net = Net(state, training)
    bireal = (bits == 1 and kind != "cifar18") if bireal is None else bireal
    act = F.hardtanh if bits == 1 else F.relu

    def conv(x: Tensor, name: str, filters: int, stride: int = 1) -> Tensor:
        return net.conv(ede_sign(x) if bits == 1 else x, name, filters, 3, stride, libra_pb)

    width, imagenet = 16 if kind == "cifar20" else 64, kind == "imagenet"
    x = net.stem(x, width, imagenet, act if imagenet or (kind == "cifar20" and bits == 1) else None)
    for name, filters, stride in walk(blocks, width):
        shortcut = x
        if stride == 2 and kind == "cifar20":
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, filters // 4, filters // 4))
        elif stride == 2:
            down = f"{name}.{'downsample' if imagenet else 'shortcut'}"
            shortcut = net.bn(net.conv(x, f"{down}.0.weight", filters, 1, 2), f"{down}.1")
        y = net.bn(conv(x, f"{name}.conv1.weight", filters, stride), f"{name}.bn1")
        y = act(y + shortcut if bireal else y)
        x = act(net.bn(conv(y, f"{name}.conv2.weight", filters), f"{name}.bn2") + (y if bireal else shortcut))
    x = net.bn(x.mean((2, 3)), "bn2")
    return net.linear(F.relu(x) if kind == "cifar20" and bits == 32 else x, "fc" if imagenet else "linear", classes)


def irnet_vgg_small(state: dict[str, Tensor], x: Tensor, training: bool, classes: int = 10) -> Tensor:
    """IR-Net's VGG-Small. Its pooling windows hold whole numbers, which tie; the gradient goes to the first maximum."""
    net = Net(state, training)
    x = F.hardtanh(net.bn(net.conv(x, "conv0.weight", 128), "bn0"))
    for index, filters in enumerate((128, 256, 256, 512, 512), 1):
        x = net.conv(ede_sign(x), f"conv{index}.weight", filters, quantize=libra_pb)
        x = F.max_pool2d(x, 2, 2) if index % 2 else x
        x = F.hardtanh(net.bn(x, f"bn{index}"))
    return net.linear(x.flatten(1), "fc", classes)


def wide_resnet(
    state: dict[str, Tensor], x: Tensor, training: bool, depth: int, width: int, classes: int = 10
) -> Tensor:
    """1-bit Wide ResNet for CIFAR, which takes pixels. Its official code is Keras': the names are our layers'."""
    net = Net(state, training)

    def conv(x: Tensor, name: str, filters: int, size: int = 3, stride: int = 1) -> Tensor:
        w = mcdonnell_sign(net.tensor(f"{name}.weight", (filters, x.shape[1], size, size)))
        # Keras pads even sizes at the bottom and right only.
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), w, stride=2) if stride == 2 else F.conv2d(x, w, padding=size // 2)

    def bn(x: Tensor, name: str, learned: bool = False) -> Tensor:
        starts = {"running_mean": 0.0, "running_var": 1.0} | ({"weight": 1.0, "bias": 0.0} if learned else {})
        vectors = [net.tensor(f"{name}.{key}", x.shape[1:2], start) for key, start in starts.items()]
        return F.batch_norm(x, *vectors, training=training, momentum=0.01, eps=1e-5)

    x = conv(bn(x, "input_bn", learned=True), "stem_conv", 16 * width)
    for stage in range(3):
        for block in range((depth - 2) // 6):
            name, filters = f"stage{stage + 1}_block{block + 1}", 16 * width << stage
            stride = 2 if stage and not block else 1
            y = conv(F.relu(bn(x, f"{name}_1_bn")), f"{name}_conv1", filters, 3, stride)
            y = conv(F.relu(bn(y, f"{name}_2_bn")), f"{name}_conv2", filters)
            if stride == 2:
                x = F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False)
                x = F.pad(x, (0, 0, 0, 0, 0, x.shape[1]))
            x = y + x
    return bn(conv(F.relu(bn(x, "head_bn")), "logits_conv", classes, 1), "logits_bn").mean((2, 3))


def resnet34(state: dict[str, Tensor], x: Tensor, training: bool, classes: int = 10) -> Tensor:
    """torchvision's ResNet with 34 layers."""
    net = Net(state, training)
    x = net.stem(x, 64, True, F.relu)
    for name, filters, stride in walk((3, 4, 6, 3), 64):
        shortcut = x
        if stride == 2:
            shortcut = net.bn(net.conv(x, f"{name}.downsample.0.weight", filters, 1, 2), f"{name}.downsample.1")
        y = F.relu(net.bn(net.conv(x, f"{name}.conv1.weight", filters, 3, stride), f"{name}.bn1"))
        x = F.relu(net.bn(net.conv(y, f"{name}.conv2.weight", filters), f"{name}.bn2") + shortcut)
    return net.linear(x.mean((2, 3)), "fc", classes)


_real = functools.partial(birealnet, react=True, binary=False)
_react = functools.partial(birealnet, react=True)
NETWORKS: dict[str, Callable[..., Tensor]] = {
    "birealnet18": functools.partial(birealnet, blocks=(4, 4, 4, 4)),
    "birealnet18_cifar": functools.partial(birealnet, blocks=(4, 4, 4, 4), imagenet=False),
    "birealnet20": functools.partial(birealnet, blocks=(6, 6, 6), width=16, imagenet=False),
    "birealnet34": functools.partial(birealnet, blocks=(6, 8, 12, 6)),
    "birealnet50": birealnet50,
    "irnet_resnet18": functools.partial(irnet_resnet, blocks=(2, 2, 2, 2), kind="imagenet"),
    "irnet_resnet18_1w32a": functools.partial(irnet_resnet, blocks=(2, 2, 2, 2), kind="imagenet", bits=32),
    "irnet_resnet18_cifar": functools.partial(irnet_resnet, blocks=(2, 2, 2, 2), kind="cifar18"),
    "irnet_resnet20": functools.partial(irnet_resnet, blocks=(3, 3, 3), kind="cifar20"),
    "irnet_resnet20_1w32a": functools.partial(irnet_resnet, blocks=(3, 3, 3), kind="cifar20", bits=32),
    "irnet_resnet20_normal": functools.partial(irnet_resnet, blocks=(3, 3, 3), kind="cifar20", bireal=False),
    "irnet_resnet34": functools.partial(irnet_resnet, blocks=(3, 4, 6, 3), kind="imagenet"),
    "irnet_resnet34_1w32a": functools.partial(irnet_resnet, blocks=(3, 4, 6, 3), kind="imagenet", bits=32),
    "irnet_vgg_small": irnet_vgg_small,
    "react_resnet18": functools.partial(_react, blocks=(4, 4, 4, 4)),
    "react_resnet18_step1": functools.partial(_real, blocks=(4, 4, 4, 4)),
    "react_resnet34": functools.partial(_react, blocks=(6, 8, 12, 6)),
    "reactnet18_cifar": functools.partial(_react, blocks=(4, 4, 4, 4), imagenet=False),
    "reactnet20": functools.partial(_react, blocks=(6, 6, 6), width=16, imagenet=False),
    "reactnet20_step1": functools.partial(_real, blocks=(6, 6, 6), width=16, imagenet=False),
    "reactnet_a": reactnet_a,
    "reactnet_a_step1": functools.partial(reactnet_a, binary=False),
    "resnet34": resnet34,
    "wide_resnet_20_4": functools.partial(wide_resnet, depth=20, width=4),
}
"""By the name of the registered model."""
