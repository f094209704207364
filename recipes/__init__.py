"""How the papers' networks are trained: one recipe per paper, and what runs it."""

from . import birealnet, ftbnn, irnet, mcdonnell, reactnet  # noqa: F401  (each registers its recipes)
from .callbacks import DivergedError, FlipRatio, NegativeSlopes
from .data import as_images
from .datasets import DATASETS, load_dataset
from .distiller import Distiller, logits_model, teacher_logits
from .losses import SmoothedCrossentropy, distribution_loss
from .moments import average_batch_moments
from .optimizers import L2SGD, L2Adam
from .recipe import Recipe, Stage, get_recipe, list_recipes
from .schedules import CosineEpochs, LinearEpochs, StepEpochs, WarmRestarts, WarmupSteps
from .strategies import get_strategy
from .trainer import train

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
    "StepEpochs",
    "WarmRestarts",
    "WarmupSteps",
    "as_images",
    "average_batch_moments",
    "distribution_loss",
    "get_recipe",
    "get_strategy",
    "list_recipes",
    "load_dataset",
    "logits_model",
    "teacher_logits",
    "train",
]
