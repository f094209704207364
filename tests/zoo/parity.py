"""The comparison of a network with recordings of its official code, and with our PyTorch transcription of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from onebit import zoo
from onebit.zoo.checkpoints.state_dicts import load_state_dict
from onebit.zoo.checkpoints.variables import assign, named_variables
from tests.goldens import reference
from tests.helpers import GOLDENS

TOLERANCE = 1e-9
UNCOMPARED = ("tap_eval/", "sign_stats_", "ede_")
"""Recorded arrays that describe the recording, or serve to find where two implementations part."""

Values = Mapping[str, Any]


def entrywise_error(actual: Any, golden: Any) -> float:
    """Return the largest difference of two entries, relative to the array's root mean square."""
    actual, golden = np.asarray(actual), np.asarray(golden)
    assert actual.shape == golden.shape
    assert np.isfinite(actual).all() and np.any(golden)
    return float(np.max(np.abs(actual - golden)) / np.sqrt(np.mean(golden**2)))


def probe_error(actual: np.ndarray, golden: np.ndarray) -> float:
    """Return the error of a whole array against a probe of it: of each entry there, and of the sum of squares."""
    *entries, squares = golden
    *own, own_squares = reference.probe(actual)
    scale = np.sqrt(squares / actual.size)
    return float(max(np.max(np.abs(np.subtract(own, entries))) / scale, abs(own_squares / squares - 1)))


