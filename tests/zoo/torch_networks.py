"""The official networks, written down again in PyTorch: functions of an official state dict and a batch.

Every function returns logits. With ``training`` the running statistics in the state dict are updated in place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812


class Estimated(torch.autograd.Function):
    """A value with a slope of our own: forward(x, value, slope) = value, backward = slope."""

    @staticmethod
    def forward(ctx, x, value, slope):
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0], None, None


def approx_sign(x):
    y = x.detach()
    return Estimated.apply(x, torch.sign(y), torch.clamp(2 - 2 * y.abs(), min=0))


def scaled_sign(w):
    v = w.detach()
    return Estimated.apply(w, v.abs().mean((1, 2, 3), keepdim=True) * torch.sign(v), (v.abs() <= 1).to(v.dtype))


def ede_sign(x, k, t):
    y = x.detach()
    return Estimated.apply(x, torch.sign(y), k * t * (1 - torch.tanh(t * y) ** 2))


def libra_pb(w, k, t):
    w = w - w.mean((1, 2, 3), keepdim=True)
    w = w / w.std((1, 2, 3), keepdim=True)
    scale = 2 ** torch.round(torch.log2(w.detach().abs().mean((1, 2, 3), keepdim=True)))
    return scale * ede_sign(w, k, t)


class Net:
    """A state dict, and the modules that read it."""

    def __init__(self, state, training):
        self.state, self.training = state, training

    def kernel(self, name):
        """Return a kernel under either of its names; a flat one was given its shape by whoever made the state dict."""
        return self.state[f"{name}.weight"] if f"{name}.weight" in self.state else self.state[f"{name}.weights"]

    def conv(self, x, name, stride=1, quantize=None):
        w = self.kernel(name)
        return F.conv2d(x, quantize(w) if quantize else w, stride=stride, padding=w.shape[-1] // 2)

    def bn(self, x, name):
        s = self.state
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, s[f"{name}.weight"], s[f"{name}.bias"], self.training, 0.1, 1e-5)

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def stem(self, x, imagenet, activate=lambda x: x):
        x = activate(self.bn(self.conv(x, "conv1", 2 if imagenet else 1), "bn1"))
        return F.max_pool2d(x, 3, 2, 1) if imagenet else x

    def shift(self, x, name):
        return x + self.state[f"{name}.bias"].reshape(1, -1, 1, 1)


def pooled(x):
    return x.mean((2, 3))


def walk(blocks):
    """Yield each block's name and stride."""
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            yield f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1


def birealnet(state, x, training, blocks, imagenet=True, react=False, real_weights=False):
    """Bi-Real Net of one-convolution blocks; with ``react`` ReActNet's ResNet."""
    net = Net(state, training)
    x = net.stem(x, imagenet)
    for name, stride in walk(blocks):
        shortcut = x
        if stride == 2:
            shortcut = net.bn(net.conv(F.avg_pool2d(x, 2, 2), f"{name}.downsample.1"), f"{name}.downsample.2")
        y = approx_sign(net.shift(x, f"{name}.move0") if react else x)
        y = net.conv(y, f"{name}.binary_conv", stride, None if real_weights else scaled_sign)
        x = net.bn(y, f"{name}.bn1") + shortcut
        if react:
            x = F.prelu(net.shift(x, f"{name}.move1"), state[f"{name}.prelu.weight"])
            x = net.shift(x, f"{name}.move2")
    return net.linear(pooled(x), "fc")


def birealnet50(state, x, training):
    net = Net(state, training)
    narrow = wide = net.stem(x, True)
    index = 0
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for block in range(count):
            name = f"layers.{index}"
            stride = 2 if stage > 1 and block == 0 else 1
            if index == 0:
                clipped = torch.where(wide.abs() > 1, 0.1 * wide + 0.9 * torch.sign(wide), wide)
                y = net.bn(net.conv(clipped, f"{name}.conv1"), f"{name}.bn1")
            else:
                first = net.conv(narrow, f"{name}.down_conv1x1") if block == 0 else narrow
                y = net.bn(net.conv(approx_sign(wide), f"{name}.conv1", 1, scaled_sign), f"{name}.bn1") + first
            narrow = net.bn(net.conv(approx_sign(y), f"{name}.conv2", stride, scaled_sign), f"{name}.bn2")
            narrow = narrow + (F.avg_pool2d(y, 2, 2) if stride == 2 else y)
            z = net.bn(net.conv(approx_sign(narrow), f"{name}.conv3", 1, scaled_sign), f"{name}.bn3")
            if block == 0:
                wide = F.avg_pool2d(wide, stride, stride)
                wide = net.bn(net.conv(wide, f"{name}.downsample.1"), f"{name}.downsample.2")
            wide = z + wide
            index += 1
    return net.linear(pooled(wide), "fc")


def irnet_resnet(state, x, training, blocks, kind, bits, k, t, bireal=None):
    """IR-Net's ResNets of two-convolution blocks; ``kind`` is ``"cifar20"``, ``"cifar18"`` or ``"imagenet"``."""
    net = Net(state, training)
    bireal = (bits == 1 and kind != "cifar18") if bireal is None else bireal
    act = F.hardtanh if bits == 1 else F.relu

    def conv(x, name, stride=1):
        return net.conv(ede_sign(x, k, t) if bits == 1 else x, name, stride, lambda w: libra_pb(w, k, t))

    active = kind == "imagenet" or (kind == "cifar20" and bits == 1)
    x = net.stem(x, kind == "imagenet", act if active else lambda x: x)
    for name, stride in walk(blocks):
        shortcut = x
        if stride == 2 and kind == "cifar20":
            quarter = x.shape[1] // 2
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        elif stride == 2:
            down = f"{name}.{'downsample' if kind == 'imagenet' else 'shortcut'}"
            shortcut = net.bn(net.conv(x, f"{down}.0", 2), f"{down}.1")
        y = net.bn(conv(x, f"{name}.conv1", stride), f"{name}.bn1")
        y = act(y + shortcut if bireal else y)
        x = act(net.bn(conv(y, f"{name}.conv2"), f"{name}.bn2") + (y if bireal else shortcut))
    x = net.bn(pooled(x), "bn2")
    if kind == "cifar20" and bits == 32:
        x = F.relu(x)
    return net.linear(x, "fc" if kind == "imagenet" else "linear")


def irnet_vgg_small(state, x, training, k, t):
    net = Net(state, training)
    x = F.hardtanh(net.bn(net.conv(x, "conv0"), "bn0"))
    for index in range(1, 6):
        x = net.conv(ede_sign(x, k, t), f"conv{index}", 1, lambda w: libra_pb(w, k, t))
        if index in (1, 3, 5):
            x = F.max_pool2d(x, 2, 2)
        x = F.hardtanh(net.bn(x, f"bn{index}"))
    return net.linear(x.flatten(1), "fc")


def resnet(state, x, training, blocks):
    """torchvision's ResNets of two-convolution blocks."""
    net = Net(state, training)
    x = net.stem(x, True, F.relu)
    for name, stride in walk(blocks):
        shortcut = x
        if stride == 2:
            shortcut = net.bn(net.conv(x, f"{name}.downsample.0", 2), f"{name}.downsample.1")
        y = F.relu(net.bn(net.conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
        x = F.relu(net.bn(net.conv(y, f"{name}.conv2"), f"{name}.bn2") + shortcut)
    return net.linear(pooled(x), "fc")
