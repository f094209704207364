"""``onebit predict``: what is in an image."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from ..util.formatting import printable
from .arguments import classes_option, engine_option, json_option, model_argument, preprocessing_option, weights_option
from .loading import import_tensorflow, load
from .output import console, print_json, table

if TYPE_CHECKING:
    import tensorflow as tf

    from ..zoo.export.predictor import Engine


@click.command("predict", short_help="Classify image files.")
@model_argument
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@weights_option
@preprocessing_option
@classes_option
@engine_option("auto")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to show.")
@json_option
def command(
    model: str,
    images: tuple[Path, ...],
    weights: str | None,
    preprocessing: str | None,
    classes: str | None,
    engine: Engine,
    top: int,
    as_json: bool,
) -> None:
    """Classify IMAGE files of any common format; each is cut to a square and resized."""
    import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from .. import zoo

    loaded = load(model, weights, preprocessing, classes)
    pixels = zoo.read_images(images, loaded.size, loaded.preprocessing.crop, loaded.channels)
    network, used = loaded.model, "keras"
    # What other engines are for has one size of images. One batch is all there is here, which Keras computes at once.
    if engine != "keras" and not (engine == "auto" and None in loaded.model.input_shape[1:]):
        network = zoo.compile(loaded.model, engine)
        used = network.engine
    probabilities = network.predict(loaded.preprocessing(pixels), verbose=0)
    if _returns_logits(loaded.model):
        probabilities = tf.nn.softmax(probabilities).numpy()
    names = loaded.class_names or [f"class {index}" for index in range(probabilities.shape[-1])]
    rows: list[dict[str, Any]] = [
        {
            "file": os.fspath(path),
            "engine": used,
            "predictions": [
                {"class": names[k], "index": int(k), "probability": float(p[k])} for k in np.argsort(-p)[:top]
            ],
        }
        for path, p in zip(images, probabilities, strict=True)
    ]
    if as_json:
        print_json(rows)
        return
    out = console()
    block = "█" if out.encoding.startswith("utf") else "#"
    for row in rows:
        out.print(f"[bold]{escape(printable(row['file']))}")
        result = table("class", "probability", "", numbers=("probability",))
        for guess in row["predictions"]:
            probability = guess["probability"]
            known = math.isfinite(probability)  # unlike a diverged network's
            bar = block * round(20 * probability) if known else ""
            result.add_row(guess["class"], f"{100 * probability:.1f} %" if known else "not a number", bar)
        out.print(result)
    out.print(f"Computed by {used}.")


def _returns_logits(model: tf.keras.Model) -> bool:
    """Return whether a model of the zoo was saved without the softmax after its classifier."""
    from .. import zoo

    info = zoo.model_info(model)
    return info is not None and info.arguments.get("classifier_activation", "softmax") in (None, "linear")
