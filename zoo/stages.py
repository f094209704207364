"""The feature maps inside a model."""

from __future__ import annotations

import re

import tensorflow as tf


def stage_outputs(model: tf.keras.Model) -> dict[str, tf.Tensor]:
    """Return the last feature map of each stage of a model, for feature extraction.

    The layers of a stage have names that begin with ``stage1_``, ``stage2_`` and so on; within a stage everything
    leads to its last layer.

    Args:
        model: Any model of the zoo but larq-zoo's, loaded from a file or built.

    Returns:
        ``{"stage1": tensor, ...}``, from the input to the output, each (b, h, w, c): outputs for a new
        ``tf.keras.Model(model.input, ...)``.

    Raises:
        ValueError: No layer has such a name.
    """
    # Keras keeps a functional model's layers sorted by their distance to the output.
    outputs = {found[1]: layer.output for layer in model.layers if (found := re.match(r"(stage\d+)_", layer.name))}
    if not outputs:
        raise ValueError(f"The model {model.name!r} has no layers of named stages, such as 'stage1_block1_conv'.")
    return outputs
