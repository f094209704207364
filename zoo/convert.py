"""From anybody's checkpoint to a packed file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import check_target
from .packed import save_packed
from .registry import load


def convert(
    source: str | os.PathLike[str],
    model: str,
    output: str | os.PathLike[str],
    *,
    preprocessing: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> Path:
    """Read a checkpoint of any format that the zoo knows, strictly, and write it as a packed file.

    Args:
        source: The checkpoint: an official PyTorch file of Bi-Real Net, ReActNet or IR-Net, a ``.mat`` file of
            McDonnell's, larq-zoo's ``.h5`` of Bi-Real Net, a Keras file, or a packed file.
        model: The registered model that it belongs to, such as ``"reactnet_a"``.
        output: The packed file to write.
        preprocessing: What the network expects at its input, a name of `zoo.PREPROCESSING`. Default: what the
            checkpoint says, else the papers' custom, see `zoo.preprocessing_of`.
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
    if not Path(source).is_file():
        raise FileNotFoundError(f"There is no checkpoint {source}.")
    check_target(output)
    network = load(model, weights=source, **options)
    return save_packed(
        network,
        output,
        source=f"converted from {Path(source).name}",
        metrics=metrics,
        preprocessing=preprocessing,
        class_names=class_names,
    )
