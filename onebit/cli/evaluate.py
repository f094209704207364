"""``onebit evaluate``: how good a model is."""

from __future__ import annotations

import dataclasses

import click

from ._common import (
    classes_option,
    console,
    json_option,
    load,
    model_argument,
    preprocessing_option,
    print_json,
    progress,
    table,
    weights_option,
)


@click.command("evaluate", short_help="Accuracy on labelled images.")
@model_argument
@weights_option
@click.option(
    "--data",
    default="sample",
    show_default=True,
    metavar="SOURCE",
    help="'sample' (1,000 CIFAR-10 test images in the package), a TensorFlow dataset such as cifar10, a folder with a "
    "sub-folder for each class, or an .npz file with 'images' and 'labels'.",
)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where TensorFlow datasets lie.")
@click.option("--split", default="test", show_default=True, help="Split of a TensorFlow dataset.")
@click.option("--limit", type=click.IntRange(1), help="Evaluate on the first so many images only.")
@click.option("--batch-size", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
    default="auto",
    show_default=True,
    help="What the layers compute in. auto is the fastest on this machine: mixed_bfloat16 on processors with AMX, else "
    "float32, which the registered figures were measured in.",
)
@preprocessing_option
@classes_option
@json_option
def command(
    model: str,
    weights: str | None,
    data: str,
    data_dir: str | None,
    split: str,
    limit: int | None,
    batch_size: int,
    precision: str,
    preprocessing: str | None,
    classes: str | None,
    as_json: bool,
) -> None:
    """Measure MODEL's top-1 and top-5 accuracy on labelled images."""
    import tensorflow as tf

    from .. import zoo
    from ..sources import open_dataset

    if precision == "auto":
        precision = zoo.fast_precision()
    tf.keras.mixed_precision.set_global_policy(precision)
    loaded = load(model, weights, preprocessing, classes)
    dataset = open_dataset(data, split=split, data_dir=data_dir, names=loaded.class_names)
    count = min(dataset.count, limit or dataset.count)
    batches = dataset.batches(loaded.size, loaded.preprocessing, batch_size, limit)
    with progress(f"{model} on {dataset.name}", count) as advance:
        result = zoo.evaluate(loaded.model, batches, advance)
    if as_json:
        figures = dataclasses.asdict(result)
        print_json({"model": model, "weights": loaded.weights, "data": dataset.name, "precision": precision, **figures})
        return
    numbers = ("images", "top-1", "top-5", "time")
    rows = table("model", "weights", "data", "precision", *numbers, numbers=numbers)
    top5 = "-" if result.top5 is None else f"{result.top5:.2f} %"
    rows.add_row(
        model,
        loaded.weights,
        dataset.name,
        precision,
        f"{result.images:,}",
        f"{result.top1:.2f} %",
        top5,
        f"{result.seconds:.1f} s",
    )
    console().print(rows)
