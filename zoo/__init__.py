"""The architectures of the papers, the registry that names them, and their weights.

Every module in this folder is imported, and what it has in ``__all__`` is here, too: the networks of a paper are where
their module is, and nowhere listed.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from ..util.download import cache_dir
from ..util.precision import fast_precision
from .building.layers import BinaryConv2D
from .building.replace import replace_layers
from .checkpoints.packed import save_packed
from .checkpoints.weights import Weights
from .counts import Counts, count, recorded_counts
from .evaluation import Evaluation, evaluate
from .export.convert import convert_to_tflite
from .export.export import Exported, export
from .export.latency import latency
from .export.predictor import Predictor, compile  # noqa: A004
from .export.tflite_file import TFLiteFile, read_tflite
from .export.verify import Agreement
from .images.imagenet import decode_predictions
from .images.images import PREPROCESSING, Preprocessing, get_preprocessing, read_images
from .images.samples import Sample, class_names, resized_sample, sample_images
from .loading import convert, load, load_packed, load_weights
from .model_info import ModelInfo, model_info, preprocessing_of
from .registry import Entry, entry, get_weights, list_models, list_weights
from .sharing.card import ModelCard, model_card
from .sharing.push import push_to_hub
from .stages import stage_outputs

if TYPE_CHECKING:  # for type checkers and editors, which do not run the loop below
    from .birealnet import *  # noqa: F403
    from .ftbnn import *  # noqa: F403
    from .irnet import *  # noqa: F403
    from .reactnet import *  # noqa: F403
    from .resnet34 import *  # noqa: F403
    from .wide_resnet import *  # noqa: F403

__all__ = [
    "PREPROCESSING",
    "Agreement",
    "BinaryConv2D",
    "Counts",
    "Entry",
    "Evaluation",
    "Exported",
    "ModelCard",
    "ModelInfo",
    "Predictor",
    "Preprocessing",
    "Sample",
    "TFLiteFile",
    "Weights",
    "cache_dir",
    "class_names",
    "compile",
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
    "model_card",
    "model_info",
    "preprocessing_of",
    "push_to_hub",
    "read_images",
    "read_tflite",
    "recorded_counts",
    "replace_layers",
    "resized_sample",
    "sample_images",
    "save_packed",
    "stage_outputs",
]

for _found in pkgutil.iter_modules(__path__):  # noqa: F405
    if not _found.ispkg:
        _module = importlib.import_module(f"{__name__}.{_found.name}")
        for _name in getattr(_module, "__all__", ()):
            if _name in __all__:
                raise ImportError(f"{_module.__name__} has a {_name}, which the zoo has already.")
            globals()[_name] = getattr(_module, _name)
            __all__.append(_name)
__all__.sort()
