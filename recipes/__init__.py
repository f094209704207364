"""How the papers' networks are trained: one recipe per paper, and what runs it."""

from . import birealnet, ftbnn, irnet, mcdonnell, reactnet  # noqa: F401  (each registers its recipes)
from .callbacks import DivergedError, FlipRatio, NegativeSlopes
from .datasets import DATASETS, load_dataset
from .distiller import Distiller, logits_model, teacher_logits
from .losses import SmoothedCrossentropy, distribution_loss
from .moments import average_batch_moments
from .recipe import Recipe, Stage, get_recipe, list_recipes
from .schedules import WarmRestarts
from .trainer import train

__all__ = [
    "DATASETS",
    "Distiller",
    "DivergedError",
    "FlipRatio",
    "NegativeSlopes",
    "Recipe",
    "SmoothedCrossentropy",
    "Stage",
    "WarmRestarts",
    "average_batch_moments",
    "distribution_loss",
    "get_recipe",
    "list_recipes",
    "load_dataset",
    "logits_model",
    "teacher_logits",
    "train",
]
