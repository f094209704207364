"""Handing the weights of one stage's network to the next one's."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..zoo.checkpoints.variables import assign, binary_kernels, named_variables


def transfer_weights(before: tf.keras.Model, network: tf.keras.Model) -> None:
    """Hand all variables over by their names, which must be the same in both networks, in shape too.

    Raises:
        ValueError: The networks do not fit; nothing was handed over.
    """
    values = {name: variable.numpy() for name, variable in named_variables(before).items()}
    own = {name: variable.numpy() for name, variable in named_variables(network).items()}
    # Quantizers have a state of their own (thresholds, EDE), which a real-valued network lacks.
    state = {name: value for name, value in own.items() if "_quantizer/" in name and name not in values}
    values = {name: value for name, value in values.items() if name in own or "_quantizer/" not in name}
    assign(network, {**values, **state}, f"The network of the stage before, {before.name!r},")


def transfer_signs(before: tf.keras.Model, network: tf.keras.Model) -> None:
    """Hand all variables over, with binary kernels of ±1: their scales are left to the batch normalisations."""
    transfer_weights(before, network)
    for kernel in binary_kernels(network).values():
        kernel.variable.assign(np.where(kernel.signs(kernel.variable), 1.0, -1.0))
