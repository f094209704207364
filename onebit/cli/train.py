"""``onebit train``: a paper's training recipe, from one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..util.malloc import keep_freed_memory
from .arguments import AUTO_PRECISION, json_option
from .choices import STRATEGIES, TRAINING_PRECISIONS
from .loading import import_tensorflow
from .output import console, facts, print_json, table

if TYPE_CHECKING:
    from ..recipes import Recipe


@click.command(
    "train",
    short_help="Train a network by a paper's recipe, or go on with it.",
    help="""Train by RECIPE, one of those that --list shows.

    Its settings are the paper's; --show-settings lists them, and --set changes one.
    A run that was stopped goes on after its last completed epoch when the same command is given again.
    TensorFlow computes with oneDNN's kernels, unless TF_ENABLE_ONEDNN_OPTS=0 is set.
    """,
)
@click.argument("recipe", required=False)
@click.option("--list", "show_list", is_flag=True, help="List the recipes, and exit.")
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="The run's folder; required, except with --show-settings.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where TensorFlow Datasets finds the data.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of each stage. Default: the paper's.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting of the recipe; repeatable."
)
@click.option("--show-settings", is_flag=True, help="Print the recipe's settings, which --set changes, and exit.")
@click.option(
    "--validation",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep the last N training images to measure each epoch on, and the test images for the end. "
    "Default: measure each epoch on the test images.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use only this many images, for a trial.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="Decides weights, order and augmentation.",
)
@click.option(
    "--precision",
    type=click.Choice(TRAINING_PRECISIONS),
    default="auto",
    show_default=True,
    help=f"Arithmetic. {AUTO_PRECISION}.",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="none",
    show_default=True,
    help="One device, all GPUs of this machine, or the machines of TF_CONFIG.",
)
@click.option(
    "--backend",
    type=click.Choice(("tensorflow", "jax")),
    default="tensorflow",
    show_default=True,
    help="What runs the epochs. JAX is faster on GPUs and TPUs, and needs the extra 'jax'.",
)
@click.option("--devices", type=click.IntRange(min=1), help="How many of JAX's devices share a batch. Default: all.")
@click.option(
    "--prepare",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Do not train, but write the next stage as a job for a machine with JAX alone: python FOLDER/run.py",
)
@click.option(
    "--collect",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take what a job has done into the run; conclude it, or prepare the next stage.",
)
@json_option
def command(  # noqa: D103 (its text is the help that the decorator is given)
    recipe: str | None,
    show_list: bool,
    output: Path | None,
    data_dir: Path | None,
    epochs: int | None,
    settings: tuple[str, ...],
    show_settings: bool,
    validation: int,
    limit: int | None,
    seed: int,
    precision: str,
    strategy: str,
    backend: str,
    devices: int | None,
    prepare: Path | None,
    collect: Path | None,
    as_json: bool,
) -> None:
    if show_list:
        _list(as_json)
        return
    if recipe is None:
        raise click.UsageError("Missing argument 'RECIPE'. onebit train --list shows them.")
    if output is None and not show_settings:
        raise click.UsageError("Missing option '--output' / '-o'.")
    changes: dict[str, Any] = dict(_pair(text) for text in settings)
    if epochs is not None:
        if "epochs" in changes:
            raise click.UsageError("Give either --epochs or --set epochs=...")
        changes["epochs"] = epochs
    keep_freed_memory()
    import_tensorflow(for_training=True)
    from .. import recipes

    try:
        chosen = recipes.get_recipe(recipe, **changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if output is None or show_settings:
        _show(chosen, as_json)
        return
    try:
        record = recipes.train(
            chosen,
            output,
            data_dir=data_dir,
            validation=validation,
            limit=limit,
            seed=seed,
            precision=precision,
            strategy=strategy,
            backend=backend,
            devices=devices,
            prepare=prepare,
            collect=collect,
            # A line for each epoch where nobody sees a bar move.
            verbose=0 if as_json else "auto" if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"The same command goes on after the last epoch completed in {output}.") from None
    if as_json:
        print_json(record)
        return
    if folder := record.get("prepared"):
        click.echo(f"Prepared {folder}. Where JAX is: python {Path(folder).name}/run.py; then --collect {folder}")
        return
    if epochs_done := record.get("collected"):
        click.echo(f"The run has {epochs_done} epochs of this stage now; the job goes on from there.")
        return
    result = facts(f"{recipe}, in {output}")
    if validation:
        result.add_row("validation accuracy", f"{record['val']['top1']:.2f} %")
    result.add_row("test accuracy", f"{record['test']['top1']:.2f} % of {record['test']['images']:,} images")
    result.add_row("training", f"{record['seconds'] / 60:.1f} minutes, {len(record['history'])} epochs")
    result.add_row("precision", record["precision"])
    files = ("model.keras", "model.onebit", "history.csv", "record.json")
    result.add_row("files", ", ".join(name for name in files if (output / name).exists()))
    console().print(result)


def _list(as_json: bool) -> None:
    """Print the names of the recipes."""
    import_tensorflow()
    from .. import recipes

    names = recipes.list_recipes()
    if as_json:
        print_json(names)
    else:
        click.echo("\n".join(names))


def _show(recipe: Recipe, as_json: bool) -> None:
    """Print a recipe's settings, in the table as --set takes them."""
    if as_json:
        print_json(recipe.settings)
        return
    result = table("setting", "value", title=recipe.name)
    for name, value in recipe.settings.items():
        result.add_row(name, str(value).lower() if value is None or isinstance(value, bool) else str(value))
    console().print(result)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--set takes KEY=VALUE, such as --set width=1, not {text!r}.")
    return key, value
