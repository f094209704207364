"""IR-Net's ResNet-20 and ReActNet-A in plain PyTorch, from the papers' formulas: what the benchmarks compare with.

Images are (b, 3, h, w), the results logits (b, classes).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class ApproxSign(torch.autograd.Function):
    """sign(x), with the slope max(0, 2 - 2 abs(x))."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return dy * torch.clamp(2 - 2 * x.abs(), min=0)


class EDESign(torch.autograd.Function):
    """sign(x), with the slope k t (1 - tanh(t x)^2)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, k: float, t: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.k, ctx.t = k, t
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return dy * (ctx.k * ctx.t * (1 - torch.tanh(ctx.t * x) ** 2)), None, None


class IRConv(nn.Conv2d):
    """A convolution of EDE's signs with Libra-PB's kernel."""

    k, t = 10.0, 0.1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / w.std((1, 2, 3), keepdim=True)
        scale = 2 ** torch.round(torch.log2(w.detach().abs().mean((1, 2, 3), keepdim=True)))
        x, w = EDESign.apply(x, self.k, self.t), EDESign.apply(w, self.k, self.t)
        return F.conv2d(x, w * scale, None, self.stride, self.padding)


class IRBlock(nn.Module):
    """Two binary convolutions, each with a shortcut of its own."""

    def __init__(self, width: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = IRConv(width, filters, 3, stride, 1, bias=False)
        self.conv2 = IRConv(filters, filters, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)
        self.stride, self.padding = stride, (filters - width) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.stride == 2:
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        x = F.hardtanh(self.bn1(self.conv1(x)) + shortcut)
        return F.hardtanh(self.bn2(self.conv2(x)) + x)


def irnet_resnet20(classes: int = 10) -> nn.Module:
    """IR-Net's ResNet-20 with 1-bit weights and activations, for 32 x 32 pixels."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardtanh()]
    width = 16
    for filters in (16, 32, 64):
        for block in range(3):
            layers.append(IRBlock(width, filters, 2 if block == 0 and filters > 16 else 1))
            width = filters
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, classes)]
    return nn.Sequential(*layers, *head)


class ScaledSignConv(nn.Conv2d):
    """A convolution whose kernel is the mean magnitude of each filter times the sign, clipped straight through."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight
        scale = w.detach().abs().mean((1, 2, 3), keepdim=True)
        clipped = torch.clamp(w, -1, 1)
        return F.conv2d(x, (scale * torch.sign(w) - clipped).detach() + clipped, None, self.stride, self.padding)


class Shift(nn.Module):
    """A learned shift of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


def rprelu(channels: int) -> nn.Module:
    """Return ReActNet's PReLU between two shifts."""
    return nn.Sequential(Shift(channels), nn.PReLU(channels), Shift(channels))


class ReActBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution; the latter twice where the channels double."""

    def __init__(self, width: int, filters: int, stride: int) -> None:
        super().__init__()
        self.sign1, self.sign2 = Shift(width), Shift(width)
        self.conv3 = ScaledSignConv(width, width, 3, stride, 1, bias=False)
        self.bn3, self.act3, self.act1 = nn.BatchNorm2d(width), rprelu(width), rprelu(filters)
        self.pool = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()
        branches = filters // width
        self.conv1 = nn.ModuleList(ScaledSignConv(width, width, 1, bias=False) for _ in range(branches))
        self.bn1 = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(branches))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act3(self.bn3(self.conv3(ApproxSign.apply(self.sign1(x)))) + self.pool(x))
        signs = ApproxSign.apply(self.sign2(x))
        parts = [bn(conv(signs)) + x for conv, bn in zip(self.conv1, self.bn1, strict=True)]
        return self.act1(torch.cat(parts, 1))


def reactnet_a(classes: int = 1000) -> nn.Module:
    """ReActNet-A with 1-bit weights and activations, for 224 x 224 pixels."""
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)]
    for index, (width, filters) in enumerate(itertools.pairwise(widths)):
        layers.append(ReActBlock(width, filters, 2 if index in (1, 3, 5, 11) else 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, classes))
