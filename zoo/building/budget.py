"""A limit on how large a model may grow while its arguments come from a file, which may claim anything."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from ...util.files import reading
from ..checkpoints.base import Checkpoint
from ..checkpoints.variables import TOP

_SPARE = 16  # what a Keras model has beyond its layers' variables: scalar counters


@contextlib.contextmanager
def naming(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Name the checkpoint in the errors of this context, if there is one.

    Which argument does not suit is known; whether the caller or the file gave it, only the caller can tell.

    Raises:
        ValueError: In place of whatever error a building with a checkpoint ends in.
    """
    if checkpoint is None:
        yield
        return
    with reading(checkpoint.source):
        try:
            yield
        except Exception as error:
            if checkpoint.source in str(error):
                raise
            raise ValueError(f"{error} (With the weights of {checkpoint.source}.)") from error


@contextlib.contextmanager
def limited_to(checkpoint: Checkpoint | None, free_top: bool = False) -> Iterator[None]:
    """Let the variables that are created in this context be no more and no larger than a checkpoint's.

    Without a checkpoint, or with one that vouches for its arguments (``sizes`` is ``None``), nothing is watched.

    Args:
        checkpoint: The file that the arguments come from.
        free_top: Whether the classifier is left out, because it does not come from the file.

    Raises:
        ValueError: The file does not hold so much.
    """
    if checkpoint is None or checkpoint.sizes is None:
        yield
        return
    budget = _Budget(checkpoint.sizes, checkpoint.source, free_top)

    def create(next_creator: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        budget.spend(kwargs.get("shape"))
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield


class _Budget:
    """What is left of a file's variables and of the values in them."""

    def __init__(self, sizes: Mapping[str, int], source: str, free_top: bool) -> None:
        self.source, self.free_top = source, free_top
        self._variables = len(sizes) + _SPARE
        self._values = sum(sizes.values()) + _SPARE

    def spend(self, shape: Any) -> None:
        """Take a variable of this shape.

        Raises:
            ValueError: There is not so much left.
        """
        if self.free_top and tf.get_current_name_scope().startswith(TOP):
            return
        self._variables -= 1
        self._values -= 1 if shape is None else math.prod(tf.TensorShape(shape).as_list())
        if self._variables < 0 or self._values < 0:
            raise ValueError(f"{self.source} does not suit: the model to build is larger than what the file holds.")
