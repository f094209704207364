"""The architectures of the papers, the registry that names them, and their weights."""

from ..util.download import cache_dir
from ..util.precision import fast_precision
from . import larq_zoo as _larq_zoo  # noqa: F401  (registers larq-zoo's models)
from .birealnet import BiRealNet18, BiRealNet18CIFAR, BiRealNet20, BiRealNet34, BiRealNet50
from .build.layers import BinaryConv2D
from .checkpoints.formats import load_weights
from .checkpoints.packed import convert, load_packed, save_packed
from .checkpoints.weights import Weights, get_weights, list_weights
from .counts import Counts, count, recorded_counts
from .evaluation import Evaluation, evaluate
from .export.convert import convert_to_tflite
from .export.export import Exported, export
from .export.interpreter import latency
from .export.tflite_file import TFLiteFile, read_tflite
from .export.verify import Agreement
from .ftbnn import FTBNN18, FTBNN20
from .images.imagenet import decode_predictions
from .images.images import PREPROCESSING, Preprocessing, get_preprocessing, read_images
from .images.samples import Sample, class_names, resized_sample, sample_images
from .irnet import IRNetResNet18, IRNetResNet18CIFAR, IRNetResNet20, IRNetResNet34, IRNetVGGSmall
from .model_info import ModelInfo, model_info, preprocessing_of
from .reactnet import ReActNet18CIFAR, ReActNet20, ReActNetA, ReActNetB, ReActNetC, ReActResNet18, ReActResNet34
from .registry import Entry, entry, list_models, load
from .resnet34 import ResNet34
from .stages import stage_outputs
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
