"""``onebit export``: a model as a file for another engine, verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..util.formatting import format_bytes
from .arguments import (
    check_data_options,
    data_dir_option,
    json_option,
    model_argument,
    preprocessing_option,
    refuse,
    split_option,
    weights_option,
)
from .choices import EXPORT_FORMATS, EXPORT_PRECISIONS
from .loading import import_tensorflow, load
from .output import console, facts, print_json, progress, table

if TYPE_CHECKING:
    from ..zoo import Exported
    from ..zoo.export.artifact import Format
    from ..zoo.export.convert import Precision


@click.command("export", short_help="Write a file for PCs, phones and boards, and verify it.")
@model_argument
@weights_option
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option(
    "--to",
    type=click.Choice(EXPORT_FORMATS),
    help="What the file is for. Default: by its ending, .xml for OpenVINO, .onnx for ONNX, else the Larq Compute "
    "Engine, or TensorFlow Lite if --precision is not binary.",
)
@click.option(
    "--precision",
    type=click.Choice(EXPORT_PRECISIONS),
    help="Precision of a TensorFlow Lite file's weights. 'binary' needs binary activations and the Larq Compute "
    "Engine; the others are standard TensorFlow Lite.",
)
@click.option(
    "--data",
    default="sample",
    show_default=True,
    metavar="SOURCE",
    help="Images to compare on: 'sample' (CIFAR-10, of the model's size) or as for 'onebit evaluate'.",
)
@data_dir_option
@split_option
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="How many to compare on.")
@preprocessing_option
@click.option(
    "--strict/--no-strict",
    default=True,
    show_default=True,
    help="Whether a binary layer that is not binary in the file, or outputs that differ, are an error.",
)
@json_option
def command(
    model: str,
    weights: str | None,
    output: Path,
    to: Format | None,
    precision: Precision | None,
    data: str,
    data_dir: str | None,
    split: str | None,
    images: int,
    preprocessing: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Write MODEL with its weights as a file for OpenVINO, ONNX, the Larq Compute Engine or TensorFlow Lite.

    Before it is put in place the file is run, its outputs are compared with Keras' on real images, and its binary
    operations with Larq's summary.
    """
    import_tensorflow()
    import numpy as np

    from .. import zoo
    from .sources import open_dataset

    check_data_options(data)
    loaded = load(model, weights, preprocessing)
    source = open_dataset(data, split=split, data_dir=data_dir)
    if images > source.count:
        refuse(f"beyond the {source.count} images of --data {data}", "images")
    if data == "sample":
        sample = zoo.resized_sample(loaded.size, images, loaded.channels)
        pictures = loaded.preprocessing(sample)
    else:
        batches = source.batches(
            loaded.size, preprocessing=loaded.preprocessing, limit=images, channels=loaded.channels
        )
        pictures = np.concatenate([batch for batch, _ in batches])
    with progress(f"{model}: the file and Keras", len(pictures)) as advance:
        result = zoo.export(
            loaded.model, output, to=to, precision=precision, images=pictures, strict=strict, progress=advance
        )
    if as_json:
        print_json({"model": model, "weights": loaded.weights, **_figures(result)})
        return
    _print(result)


def _figures(result: Exported) -> dict[str, Any]:
    import dataclasses

    figures = dataclasses.asdict(result)
    ties = None if result.ties is None else result.ties._asdict()
    return {**figures, "agreement": result.agreement._asdict(), "ties": ties}


def _print(result: Exported) -> None:
    out = console()
    agreement = result.agreement
    shown = facts(result.file)
    shown.add_row("size", f"{result.file_bytes:,} bytes; the model by Larq's summary: {format_bytes(result.memory)}")
    if result.to == "onnx":
        shown.add_row("binary layers", f"{result.binary_layers}, stored at 1 bit and computed as real ones")
    else:
        shown.add_row("binary operations", f"{result.binary_operations} for {result.binary_layers} binary layers")
    shown.add_row("same class as Keras", f"{agreement.same_class:.1f} % of {agreement.images} images")
    shown.add_row(
        "difference of outputs",
        f"{agreement.max_difference:.2g} at most, {agreement.mean_difference:.2g} on average, "
        f"{agreement.median_difference:.2g} at most for half of the images",
    )
    if result.ties is not None:
        shown.add_row(
            "same class with thresholds moved",
            f"{result.ties.same_class:.1f} % of {result.ties.images} images: inputs of signs are at a threshold but "
            "for rounding, as in networks that were never trained",
        )
    out.print(shown)
    if result.float_layers:
        rows = table("layer that is not binary", "reason")
        for name, reason in result.float_layers.items():
            rows.add_row(name, reason)
        out.print(rows)
    if result.misaligned:
        out.print(f"[bold]{result.misaligned}[/] convolutions with strides begin at another pixel than in Keras.")
