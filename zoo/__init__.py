"""The architectures of the papers, the registry that names them, and their weights."""

from .cache import cache_dir
from .checkpoint import load_weights
from .layers import BinaryConv2D
from .packed import load_packed, save_packed
from .registry import entry, list_models, load
from .scaffold import model_info
from .weights import Weights, get_weights, list_weights
from .wide_resnet import WideResNet, WideResNetImageNet

__all__ = [
    "BinaryConv2D",
    "Weights",
    "WideResNet",
    "WideResNetImageNet",
    "cache_dir",
    "entry",
    "get_weights",
    "list_models",
    "list_weights",
    "load",
    "load_packed",
    "load_weights",
    "model_info",
    "save_packed",
]
