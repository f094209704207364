"""A limit on how large a model may grow while its arguments come from a file, which may claim anything."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from ...util.files import reading
from ..checkpoints.base import Checkpoint
from ..checkpoints.variables import TOP

_SPARE = 16  # what a Keras model has beyond its layers' variables: scalar counters


class Budget:
    """What is left of a file's variables and of the values in them.

    Args:
        sizes: How many values each of the file's variables has; ``None`` for no limit.
        source: What to call the file.

    Attributes:
        free_top: Whether the classifier is left out, because it does not come from the file.
    """

    def __init__(self, sizes: Mapping[str, int] | None, source: str) -> None:
        self.source = source
        self.free_top = False
        self._variables = math.inf if sizes is None else len(sizes) + _SPARE
        self._values = math.inf if sizes is None else sum(sizes.values()) + _SPARE

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


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Let `limit` hold for the variables that are created in this context.

    Raises:
        ValueError: In place of whatever error a building with a budget ends in; it names the file.
    """

    def create(next_creator: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        budget = _budget.get()
        if budget is not None:
            budget.spend(kwargs.get("shape"))
        return next_creator(**kwargs)

    token = _budget.set(None)
    try:
        with tf.variable_creator_scope(create):
            yield
    except Exception as error:
        budget = _budget.get()
        if budget is None:
            raise
        with reading(budget.source):
            if budget.source in str(error):
                raise
            # Which argument does not suit is known; whether the caller or the file gave it, only the caller can tell.
            raise ValueError(f"{error} (With the weights of {budget.source}.)") from error
    finally:
        _budget.reset(token)


def limit(checkpoint: Checkpoint) -> Budget:
    """Stop the building that is going on as soon as it exceeds what a checkpoint holds."""
    budget = Budget(checkpoint.sizes, checkpoint.source)
    _budget.set(budget)
    return budget
