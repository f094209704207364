"""The comparison of a network with the golden vectors of its official code."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf

from onebit.zoo.checkpoints.state_dicts import IGNORED, UNMATCHED, Place
from onebit.zoo.checkpoints.variables import assign, named_variables

SEED = 1


def error(actual: object, golden: np.ndarray) -> float:
    """Return max|a - b| / max|b|, which is finite."""
    actual = np.asarray(actual)
    assert actual.shape == golden.shape
    assert np.isfinite(actual).all() and np.any(golden)
    return float(np.max(np.abs(actual - golden)) / np.max(np.abs(golden)))


def load_official(model: tf.keras.Model, state: Mapping[str, np.ndarray], places: Mapping[str, Place], ignored=IGNORED):
    """Fill a model from an official state dict: every tensor has a place or is ignored, every variable is filled."""
    variables = named_variables(model)
    parts: dict[str, dict[int, np.ndarray]] = {}
    unused = {name for name in state if not any(fnmatch(name, pattern) for pattern in ignored)}
    assert unused == set(places)
    for name, place in places.items():
        value = place.to_keras(state[name], tuple(variables[place.variable].shape))
        parts.setdefault(place.variable, {})[place.part] = value
    values = {name: np.concatenate([each[i] for i in sorted(each)], axis=-1) for name, each in parts.items()}
    left = {name: v.numpy() for name, v in variables.items() if any(fnmatch(name, pattern) for pattern in UNMATCHED)}
    assign(model, values | left, "the official state dict")


def golden_errors(
    model: tf.keras.Model, name: str, places: Mapping[str, Place], goldens: Path, reference: ModuleType, ignored=IGNORED
) -> dict[str, float]:
    """Return the relative error of every recorded array that a model without a softmax has a counterpart of."""
    manifest, gold = goldens / f"{name}.json", np.load(goldens / f"{name}.npz")
    state = reference.state_dict(manifest, SEED)
    load_official(model, state, places, ignored)
    x = reference.example_input(manifest, SEED, "NHWC")
    cotangent = reference.cotangent(gold["logits_train"].shape, SEED)
    variables = named_variables(model)
    errors = {"logits_eval": error(model(x, training=False), gold["logits_eval"])}

    settings = (
        list(zip(("_e0", "_late"), gold["ede_k"], gold["ede_t"], strict=True)) if "ede_k" in gold else [("", 1, 1)]
    )
    for index, (suffix, k, t) in enumerate(settings):
        for path, variable in variables.items():
            if path.endswith(("/k_bias", "/t_bias")):
                variable.assign(k if path.endswith("/k_bias") else t)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_sum(logits * cotangent)
        if index == 0:
            errors["logits_train"] = error(logits, gold["logits_train"])
            for key in gold.files:
                if key.startswith("bn_after/"):
                    errors[key] = error(_official(variables, places, state, key.split("/", 1)[1]), gold[key])
        paths = [path for path, variable in variables.items() if variable.trainable]
        gradients = dict(zip(paths, tape.gradient(loss, [variables[path] for path in paths]), strict=True))
        for key in gold.files:
            kind, _, official = key.partition("/")
            if kind == f"grad{suffix}":
                errors[key] = error(_official(gradients, places, state, official), gold[key])
            elif kind == f"gradprobe{suffix}":
                gradient = _official(gradients, places, state, official)
                errors[key] = error(reference.probe(gradient, SEED), gold[key])
    return errors


def _official(values, places, state, official: str) -> np.ndarray:
    """Return a tensor as the official code has it, the inverse of `Place.to_keras`."""
    place = places[official]
    value, shape = values[place.variable].numpy(), state[official].shape
    value = np.split(value, place.parts, axis=-1)[place.part]
    if place.kind == "conv":
        value = value.transpose(3, 2, 0, 1)
    elif place.kind == "dense":
        if place.flattened:
            channels, height, width = place.flattened
            value = value.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(value.shape)
        value = value.T
    return (-value if place.kind == "negated" else value).reshape(shape)


def drawn_state(model: tf.keras.Model, places: Mapping[str, Place], reference: ModuleType, statistics: float = 1.0):
    """Return an official state dict of the golden vectors' rule, its tensors of the shapes that the places imply.

    Args:
        statistics: Factor of the running variances: networks whose convolutions have large outputs need large ones.
    """
    variables = named_variables(model)
    state = {}
    for name, place in places.items():
        shape = tuple(variables[place.variable].shape)
        last = name.rsplit(".", 1)[-1]
        if place.kind == "conv":
            height, width, depth, channels = shape
            entry = {"kind": "conv_weight", "shape": (channels // place.parts, depth, height, width)}
            entry["fan_in"] = height * width * depth
        elif place.kind == "dense":
            entry = {"kind": "linear_weight", "shape": shape[::-1], "fan_in": shape[0]}
        elif place.variable.endswith("/slope"):
            entry = {"kind": "prelu_weight", "shape": shape[-1:], "fan_in": None}
        else:
            kinds = {"weight": "bn_weight", "bias": "bn_bias", "running_mean": "bn_mean", "running_var": "bn_var"}
            entry = {"kind": kinds[last], "shape": (shape[-1] // place.parts,), "fan_in": None}
            entry["scale"] = statistics if last == "running_var" else 1.0
        state[name] = reference.draw({"name": name, **entry}, SEED)
    return state


def torch_errors(model, places, network, x, state) -> dict[str, float]:
    """Return the relative errors of logits, of every gradient, and of every running statistic, against PyTorch.

    Args:
        model: Without a softmax.
        places: Where each official tensor goes.
        network: A function (state dict, NCHW batch, training) of `torch_networks`.
        x: A batch, NHWC.
        state: The official state dict.
    """
    import torch

    load_official(model, state, places)
    theirs = {name: torch.tensor(value) for name, value in state.items()}
    for name, tensor in theirs.items():
        tensor.requires_grad_("running" not in name)
    images = torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    errors = {"logits_eval": error(model(x, training=False), network(theirs, images, False).detach().numpy())}
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        cotangent = np.random.default_rng(0).standard_normal(logits.shape)
        loss = tf.reduce_sum(logits * cotangent)
    expected = network(theirs, images, True)
    (expected * torch.tensor(cotangent)).sum().backward()
    errors["logits_train"] = error(logits, expected.detach().numpy())
    variables = named_variables(model)
    trained = {path: variable for path, variable in variables.items() if variable.trainable}
    gradients = dict(zip(trained, tape.gradient(loss, list(trained.values())), strict=True))
    for name, tensor in theirs.items():
        values, golden = (gradients, tensor.grad) if tensor.requires_grad else (variables, tensor)
        errors[name] = error(_official(values, places, state, name), golden.numpy())
    return errors
