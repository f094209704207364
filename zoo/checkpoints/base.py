"""What the zoo's builders ask of a file of weights, of whatever format."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ...util.files import reading
from ..images.images import Preprocessing

if TYPE_CHECKING:
    from .weights import Weights

log = logging.getLogger(__name__)


class Checkpoint(ABC):
    """A file of weights, opened far enough to know what it holds.

    Attributes:
        source: What to call it in a message.
        arguments: The architecture arguments that it implies.
        untold: Architecture arguments that it neither implies nor depends on, so that another network than the one it
            was trained as can take it.
        num_classes: Its classes, or ``None`` where it does not tell.
        input_shape: The input it was made for, or ``None``.
        has_top: Whether it holds a classifier.
        sizes: Number of values of each of its variables, for formats whose arguments are read from the file and must
            be bounded; ``None`` for the others, and for a file of a registered digest.
        top_options: The pooling and the activation of its network, as far as it tells.
        preprocessing: What its network expects at its input; only the name of the constants where it tells no more, and
            ``None`` where it does not tell.
        class_names: What its classes are called, in their order; ``None`` where it does not tell.
        row: Its row among the registered weights, where it was opened as one of them.
    """

    source: str
    arguments: dict[str, Any]
    untold: tuple[str, ...] = ()
    num_classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    has_top: bool = True
    sizes: Mapping[str, int] | None = None
    top_options: Mapping[str, str | None] = {}
    preprocessing: Preprocessing | str | None = None
    class_names: tuple[str, ...] | None = None
    row: Weights | None = None

    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """Set the variables of ``model``, all of them, or all but those of the classifier where that is new.

        Raises:
            ValueError: File and model do not fit; the model is left as it was.
        """
        with reading(self.source):
            self._load_into(model, new_top)

    @abstractmethod
    def _load_into(self, model: tf.keras.Model, new_top: bool) -> None:
        """Do what `load_into` says, raising whatever comes."""

    def report_untold(self, function: str, arguments: Mapping[str, Any]) -> None:
        """Log as what network a file was loaded that cannot tell, where that is so."""
        if self.untold:
            log.warning(
                "%s does not tell %s of %s: it is loaded as %s. If it was trained as another network, give these "
                "arguments, or the name of that model.",
                *(self.source, ", ".join(self.untold), function),
                ", ".join(f"{name}={arguments[name]!r}" for name in self.untold),
            )
