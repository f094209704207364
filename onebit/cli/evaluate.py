"""``onebit evaluate``: how good a model is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from ..util.formatting import printable
from .arguments import (
    AUTO_PRECISION,
    ModelName,
    check_data_options,
    classes_option,
    data_dir_option,
    engine_option,
    json_option,
    preprocessing_option,
    refuse,
    split_option,
    weights_option,
)
from .choices import EVALUATION_PRECISIONS
from .loading import import_tensorflow, load
from .output import console, facts, print_json, progress, table

if TYPE_CHECKING:
    from ..zoo import Evaluation, Predictor
    from ..zoo.export.predictor import Engine
    from .loading import Loaded
    from .sources import LabelledImages

TOLERANCE = 0.01  # percentage points, one image of 10,000


@click.command("evaluate", short_help="Accuracy on labelled images.")
@click.argument("model", type=ModelName(or_file=True), required=False, metavar="[MODEL|FILE]")
@weights_option
@click.option(
    "--data",
    default="sample",
    show_default=True,
    metavar="SOURCE",
    help="'sample' (1,000 CIFAR-10 test images in the package), a TensorFlow dataset such as cifar10 or "
    "imagenet_resized/32x32, a folder with a sub-folder for each class, or an .npz file with 'images' and 'labels'.",
)
@data_dir_option
@split_option
@click.option(
    "--limit", type=click.IntRange(1), help="Evaluate on only this many images, the first; of a folder, of all classes."
)
@click.option("--batch-size", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(EVALUATION_PRECISIONS),
    default="float32",
    show_default=True,
    help=f"What the layers compute in. The registered figures are float32's. {AUTO_PRECISION}.",
)
@preprocessing_option
@classes_option
@engine_option("keras")
@click.option(
    "--all-cifar10",
    "everything",
    is_flag=True,
    help="Instead of one MODEL: all CIFAR-10 weights that ship with the package, on CIFAR-10's test images in "
    "--data-dir, against their registered accuracy.",
)
@json_option
def command(
    model: str | None,
    weights: str | None,
    data: str,
    data_dir: str | None,
    split: str | None,
    limit: int | None,
    batch_size: int,
    precision: str,
    preprocessing: str | None,
    classes: str | None,
    engine: Engine,
    everything: bool,
    as_json: bool,
) -> None:
    """Measure MODEL's top-1 and top-5 accuracy on labelled images."""
    if everything == (model is not None):
        raise click.UsageError("Give either MODEL or --all-cifar10.")
    if everything:
        refuse("with --all-cifar10", "data", "weights", "split", "preprocessing", "classes", "engine")
    else:
        check_data_options(data)
    if engine != "keras":
        refuse(f"with --engine {engine}, which computes in float32", "precision")
        precision = "float32"
    import_tensorflow()
    import tensorflow as tf

    from .. import zoo
    from .sources import open_dataset

    if precision == "auto":
        precision = zoo.fast_precision()
    tf.keras.mixed_precision.set_global_policy(precision)
    if model is None:
        _reproduce(data_dir, batch_size, limit, as_json)
        return
    loaded = load(model, weights, preprocessing, classes)
    dataset = open_dataset(data, split=split, data_dir=data_dir, class_names=loaded.class_names)
    if dataset.note:
        hint = "" if loaded.class_names else " Where --classes names the model's classes, they are labelled by name."
        click.echo(printable(dataset.note + hint, 4000), err=True)
    predictor = None if engine == "keras" else zoo.compile(loaded.model, engine)
    used = predictor.engine if predictor else engine
    result = _measure(f"{model} on {dataset.name}", loaded, dataset, batch_size, limit, predictor)
    if as_json:
        figures = dataclasses.asdict(result)
        how = {"data": dataset.name, "engine": used, "precision": precision}
        print_json({"model": model, "weights": loaded.weights, **how, **figures})
        return
    rows = facts(model)
    rows.add_row("weights", loaded.weights)
    rows.add_row("data", f"{dataset.name}, {result.images:,} images")
    rows.add_row("computed by", f"{used}, {precision}")
    rows.add_row("top-1", f"{result.top1:.2f} %")
    if result.top5 is not None:
        rows.add_row("top-5", f"{result.top5:.2f} %")
    rows.add_row("time", f"{result.seconds:.1f} s")
    console().print(rows)


def _measure(
    description: str,
    loaded: Loaded,
    dataset: LabelledImages,
    batch_size: int,
    limit: int | None,
    predictor: Predictor | None = None,
) -> Evaluation:
    """Evaluate with a progress bar, in Keras or another engine."""
    from .. import zoo

    classes, has = loaded.model.output_shape[-1], dataset.num_classes
    if has not in (None, classes):
        raise ValueError(f"The images of {dataset.name} are of {has} classes, but the model has {classes}.")
    batches = dataset.batches(
        loaded.size, preprocessing=loaded.preprocessing, batch_size=batch_size, limit=limit, channels=loaded.channels
    )
    with progress(description, min(dataset.count, limit or dataset.count)) as advance:
        return zoo.evaluate(predictor or loaded.model, batches, advance)


def _reproduce(data_dir: str | None, batch_size: int, limit: int | None, as_json: bool) -> None:
    """Measure all weights of the package for CIFAR-10, and fail where a figure is not the registered one."""
    from .. import zoo
    from .sources import open_dataset

    dataset = open_dataset("cifar10", data_dir=data_dir)
    results = []
    for row in zoo.list_weights():
        if row.dataset != "cifar10" or not row.shipped:
            continue
        found = _measure(row.model, load(row.model, row.tag), dataset, batch_size, limit)
        registered = row.metrics["top1"]
        results.append(
            {
                "model": row.model,
                "weights": row.tag,
                "images": found.images,
                "registered": registered,
                "top1": found.top1,
                "reproduced": None if limit is not None else abs(found.top1 - registered) <= TOLERANCE + 1e-9,
            }
        )
    if as_json:
        print_json(results)
    else:
        numbers = ("images", "registered", "measured")
        rows = table("model", "weights", *numbers, "", numbers=numbers)
        for result in results:
            verdict = {True: "reproduced", False: "differs", None: ""}[result["reproduced"]]
            figures = (f"{result['images']:,}", f"{result['registered']:.2f} %", f"{result['top1']:.2f} %")
            rows.add_row(result["model"], result["weights"], *figures, verdict)
        console().print(rows)
    if any(result["reproduced"] is False for result in results):
        raise SystemExit(1)