class PyTorchNames:
    """The tensors of a registered model's official PyTorch code, and where each is in the model."""

    def __init__(self, name: str) -> None:
        entry = zoo.entry(name)
        implied = entry.arguments.items()
        (self.layout,) = [
            each for each in entry.build.state_dicts if {**entry.arguments, **each.implies}.items() >= implied
        ]
        self.tensors = self.layout.tensors()

    def load(self, model: tf.keras.Model, state: Values) -> None:
        """Fill a model, strictly."""
        load_state_dict(model, state, self.layout, "the official state dict")

    def official(self, values: Values, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the tensor ``name`` in its official shape, out of ``values`` by our variables' names."""
        place = self.tensors[name]
        ours = values[place.variable].numpy()
        # Conversions change places and signs, so that numbered entries say where each one went.
        numbers = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
        numbers = place.to_keras(numbers, ours.shape)
        if place.parts > 1:
            ours = np.split(ours, place.parts, axis=-1)[place.part]
        official = np.empty(numbers.size)
        official[np.abs(numbers).astype(int).ravel() - 1] = (np.sign(numbers) * ours).ravel()
        return official.reshape(shape)


class KerasNames:
    """The variables of official Keras code, which are named in the order of the layers."""

    def __init__(self, model: tf.keras.Model) -> None:
        self.paths: dict[str, str] = {}
        counts = {"conv": 0, "bn": 0}
        for layer in model.layers:
            kind = "conv" if hasattr(layer, "kernel") else "bn" if hasattr(layer, "moving_mean") else None
            if kind:
                for path in (path for path in named_variables(model) if path.startswith(f"{layer.name}/")):
                    self.paths[f"{kind}_{counts[kind]}/{path.partition('/')[2]}"] = path
                counts[kind] += 1

    def load(self, model: tf.keras.Model, state: Values) -> None:
        """Fill a model: every variable is filled."""
        assign(model, {self.paths[name]: value for name, value in state.items()}, "the official variables")

    def official(self, values: Values, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the variable ``name`` out of ``values`` by our variables' names."""
        return values[self.paths[name]].numpy().reshape(shape)


class LayerNames:
    """Tensors that are named after our layers, where the official code is not PyTorch's."""

    def __init__(self, model: tf.keras.Model) -> None:
        self.variables = named_variables(model)

    def path(self, name: str) -> str:
        """Return our variable's name."""
        layer, _, kind = name.rpartition(".")
        kinds = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "beta"}
        return f"{layer}/{kinds.get(kind) or ('gamma' if layer.endswith('_bn') else 'kernel')}"

    def load(self, model: tf.keras.Model, state: Values) -> None:
        """Fill a model: every variable is filled."""
        found = {self.path(name): np.transpose(v, (2, 3, 1, 0)) if v.ndim == 4 else v for name, v in state.items()}
        assign(model, found, "the transcription")

    def official(self, values: Values, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the tensor ``name`` out of ``values`` by our variables' names."""
        ours = values[self.path(name)].numpy()
        return np.transpose(ours, (3, 2, 0, 1)) if ours.ndim == 4 else ours


def golden_errors(golden: str) -> dict[str, float]:
    """Return the errors of everything that was recorded of an official network, by the recorded arrays' names."""
    path = GOLDENS / f"{golden}.json"
    manifest, arrays, state = (
        reference.load_manifest(path),
        np.load(path.with_suffix(".npz")),
        reference.state_dict(path),
    )
    _, channels, height, width = manifest["input_shape"]
    model = zoo.load(
        manifest["zoo"]["model"],
        **manifest["zoo"].get("arguments", {}),
        input_shape=(height, width, channels),
        num_classes=manifest["num_classes"],
        classifier_activation=None,
    )
    names = KerasNames(model) if manifest["framework"] == "keras" else PyTorchNames(manifest["zoo"]["model"])
    names.load(model, state)
    x = reference.example_input(path, layout="NHWC")
    outputs = {"logits": tf.identity, "softmax": tf.nn.softmax, "log_softmax": tf.nn.log_softmax}
    output = outputs[manifest["official_output"]]

    logits = model(x, training=False)
    compared = {"logits_eval": logits, "output_eval": output(logits)}
    gradients: dict[str, Values] = {}
    for index, suffix in enumerate(("_e0", "_late") if "ede_k" in arrays else ("",)):
        if suffix:
            set_ede(model, arrays["ede_k"][index], arrays["ede_t"][index])
        logits, gradients[f"grad{suffix}"] = logits_and_gradients(model, x)
        if index == 0:
            compared |= {"logits_train": logits, "output_train": output(logits)}
            statistics = {name: tf.identity(variable) for name, variable in named_variables(model).items()}

    errors = {}
    for key in arrays.files:
        kind, _, name = key.partition("/")
        if key.startswith(UNCOMPARED):
            continue
        if kind in compared:
            errors[key] = entrywise_error(compared[kind], arrays[key])
            continue
        probe = kind.startswith("gradprobe")
        values = statistics if kind == "bn_after" else gradients[kind.replace("probe", "")]
        ours = names.official(values, name, state[name].shape)
        errors[key] = (probe_error if probe else entrywise_error)(ours, arrays[key])
    return errors


def set_ede(model: tf.keras.Model, k: float, t: float) -> None:
    """Set the state of every quantizer whose gradient follows IR-Net's schedule."""
    for name, variable in named_variables(model).items():
        if name.endswith(("/k_bias", "/t_bias")):
            variable.assign(k if name.endswith("/k_bias") else t)


def logits_and_gradients(model: tf.keras.Model, x: np.ndarray) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Run one training step's forward and backward pass; the gradients are those of sum(logits * cotangent)."""
    trained = {name: variable for name, variable in named_variables(model).items() if variable.trainable}
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_sum(logits * reference.cotangent(logits.shape))
    return logits, dict(zip(trained, tape.gradient(loss, list(trained.values())), strict=True))


def drawn(state: Values) -> dict[str, np.ndarray]:
    """Return a state dict of the same names and shapes, drawn by the golden vectors' rules.

    Tensors of kinds that these do not know are moved a little from where they start.
    """
    kinds = {"weight": "bn_weight", "bias": "bn_bias", "running_mean": "bn_mean", "running_var": "bn_var"}
    values = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        last = kinds.get(name.rpartition(".")[2], "learnable_bias")
        kind = "conv_weight" if len(shape) == 4 else "linear_weight" if len(shape) == 2 else last
        if "prelu" in name:
            kind = "prelu_weight"
        values[name] = reference.draw({"name": name, "shape": shape, "kind": kind, "fan_in": np.prod(shape[1:])})
        if kind == "learnable_bias":
            values[name] += tensor.detach().numpy()
    return values


def transcription_errors(name: str, network: Callable[..., Any]) -> dict[str, float]:
    """Return the errors of logits, every gradient and every running statistic against our PyTorch transcription.

    Args:
        name: A registered model.
        network: A function (state dict, NCHW batch, training) of `torch_networks`.
    """
    import torch

    size = min(64, zoo.entry(name).native_shape[0])
    model = zoo.load(name, input_shape=(size, size, 3), num_classes=10, classifier_activation=None)
    names = PyTorchNames(name) if zoo.entry(name).build.state_dicts else LayerNames(model)
    x = np.random.default_rng(3).standard_normal((4, size, size, 3))
    images = torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    made: dict[str, torch.Tensor] = {}
    network(made, images.float(), True)
    theirs = {key: torch.tensor(value) for key, value in drawn(made).items()}
    # Running statistics of the size that they have in use: with others, the activations grow from block to block.
    for _ in range(10):
        network(theirs, images, True)
    names.load(model, {key: tensor.numpy() for key, tensor in theirs.items()})
    for key, tensor in theirs.items():
        tensor.requires_grad_("running" not in key)

    errors = {"logits_eval": entrywise_error(model(x, training=False), network(theirs, images, False).detach())}
    logits, gradients = logits_and_gradients(model, x)
    expected = network(theirs, images, True)
    (expected * torch.tensor(reference.cotangent(logits.shape))).sum().backward()
    errors["logits_train"] = entrywise_error(logits, expected.detach())
    variables = named_variables(model)
    for key, tensor in theirs.items():
        if isinstance(names, LayerNames) and key.endswith("running_var"):
            continue  # PyTorch remembers the unbiased variance, which Keras does in its fused kernel alone
        values, golden = (gradients, tensor.grad) if tensor.requires_grad else (variables, tensor)
        errors[key] = entrywise_error(names.official(values, key, tuple(tensor.shape)), golden.numpy())
    return errors
