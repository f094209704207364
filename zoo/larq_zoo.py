"""larq-zoo's models under the zoo's roof: the same call, summary, packed files and evaluation.

``zoo.load("larq/quicknet", weights="imagenet")`` builds what ``larq_zoo.sota.QuickNet`` builds, with larq-zoo's own
weights. They are listed apart, by ``zoo.list_models("larq/*")``; their functions take larq-zoo's arguments:
``input_shape``, ``input_tensor``, ``weights``, ``include_top`` and ``num_classes``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from .budget import building, limit
from .checkpoint import Checkpoint, open_checkpoint
from .naming import TOP, assign, named_variables
from .registry import Paper, register
from .scaffold import check_data_format, is_input, plain, record_model

_IMAGENET, _CLASSES = (224, 224, 3), 1000
PREPROCESSING = "symmetric"
_MODELS = {
    "larq/binary_alexnet": ("literature", "BinaryAlexNet", "1602.02830"),
    "larq/birealnet": ("literature", "BiRealNet", "1808.00278"),
    "larq/binary_resnet_e18": ("literature", "BinaryResNetE18", "1906.08637"),
    "larq/binary_densenet28": ("literature", "BinaryDenseNet28", "1906.08637"),
    "larq/binary_densenet37": ("literature", "BinaryDenseNet37", "1906.08637"),
    "larq/binary_densenet37_dilated": ("literature", "BinaryDenseNet37Dilated", "1906.08637"),
    "larq/binary_densenet45": ("literature", "BinaryDenseNet45", "1906.08637"),
    "larq/dorefanet": ("literature", "DoReFaNet", "1606.06160"),
    "larq/meliusnet22": ("literature", "MeliusNet22", "2001.05936"),
    "larq/real_to_binary_net": ("literature", "RealToBinaryNet", "2003.11535"),
    "larq/xnornet": ("literature", "XNORNet", "1603.05279"),
    "larq/quicknet": ("sota", "QuickNet", "2011.09398"),
    "larq/quicknet_small": ("sota", "QuickNetSmall", "2011.09398"),
    "larq/quicknet_large": ("sota", "QuickNetLarge", "2011.09398"),
}


def _delegate(name: str, module: str, function: str) -> Callable[..., tf.keras.Model]:
    def build(
        *,
        input_shape: tuple[int | None, int | None, int] | None = None,
        input_tensor: tf.Tensor | None = None,
        weights: str | os.PathLike[str] | None = None,
        include_top: bool = True,
        num_classes: int | None = None,
    ) -> tf.keras.Model:
        import larq_zoo

        num_classes, input_shape = plain(num_classes), plain(input_shape)
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
            raise ValueError(f"num_classes must be a positive integer, not {num_classes!r}.")
        checkpoint = open_checkpoint(weights, name) if weights is not None and os.path.isfile(weights) else None
        if checkpoint is None and weights not in (None, "imagenet"):
            raise ValueError(f"weights of {name} must be None, 'imagenet' or the path of a file, not {weights!r}.")
        implied = (checkpoint.num_classes, checkpoint.input_shape) if checkpoint else (None, None)
        classes = num_classes or implied[0] or _CLASSES
        shape = input_shape or (input_tensor.shape[1:] if input_tensor is not None else implied[1]) or _IMAGENET
        if checkpoint is not None:
            fits = checkpoint.has_top and implied[0] in (None, classes)
        else:
            fits = weights is None or classes == _CLASSES
        new_top = include_top and not fits
        check_data_format()
        with building():
            if checkpoint is not None and not new_top:
                limit(checkpoint)
            make = functools.partial(getattr(getattr(larq_zoo, module), function), input_shape=tuple(shape))
            theirs = weights if checkpoint is None and not new_top else None
            network = make(weights=theirs, include_top=include_top, num_classes=classes)
        model = _with_lasting_names(network, name, include_top)
        if checkpoint is not None:
            checkpoint.load_into(model, new_top=new_top)
        elif new_top:
            body = _with_lasting_names(make(weights=weights, include_top=False), name, False)
            values = {name: variable.numpy() for name, variable in named_variables(body).items()}
            assign(model, values, f"larq-zoo's {function}", new_top=True)
        if input_tensor is not None:
            inputs = tf.keras.utils.get_source_inputs(input_tensor)
            model = tf.keras.Model(inputs, model.call(input_tensor), name=model.name)
        if not is_input(input_tensor):
            return model
        arguments = {"input_shape": tuple(shape), "num_classes": classes, "include_top": include_top}
        return record_model(model, name, arguments, PREPROCESSING if weights is not None else None)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"larq-zoo's `{module}.{function}`, see there."
    return build


def _with_lasting_names(model: tf.keras.Model, name: str, has_top: bool) -> tf.keras.Model:
    """Return the model with layers that are numbered from 0, kind by kind, and not by what the session made before.

    Files of weights name variables after their layers. Those of the classifier, from the last dense layer on, begin as
    they do in all models of this zoo.
    """
    count: dict[str, int] = {}
    dense = [place for place, layer in enumerate(model.layers) if isinstance(layer, tf.keras.layers.Dense)]
    top = {layer.name for layer in model.layers[dense[-1] :]} if has_top and dense else set()

    def renamed(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        kind = f"{TOP}_{type(layer).__name__.lower()}" if layer.name in top else type(layer).__name__.lower()
        number = count[kind] = count.get(kind, -1) + 1
        return type(layer).from_config({**layer.get_config(), "name": f"{kind}_{number}"})

    clone = tf.keras.models.clone_model(model, clone_function=renamed)
    clone.set_weights(model.get_weights())
    clone._name = name.replace("/", "_")
    return clone


for _name, (_module, _function, _arxiv) in _MODELS.items():
    _paper = Paper(f"{_function} of larq-zoo", "Plumerai and contributors", "larq-zoo 2.4", _arxiv)
    register(_name, _paper, _IMAGENET)(_delegate(_name, _module, _function))


class LarqZooFile(Checkpoint):
    """larq-zoo's weights of Bi-Real Net, a Keras ``.h5`` file whose layers have no names but numbers.

    The numbers count the layers in the order of their making: the stem, then block by block the shortcut's convolution
    and normalisation, where there is one, the binary convolution, and its normalisation.

    Args:
        path: The file, which `recognises` has seen.
    """

    preprocessing = PREPROCESSING

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.arguments: dict[str, Any] = {"variant": "larq_zoo", "padding": "same", "quantized": True}
        with h5py.File(path, "r") as file:
            layers = {name: _arrays(file[name]) for name in _names(file, "layer_names")}
        self._layers = {name: arrays for name, arrays in layers.items() if arrays}
        dense = [arrays for name, arrays in self._layers.items() if name.startswith("dense")]
        self.has_top = bool(dense)
        self.num_classes = len(dense[0]["bias"]) if dense else None

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether an HDF5 file is of this kind."""
        with h5py.File(path, "r") as file:
            kinds = [_kind(name) for name in _names(file, "layer_names")]
        return kinds.count("quant_conv2d") == 16 and kinds.count("conv2d") == 4

    def load_into(self, model: tf.keras.Model, new_top: bool = False) -> None:
        """See `Checkpoint`."""
        blocks = [(stage, block) for stage in range(1, 5) for block in range(1, 5)]
        downsampling = [f"stage{stage}_block1" for stage in (2, 3, 4)]
        norms = ["stem_bn"]
        for stage, block in blocks:
            name = f"stage{stage}_block{block}"
            norms += [f"{name}_shortcut_bn"] if name in downsampling else []
            norms.append(f"{name}_bn")
        wanted = {
            "conv2d": ["stem_conv", *(f"{name}_shortcut_conv" for name in downsampling)],
            "quant_conv2d": [f"stage{stage}_block{block}_conv" for stage, block in blocks],
            "batch_normalization": norms,
            "dense": ["logits"] if self.has_top else [],
        }
        values = {}
        for kind, ours in wanted.items():
            theirs = sorted((name for name in self._layers if _kind(name) == kind), key=_number)
            if len(theirs) != len(ours):
                raise ValueError(f"{self.source} has {len(theirs)} layers {kind!r}, but BiRealNet has {len(ours)}.")
            for their, our in zip(theirs, ours, strict=True):
                values.update({f"{our}/{part}": array for part, array in self._layers[their].items()})
        assign(model, values, self.source, new_top=new_top)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return names from a Keras file: bytes where an h5py before 3.0 wrote them."""
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs.get(attribute, [])]


def _arrays(group: h5py.Group) -> dict[str, np.ndarray]:
    return {name.split("/")[-1].split(":")[0]: group[name][()] for name in _names(group, "weight_names")}


def _kind(name: str) -> str:
    return name.rstrip("0123456789").rstrip("_")


def _number(name: str) -> int:
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits or 0)
