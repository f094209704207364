"""What a paper's module builds its networks from, as ``nn``: ``from . import building as nn``."""

from ..checkpoints.state_dicts import (
    StateDictLayout,
    TensorMap,
    Transform,
    conv_kernel,
    dense_kernel,
    dense_kernel_of_map,
    map_conv,
    map_dense,
    map_norm,
    vector,
)
from .architecture import architecture
from .builder import ModelBuilder, ModelOptions
from .layers import BinaryConv2D, DuplicateChannels, PadChannels, Padding, ShuffleChannels, binary_conv
from .resnet import (
    ADAPTED,
    CIFAR_18,
    CIFAR_20,
    IMAGENET_18,
    IMAGENET_34,
    Block,
    ResNetSpec,
    average_pool,
    classify,
    convolve,
    he_normal,
    normalise,
    official_start,
    real_shortcut,
    small_positive,
    stem,
    torch_uniform,
)
from .resnet_state_dict import map_blocks_of_two, map_shortcut, map_stem_and_top, official_blocks
from .torch_layers import ExactBatchNormalization, SymmetricMaxPool2D, UnbiasedBatchNormalization
