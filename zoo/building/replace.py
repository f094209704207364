"""Other layers in a network of the zoo."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from ..checkpoints.variables import latent_variable


def replace_layers(
    model: tf.keras.Model, replacement: Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer | None]
) -> tf.keras.Model:
    """Return a copy of a model in which some layers are others, such as convolutions with another quantizer.

    It is a Keras model that the zoo does not take for the original: `model_info` has nothing of it, and a packed file
    of it says so. `onebit.recipes.train` trains it by a paper's recipe, as its argument ``change``.

        def with_dorefa(layer):
            if isinstance(layer, larq.layers.QuantConv2D):
                config = layer.get_config() | {"kernel_quantizer": larq.quantizers.DoReFa(1, "weights")}
                return type(layer).from_config(config)

        network = zoo.replace_layers(zoo.load("irnet_resnet20"), with_dorefa)

    Args:
        model: A functional or sequential model; it stays as it is.
        replacement: Called with each of its layers; returns the layer to put in its place, which gets its name, or
            ``None`` where there is to be a copy.

    Returns:
        The copy. Variables that have the same name, place in their layer and shape as before have the same values.

    Raises:
        ValueError: The model is neither functional nor sequential, or the layers do not fit together.
    """
    if not isinstance(model, tf.keras.Model) or not model.inputs:
        raise ValueError(f"model must be a functional or sequential model of tf.keras, not {model!r}.")

    def copied(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        other = replacement(layer)
        if other is None:
            return type(layer).from_config(layer.get_config())
        if not isinstance(other, tf.keras.layers.Layer) or other is layer or other.built:
            raise ValueError(
                f"replacement must return a new layer of tf.keras or None for {layer.name!r}, not {other!r}."
            )
        other._name = layer.name
        return other

    copy = tf.keras.models.clone_model(model, clone_function=copied)
    for layer in copy.layers:
        values = {_own_name(weight): latent_variable(weight).numpy() for weight in model.get_layer(layer.name).weights}
        for weight in layer.weights:
            value = values.get(_own_name(weight))
            if value is not None and value.shape == weight.shape:
                weight.assign(value)
    return copy


def _own_name(weight: tf.Variable) -> str:
    return weight.name.split("/", 1)[-1]
