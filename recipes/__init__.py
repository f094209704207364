"""How the papers' networks are trained: one recipe per paper, and what runs it.

The modules of this folder register their recipes when they are imported, which happens below; what their ``__all__``
names, where they have one, is exported as well.
"""

import importlib
import pkgutil

from ..util.memory import release_custom_gradients
from .data.datasets import DATASETS, load_dataset
from .data.images import as_images
from .recipe import Recipe, Stage, get_recipe, list_recipes
from .trainer import train
from .training.batch_norm import recalibrate_batch_norm
from .training.callbacks import DivergedError, FlipRatio, NegativeSlopes
from .training.distiller import Distiller
from .training.logits import logits_model, teacher_logits
from .training.losses import SmoothedCrossentropy, distribution_loss
from .training.optimizers import L2SGD, L2Adam
from .training.schedules import CosineEpochs, LinearEpochs, WarmRestarts, WarmupSteps
from .training.strategies import get_strategy

__all__ = [
    "DATASETS",
    "L2SGD",
    "CosineEpochs",
    "Distiller",
    "DivergedError",
    "FlipRatio",
    "L2Adam",
    "LinearEpochs",
    "NegativeSlopes",
    "Recipe",
    "SmoothedCrossentropy",
    "Stage",
    "WarmRestarts",
    "WarmupSteps",
    "as_images",
    "distribution_loss",
    "get_recipe",
    "get_strategy",
    "list_recipes",
    "load_dataset",
    "logits_model",
    "recalibrate_batch_norm",
    "release_custom_gradients",
    "teacher_logits",
    "train",
]

for _module in pkgutil.iter_modules(__path__):
    _imported = importlib.import_module(f"{__name__}.{_module.name}")
    for _name in getattr(_imported, "__all__", ()):
        globals()[_name] = getattr(_imported, _name)
        __all__ += [_name]
