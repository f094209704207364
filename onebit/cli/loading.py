"""How commands load TensorFlow, and models with their weights."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..util.files import check_source, reading
from ..util.formatting import brief, printable
from ..util.stderr import captured_stderr
from .catalogue import models

if TYPE_CHECKING:
    import tensorflow as tf

    from ..zoo import Preprocessing, Weights

_LARGEST_LIST = 10**6  # bytes of a text of class names
_TALKATIVE = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3"


def import_tensorflow(for_training: bool = False) -> None:
    """Import TensorFlow without what its C++ code writes to the terminal meanwhile.

    Some of it is written before any log level is heeded, hence the redirection. A user who sets
    ``TF_CPP_MIN_LOG_LEVEL`` to less than 3 gets it all.

    Args:
        for_training: Choose oneDNN's kernels, which TensorFlow itself does on the newest x86 processors only: they
            train these networks up to three times as fast. What ``TF_ENABLE_ONEDNN_OPTS`` says goes first.
    """
    if "tensorflow" in sys.modules:
        return
    if for_training:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if _TALKATIVE:
        return
    with captured_stderr(shown_on_error=True):
        tensorflow = importlib.import_module("tensorflow")
        if for_training:  # XLA announces itself when it first compiles something
            tensorflow.function(lambda: tensorflow.zeros(()) + 1, jit_compile=True)()
    tensorflow.get_logger().setLevel("ERROR")  # not that a function is traced again, which is as it should be


@dataclass(frozen=True)
class Loaded:
    """A model with weights, and what belongs to them.

    Attributes:
        model: The network.
        weights: Their tag, or where their file is.
        row: Their registered row; ``None`` for a file and for larq-zoo's.
        preprocessing: What the network expects at its input.
        class_names: What the classes are called, where that is known.
        size: (height, width) that images are brought to.
        channels: Number of the images' channels.
    """

    model: tf.keras.Model
    weights: str
    row: Weights | None
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    size: tuple[int, int]
    channels: int


def load(name: str, weights: str | None, preprocessing: str | None = None, classes: str | None = None) -> Loaded:
    """Load a registered model, or a packed file, for inference, as the options of the same names ask for it.

    Files are here or on the Hugging Face Hub.

    Raises:
        click.UsageError: There is no one set of weights to take by default, or no such weights or class names.
        ValueError: The weights do not suit the model, or the class names not its classes.
    """
    from .. import zoo
    from ..zoo.checkpoints.weights import is_tag
    from ..zoo.images.images import resolve_preprocessing
    from ..zoo.registry import function

    names = None if classes is None else read_class_names(classes)
    row = None
    if name not in models():
        if weights is not None:
            raise click.UsageError(f"--weights has no effect on {printable(name)}, which is a file with weights.")
        tag, model = name, zoo.load_packed(name)
    else:
        tag = _default(name) if weights is None else weights
        row = _registered(name, tag) if is_tag(tag) else None
        model = zoo.load(name, weights=tag)
    if names is not None and len(names) != model.output_shape[-1]:
        raise ValueError(f"{len(names)} classes are named, but the model has {model.output_shape[-1]}.")
    info = zoo.model_info(model)
    if names is None and info:
        names = info.class_names
    usual = zoo.preprocessing_of(model) or zoo.Preprocessing()
    # Weights for any size leave height and width open.
    size = usual.size or (function(info.function).spec.input_shape if info else (224, 224))
    return Loaded(
        model,
        weights=tag,
        row=row,
        preprocessing=resolve_preprocessing(preprocessing, usual),
        class_names=names,
        size=(model.input_shape[1] or size[0], model.input_shape[2] or size[1]),
        channels=model.input_shape[3],
    )


def read_class_names(source: str) -> tuple[str, ...]:
    """Return the names that ``--classes`` stands for."""
    from .. import zoo

    path = Path(source)
    if path.exists() and not path.is_dir():
        with reading(f"--classes: {source}", "a text file in UTF-8 with a name in each line"):
            text = check_source(path, _LARGEST_LIST).read_text(encoding="utf-8-sig")
            names = tuple(line.strip() for line in text.rstrip().split("\n"))
            if odd := [name for name in names if not (name and name.isprintable())]:
                raise ValueError(f"a line of it is {brief(odd[0])}")
            return names
    known = zoo.class_names(source)
    if known is None:
        raise click.UsageError(f"--classes must be a text file or a dataset whose classes are known, not {source!r}.")
    return known


def _registered(name: str, tag: str) -> Weights | None:
    """Return the registered weights of a tag; ``None`` for larq-zoo's, of which nothing is registered."""
    from .. import zoo

    if _is_larq_zoos(name):
        if tag != "imagenet":
            raise click.UsageError(f"--weights of {name} must be imagenet or the path of a file, not {tag!r}.")
        return None
    try:
        return zoo.get_weights(name, tag)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _default(name: str) -> str:
    """Return the tag of the weights that a model has where none are asked for: the first ones of the package, or the
    only ones.
    """
    rows = models()[name]["weights"]
    shipped = [row["tag"] for row in rows if not (row["url"] or row.get("page"))]
    tags = [row["tag"] for row in rows]
    if shipped or len(tags) == 1:
        return (shipped or tags)[0]
    having = f"Registered are {', '.join(map(repr, tags))}." if tags else no_weights_message(name)
    raise click.UsageError(f"Say which weights of {name} with --weights. {having}")


def no_weights_message(name: str) -> str:
    """Return what to say of a model without registered weights: where else to have them from."""
    source = "imagenet takes larq-zoo's own" if _is_larq_zoos(name) else "takes a file"
    return f"No weights are registered; --weights {source}."


def _is_larq_zoos(name: str) -> bool:
    return name.startswith("larq/")
