"""From a file to a model, whatever the format: build it, fill one that is there, or write it as a packed file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..util import hub
from ..util.arguments import check_implied
from ..util.files import check_source, check_target, reading
from .checkpoints.formats import open_checkpoint
from .checkpoints.packed import save_packed
from .checkpoints.packed_file import PackedFile
from .checkpoints.weights import Weights
from .images.images import Preprocessing, resolve_preprocessing
from .model_info import model_info, record_model
from .registry import entry, function, open_for


def load(name: str, weights: str | os.PathLike[str] | Weights | None = None, **options: Any) -> tf.keras.Model:
    """Build a registered model, with or without weights, or the model of a packed file on the Hugging Face Hub.

    Args:
        name: A name from `list_models`; or ``"hf://USER/REPO"``, with ``@REVISION`` and ``/FILE`` behind it if wanted,
            which is downloaded into the Hub's cache and then read as `load_packed` reads any file.
        weights: The tag of registered weights, one of these itself, the path of a checkpoint, or the address of one on
            the Hub, ``"hf://USER/REPO"``.
        **options: Everything else that the model's function takes.

    Raises:
        ValueError: There is no such model, or the value of an option does not suit it.
        TypeError: Its function takes no such option.
        FileNotFoundError, PermissionError, ConnectionError, ImportError: The weights cannot be fetched, or cannot be
            read here.
    """
    if hub.is_address(name):
        if weights is not None:
            raise ValueError(f"weights must be None for {name}, which has its own, not {weights!r}.")
        return load_packed(name, **options)
    return entry(name).load(weights=weights, **options)


def load_weights(model: tf.keras.Model, path: str | os.PathLike[str]) -> None:
    """Set all variables of a model from a checkpoint of any format that the zoo reads.

    Where the file says what its network expects at the input, that and its class names are the model's from now on.

    Args:
        model: Any Keras model of the architecture that the checkpoint was made for.
        path: The file, or its address on the Hugging Face Hub.

    Raises:
        ValueError: The file is damaged or does not fit; the model is left as it was.
        FileNotFoundError, PermissionError, ConnectionError: There is no such file, or it cannot be fetched.
    """
    info, path = model_info(model), hub.local(path)
    checkpoint = open_for(function(info.function), path) if info else open_checkpoint(path)
    if info:
        check_implied(info.function, info.arguments, checkpoint.arguments)
        checkpoint.report_untold(info.function, info.arguments)
    checkpoint.load_into(model)
    if info:
        info = dataclasses.replace(info, weights=checkpoint.row)
        if checkpoint.preprocessing is not None:
            names = checkpoint.class_names if info.arguments["include_top"] else None
            preprocessing = resolve_preprocessing(checkpoint.preprocessing, info.preprocessing)
            info = dataclasses.replace(info, preprocessing=preprocessing, class_names=names)
        record_model(model, info)


def load_packed(path: str | os.PathLike[str], **options: Any) -> tf.keras.Model:
    """Build the model that a packed file describes, with its weights.

    Args:
        path: A file that `save_packed` wrote from a model of the zoo, or its address on the Hugging Face Hub.
        **options: Arguments of the model's function that are to be others than the file says, such as ``num_classes``.

    Raises:
        ValueError: The file is damaged or does not say how to build its model, or describes a model that is larger than
            what the file holds; or an option does not suit it.
        FileNotFoundError, PermissionError, ConnectionError: There is no such file, or it cannot be fetched.
    """
    path = hub.local(path)
    with reading(path):
        file = PackedFile(path)
        if file.function is None:
            raise ValueError(
                f"{path} holds the weights of a model that is not the zoo's, so it cannot be built from the file. "
                "Build the model and call load_weights(model, path)."
            )
        build = function(file.function)
        try:
            return build(weights=file.path, **{"include_top": file.has_top, **options})
        except Exception as error:  # whatever the arguments of a damaged file lead Keras to
            raise ValueError(f"The model that {path} describes cannot be built: {error}") from error


def convert(
    source: str | os.PathLike[str],
    name: str,
    path: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | str | None = None,
    metrics: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> Path:
    """Read a checkpoint of any format that the zoo knows, strictly, and write it as a packed file.

    Args:
        source: The checkpoint: an official PyTorch file of Bi-Real Net, ReActNet or IR-Net, a ``.mat`` file of
            McDonnell's, larq-zoo's ``.h5`` of Bi-Real Net, a Keras file, or a packed file.
        name: The registered model that it belongs to, such as ``"reactnet_a"``.
        path: The packed file to write.
        preprocessing: What the network expects at its input, or the name of its constants in `zoo.PREPROCESSING`.
            Default: what the checkpoint says, else the convention of the paper's code, see `zoo.preprocessing_of`.
        metrics, class_names: For the packed file's header, see `save_packed`.
        **options: More arguments of the model, such as ``step=1`` or ``num_classes=100``.

    Returns:
        The path of the packed file.

    Raises:
        ValueError: The checkpoint is damaged, or does not fit the model; the message lists what is missing, unexpected
            or misshaped.
        FileNotFoundError: There is no such checkpoint, or no such folder to write to.
        ImportError: It is a PyTorch checkpoint, and PyTorch is not installed.
    """
    check_source(source)
    check_target(path)
    network = load(name, weights=source, **options)
    return save_packed(
        network,
        path,
        source=f"converted from {Path(source).name}",
        metrics=metrics,
        preprocessing=preprocessing,
        class_names=class_names,
    )
