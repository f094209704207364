"""``onebit predict``: what is in an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from ._common import (
    classes_option,
    console,
    json_option,
    load,
    model_argument,
    preprocessing_option,
    print_json,
    table,
    weights_option,
)


@click.command("predict", short_help="Classify image files.")
@model_argument
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@weights_option
@preprocessing_option
@classes_option
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to show.")
@json_option
def command(
    model: str,
    images: tuple[Path, ...],
    weights: str | None,
    preprocessing: str | None,
    classes: str | None,
    top: int,
    as_json: bool,
) -> None:
    """Classify IMAGE files of any common format; each is cut to a square and resized."""
    import numpy as np

    from .. import zoo

    loaded = load(model, weights, preprocessing, classes)
    prepare = zoo.get_preprocessing(loaded.preprocessing)
    pixels = zoo.read_images(images, loaded.size, prepare.crop_for(loaded.size))
    probabilities = loaded.model.predict(prepare(pixels), verbose=0)
    names = loaded.class_names or [f"class {index}" for index in range(probabilities.shape[-1])]
    rows: list[dict[str, Any]] = [
        {
            "file": str(path),
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
    for row in rows:
        out.print(f"[bold]{escape(row['file'])}")
        result = table("class", "probability", "", numbers=("probability",))
        for guess in row["predictions"]:
            bar = "█" * round(20 * guess["probability"])
            result.add_row(guess["class"], f"{100 * guess['probability']:.1f} %", bar)
        out.print(result)
