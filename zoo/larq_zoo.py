"""larq-zoo's models under the zoo's roof: the same call, summary, packed files and evaluation.

``zoo.load("larq/quicknet", weights="imagenet")`` builds what ``larq_zoo.sota.QuickNet`` builds, with larq-zoo's own
weights. They are listed apart, by ``zoo.list_models("larq/*")``; their functions take larq-zoo's arguments:
``input_shape``, ``input_tensor``, ``weights``, ``include_top`` and ``num_classes``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import tensorflow as tf

from .arguments import check_data_format, check_num_classes, is_input, to_python
from .budget import building, limit
from .formats import open_checkpoint
from .larq_zoo_file import PREPROCESSING
from .model_info import ModelInfo, record_model
from .naming import TOP, assign, named_variables
from .registry import IMAGENET, Paper, register

_TASK = IMAGENET._replace(preprocessing=PREPROCESSING)
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

        num_classes, input_shape = to_python(num_classes), to_python(input_shape)
        if num_classes is not None:
            check_num_classes(num_classes)
        checkpoint = open_checkpoint(weights, name) if weights is not None and os.path.isfile(weights) else None
        if checkpoint is None and weights not in (None, "imagenet"):
            raise ValueError(f"weights of {name} must be None, 'imagenet' or the path of a file, not {weights!r}.")
        implied = (checkpoint.num_classes, checkpoint.input_shape) if checkpoint else (None, None)
        classes = num_classes or implied[0] or _TASK.classes
        shape = input_shape or (input_tensor.shape[1:] if input_tensor is not None else implied[1]) or _TASK.input_shape
        if checkpoint is not None:
            fits = checkpoint.has_top and implied[0] in (None, classes)
        else:
            fits = weights is None or classes == _TASK.classes
        new_top = include_top and not fits
        check_data_format()
        with building():
            if checkpoint is not None and not new_top:
                limit(checkpoint)
            make = functools.partial(_make, getattr(getattr(larq_zoo, module), function), input_shape=tuple(shape))
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
        return record_model(model, ModelInfo(name, arguments, PREPROCESSING))

    build.__name__ = build.__qualname__ = name
    cast(Any, build).task = _TASK
    build.__doc__ = f"larq-zoo's `{module}.{function}`, see there."
    return build


def _make(function: Callable[..., tf.keras.Model], **arguments: Any) -> tf.keras.Model:
    """Call one of larq-zoo's functions, which may fetch weights: Keras says so on stdout, which is for results here.

    Raises:
        ConnectionError: The weights cannot be fetched.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function(**arguments)
    except Exception as error:
        if str(error).startswith("URL fetch failure"):  # Keras has no class for it
            raise ConnectionError(f"The weights of {function.__name__} cannot be fetched: {error}") from error
        raise


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
    register(_name, _paper)(_delegate(_name, _module, _function))
