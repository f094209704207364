"""The architectures of the papers, the registry that names them, and their weights."""

from . import larq_zoo as _larq_zoo  # noqa: F401  (registers larq-zoo's models)
from .birealnet import BiRealNet18, BiRealNet18CIFAR, BiRealNet20, BiRealNet34, BiRealNet50
from .cache import cache_dir
from .counts import Counts, count, recorded_counts
from .evaluation import Evaluation, evaluate
from .export_check import Agreement
from .formats import load_weights
from .ftbnn import FTBNN18, FTBNN20
from .imagenet import decode_predictions
from .images import PREPROCESSING, Preprocessing, get_preprocessing, read_images
from .interpreter import latency
from .irnet import IRNetResNet18, IRNetResNet18CIFAR, IRNetResNet20, IRNetResNet34, IRNetVGGSmall
from .layers import BinaryConv2D
from .model_info import ModelInfo, model_info, preprocessing_of
from .packed import convert, load_packed, save_packed
from .precision import fast_precision
from .reactnet import (
    ReActNet18CIFAR,
    ReActNet20,
    ReActNetA,
    ReActNetB,
    ReActNetC,
    ReActResNet18,
    ReActResNet34,
)
from .registry import Entry, entry, list_models, load
from .resnet34 import ResNet34
from .samples import Sample, class_names, resized_sample, sample_images
from .stages import stage_outputs
from .tflite_converter import convert_to_tflite
from .tflite_export import Exported, export
from .tflite_file import TFLiteFile, read_tflite
from .weights import Weights, get_weights, list_weights
from .wide_resnet import WideResNet, WideResNetImageNet

__all__ = [
    "FTBNN18",
    "FTBNN20",
    "PREPROCESSING",
    "Agreement",
    "BiRealNet18",
    "BiRealNet18CIFAR",
    "BiRealNet20",
    "BiRealNet34",
    "BiRealNet50",
    "BinaryConv2D",
    "Counts",
    "Entry",
    "Evaluation",
    "Exported",
    "IRNetResNet18",
    "IRNetResNet18CIFAR",
    "IRNetResNet20",
    "IRNetResNet34",
    "IRNetVGGSmall",
    "ModelInfo",
    "Preprocessing",
    "ReActNet18CIFAR",
    "ReActNet20",
    "ReActNetA",
    "ReActNetB",
    "ReActNetC",
    "ReActResNet18",
    "ReActResNet34",
    "ResNet34",
    "Sample",
    "TFLiteFile",
    "Weights",
    "WideResNet",
    "WideResNetImageNet",
    "cache_dir",
    "class_names",
    "convert",
    "convert_to_tflite",
    "count",
    "decode_predictions",
    "entry",
    "evaluate",
    "export",
    "fast_precision",
    "get_preprocessing",
    "get_weights",
    "latency",
    "list_models",
    "list_weights",
    "load",
    "load_packed",
    "load_weights",
    "model_info",
    "preprocessing_of",
    "read_images",
    "read_tflite",
    "recorded_counts",
    "resized_sample",
    "sample_images",
    "save_packed",
    "stage_outputs",
]
