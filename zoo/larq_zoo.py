"""larq-zoo's models under the zoo's roof: the same call, summary, packed files and evaluation.

``zoo.load("larq/quicknet", weights="imagenet")`` builds what ``larq_zoo.sota.QuickNet`` builds, with larq-zoo's own
weights. They are listed apart, by ``zoo.list_models("larq/*")``; their functions take larq-zoo's arguments:
``input_shape``, ``input_tensor``, ``weights``, ``include_top`` and ``num_classes``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import tensorflow as tf

from ..util import hub
from ..util.arguments import check_data_format, to_python
from ..util.download import keras_fetching
from ..util.optional import require
from .building import ModelOptions
from .building.architecture import has_new_top, load_into, record, report_new_top, settle
from .building.budget import limited_to, naming
from .checkpoints.formats import open_checkpoint
from .checkpoints.variables import TOP, assign, latent_scope, named_variables
from .checkpoints.weights import is_tag
from .images.images import for_dataset
from .registry import IMAGENET, Architecture, Paper, register

_SPEC = IMAGENET._replace(preprocessing=for_dataset("minus1_1", "imagenet2012"))
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


def _delegate(name: str, module: str, function: str) -> Architecture[...]:
    def build(
        *,
        input_shape: tuple[int | None, int | None, int] | None = None,
        input_tensor: tf.Tensor | None = None,
        weights: str | os.PathLike[str] | None = None,
        include_top: bool = True,
        num_classes: int | None = None,
    ) -> tf.keras.Model:
        larq_zoo = require("larq_zoo", f'{name} is a model of larq-zoo, which is not installed: pip install ".[zoo]"')
        theirs = getattr(getattr(larq_zoo, module), function)
        make = functools.partial(_make, theirs)
        is_path = weights is not None and not is_tag(weights)
        if is_tag(weights) and weights != "imagenet":
            raise ValueError(f"weights of {name} must be None, 'imagenet' or the path of a file, not {weights!r}.")
        check_data_format()
        checkpoint = open_checkpoint(hub.local(cast(Any, weights)), name) if is_path else None
        options = ModelOptions(
            input_shape=to_python(input_shape),
            input_tensor=input_tensor,
            include_top=include_top,
            num_classes=to_python(num_classes),
        )
        with naming(checkpoint):
            settled = settle(name, _SPEC, options, checkpoint)
            shape, classes = settled["input_shape"], settled["num_classes"]
            published = weights == "imagenet" and not is_path
            new_top = has_new_top(settled, checkpoint) or (published and include_top and classes != _SPEC.num_classes)
            # Where the classifier is not the file's, their layers have no names by which to tell it from the body.
            with limited_to(None if new_top else checkpoint):
                fetched = "imagenet" if published and not new_top else None
                network = make(weights=fetched, include_top=include_top, num_classes=classes, input_shape=shape)
        model = _with_lasting_names(network, name, _body_layers(theirs) if include_top else None)
        if checkpoint is not None:
            load_into(model, checkpoint, settled)
        elif new_top:
            report_new_top(f"larq-zoo's {function}", _SPEC.num_classes, model.name, classes)
            body = _with_lasting_names(make(weights="imagenet", include_top=False, input_shape=shape), name, None)
            values = {name: variable.numpy() for name, variable in named_variables(body).items()}
            assign(model, values, f"larq-zoo's {function}", new_top=True)
        if input_tensor is not None:
            sources = tf.keras.utils.get_source_inputs(input_tensor)
            model = tf.keras.Model(sources, model.call(input_tensor), name=model.name)
        recorded = cast(ModelOptions, {key: settled[key] for key in options})  # type: ignore[literal-required]
        return record(model, name, _SPEC, {}, recorded, checkpoint)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"larq-zoo's `{module}.{function}`, see there."
    delegate = cast(Architecture[...], build)
    delegate.spec, delegate.state_dicts, delegate.complete = _SPEC, (), _no_arguments
    return delegate


def _no_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return dict(arguments)


def _make(function: Callable[..., tf.keras.Model], **arguments: Any) -> tf.keras.Model:
    """Call one of larq-zoo's functions, which may fetch weights.

    Raises:
        ConnectionError: The weights cannot be fetched.
    """
    with keras_fetching(f"The weights of {function.__name__}"):
        return function(**arguments)


@functools.cache
def _body_layers(function: Callable[..., tf.keras.Model]) -> int:
    """Return how many layers a network has before its classifier: as many as without."""
    return len(function(weights=None, include_top=False, input_shape=_SPEC.input_shape).layers)


def _with_lasting_names(model: tf.keras.Model, name: str, body: int | None) -> tf.keras.Model:
    """Return the model with layers that are numbered from 0, kind by kind, and not by what the session made before.

    Files of weights name variables after their layers. Those of the classifier, behind the first ``body`` layers if
    there is one, begin as they do in all models of this zoo.
    """
    count: dict[str, int] = {}
    top = {layer.name for layer in model.layers[body:]} if body is not None else set()

    def renamed(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        kind = f"{TOP}_{type(layer).__name__.lower()}" if layer.name in top else type(layer).__name__.lower()
        number = count[kind] = count.get(kind, -1) + 1
        return type(layer).from_config({**layer.get_config(), "name": f"{kind}_{number}"})

    clone = tf.keras.models.clone_model(model, clone_function=renamed)
    with latent_scope():
        clone.set_weights(model.get_weights())
    clone._name = name.replace("/", "_")
    return clone


for _name, (_module, _function, _arxiv) in _MODELS.items():
    _paper = Paper(f"{_function} of larq-zoo", "Plumerai and contributors", "larq-zoo 2.4", _arxiv)
    register(_name, _paper)(_delegate(_name, _module, _function))
