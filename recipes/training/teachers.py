"""Opening a teacher's file, whoever wrote it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from ...util.files import check_source, reading
from ...zoo import Preprocessing, get_preprocessing, load, load_packed, preprocessing_of
from ...zoo.building.budget import limited_to
from ...zoo.checkpoints.keras_file import KerasFile
from .logits import logits_model

# What the configuration in a .keras file may name. Keras' safe mode refuses code, but not the names of TensorFlow's
# functions, which it calls with what the file says, such as ``tf.io.write_file``; and it imports any module named.
_KERAS = ("constraints", "initializers", "layers", "mixed_precision", "regularizers")
_CLASSES = {
    ("keras", "Sequential"),
    ("tf_keras.src.applications.convnext", "LayerScale"),
    ("tf_keras.src.engine.functional", "Functional"),
}
_FILES = {"IntegerLookup", "Lambda", "StringLookup", "TFSMLayer", "TextVectorization"}  # layers that open some, or code
_LARGEST_CONFIG = 4_000_000  # bytes
_OPERATIONS = {"SlicingOpLambda", "TFOpLambda"}
_FUNCTIONS = re.compile(
    r"(__operators__|math|nn)\.\w+|cast|clip_by_value|concat|expand_dims|pad|reshape|squeeze|transpose"
)


def load_teacher(teacher: str, preprocessing: str | Preprocessing) -> tf.keras.Model:
    """Return a teacher for images of a preprocessing, from ``"MODEL:TAG"``, a packed file or a ``.keras`` file.

    Raises:
        ValueError: It is none of these, or a ``.keras`` file with more than layers of Keras, Larq and this package.
    """
    model = _open_teacher(teacher)
    own, given = (get_preprocessing(name) for name in (preprocessing_of(model) or preprocessing, preprocessing))
    if (own.mean, own.std) == (given.mean, given.std):
        return model
    channels = model.input_shape[-1]
    (mean, std), (own_mean, own_std) = (np.array(each.constants(channels)) for each in (given, own))
    again = tf.keras.layers.Rescaling(std / own_std, (mean - own_mean) / own_std, dtype="float32")
    images = tf.keras.Input(model.input_shape[1:])
    return tf.keras.Model(images, logits_model(model)(again(images)))


def _open_teacher(teacher: str) -> tf.keras.Model:
    path = Path(teacher)
    if path.exists() and not path.is_dir():
        check_source(path)
    if path.is_dir() or (path.exists() and h5py.is_hdf5(path)):
        raise ValueError(
            f"teacher={teacher!r} is a SavedModel or an HDF5 file, which may hold code that runs when it is opened. "
            "Save the model again, as .keras, or pack it."
        )
    # Keras goes by the name first: what is not both is for it a SavedModel or HDF5.
    if path.suffix == ".keras" and zipfile.is_zipfile(path):
        with reading(path, "a teacher that can be opened"):
            weights = KerasFile(path)
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
                    raise ValueError("its configuration is longer than networks' are.")
                config = json.loads(archive.read("config.json"))
                if b'"keras_version": "3' in archive.open("metadata.json").read(1000):
                    raise ValueError("it was saved by Keras 3. Save the teacher with tf_keras, Keras 2, or pack it.")
            # Of the outermost model, which Keras does not look at either where nothing is to be compiled.
            _check({name: part for name, part in config.items() if name != "compile_config"})
            # What is built from the configuration may be no larger than the weights that are in the file.
            weights.sizes = {str(number): stored.size for number, stored in enumerate(weights.stored)}
            with limited_to(weights):
                model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
            if not isinstance(model, tf.keras.Model):
                raise ValueError("it holds no model.")
            return model
    if path.exists():
        return load_packed(path)
    name, _, tag = teacher.partition(":")
    if not tag:
        raise ValueError(
            f"teacher={teacher!r} is neither MODEL:TAG (registered weights), nor the path of a packed file "
            "or of a .keras file."
        )
    return load(name, weights=tag)


def _check(config: Any) -> None:
    """Raise `ValueError` if a configuration names anything but layers, and operations on tensors."""
    if isinstance(config, list):
        for part in config:
            _check(part)
    if not isinstance(config, dict):
        return
    for part in config.values():
        _check(part)
    if "class_name" in config and not _is_harmless(config):
        inside = config.get("config")
        named = inside.get("function") if isinstance(inside, dict) else inside
        words = [word for word in (config["class_name"], named) if isinstance(word, str)]
        raise ValueError(
            f"its {' '.join(words)} of {config.get('module')} is no layer of Keras, Larq or onebit, "
            "nor a plain operation on tensors, and might run code. Pack the teacher (zoo.save_packed) if it is a "
            "network of the zoo, or build it of such layers."
        )


def _is_harmless(config: dict[str, Any]) -> bool:
    module, name, inside = (config.get(key) for key in ("module", "class_name", "config"))
    named = inside if name == "function" else name
    if not (isinstance(module, str) and isinstance(name, str) and isinstance(named, str)):
        return False
    registered = config.get("registered_name") or named  # Keras would look for that, too
    if registered not in (named, f"onebit>{named}"):
        return False
    if name == "function":
        return module == "builtins" and inside in _public(tf.keras.activations)
    if module == "tf_keras.src.layers.core.tf_op_layer" and name in _OPERATIONS:
        return isinstance(inside, dict) and _FUNCTIONS.fullmatch(str(inside.get("function"))) is not None
    package, _, rest = module.partition(".")
    if package == "keras" and rest in _KERAS:
        return isinstance(_public(getattr(tf.keras, rest)).get(name), type) and name not in _FILES
    if package in ("larq", "onebit"):
        # Where a registered name is given, Keras takes what is registered; else it imports what the module has.
        found = tf.keras.utils.get_custom_objects().get(registered)
        if not isinstance(found, type) or found.__name__ != name:
            return False
        own = found.__module__.partition(".")[0] in ("larq", "onebit")
        return own and (config.get("registered_name") is not None or found.__module__ == module)
    return (module, name) in _CLASSES


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name[0] != "_"}
