"""``onebit demo``: the main job, offline. Load a 1-bit network, measure it, fine-tune it, and save it packed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.markup import escape

from ..util.formatting import format_bytes, format_count
from .arguments import json_option
from .loading import import_tensorflow
from .output import console, print_json, table

if TYPE_CHECKING:
    import tensorflow as tf

MODEL, WEIGHTS = "wide_resnet_20_2", "cifar10"
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
HELD_OUT = 0.2


@click.command("demo", short_help="Evaluate, fine-tune and pack a 1-bit network, offline.")
@click.option(
    "--output",
    "-o",
    default="onebit-demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the packed file.",
)
@click.option("--images", type=click.IntRange(100, 1000), default=1000, show_default=True, help="Sample images to use.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of fine-tuning.")
@click.option("--weights", default=WEIGHTS, hidden=True, help="Other weights of the same network.")
@json_option
def command(output: Path, images: int, epochs: int, weights: str, as_json: bool) -> None:
    """Load a 1-bit network, evaluate and fine-tune it, and save it packed; needs no internet connection."""
    import_tensorflow(for_training=True)
    say = (lambda *text: None) if as_json else console().print
    start = time.perf_counter()
    result = run(output, weights, images, epochs, say, verbose=0 if as_json else 1)
    if as_json:
        print_json(result)
    say(f"\nDone in {time.perf_counter() - start:.0f} s. Next: onebit list, onebit --help")


def run(
    output: Path, weights: str, images: int, epochs: int, say: Callable[..., object], verbose: int = 1
) -> dict[str, Any]:
    """Do what the demo does, tell it by ``say``, and return the figures: accuracies in percent, sizes in bytes.

    Raises:
        ValueError: The network that was packed and loaded again does not predict what it did before.
    """
    import tensorflow as tf

    from .. import zoo

    tf.keras.utils.set_random_seed(0)
    sample = zoo.sample_images()
    chosen = np.random.default_rng(0).permutation(len(sample.images))[:images]
    labels = sample.labels[chosen]

    say(f"[bold]1. Load[/]       {escape(f'zoo.load({MODEL!r}, weights={weights!r})')}")
    model = zoo.load(MODEL, weights=weights)
    counts = zoo.count(model)
    x = (zoo.preprocessing_of(model) or zoo.Preprocessing())(sample.images[chosen])
    say(
        f"              {format_count(counts.binary_parameters)} weights of 1 bit: {format_bytes(counts.memory)} "
        f"instead of {format_bytes(counts.float32_memory)} in float32\n"
    )

    say(f"[bold]2. Evaluate[/]   on {images:,} test images of CIFAR-10")
    probabilities = model.predict(x, batch_size=100, verbose=0)
    answers = probabilities.argmax(axis=1)
    accuracy = 100 * float(np.mean(answers == labels))
    examples = table("image of", "answer", "confidence", numbers=("confidence",))
    for label, name in enumerate(sample.class_names):
        first = int(np.argmax(labels == label))
        examples.add_row(name, sample.class_names[answers[first]], f"{probabilities[first].max():.0%}")
    say(f"              {accuracy:.1f} % right, for example:", examples)

    say("[bold]3. Fine-tune[/]  on another task: animal or vehicle?")
    animal = np.isin(labels, [sample.class_names.index(name) for name in ANIMALS]).astype(np.int64)
    split = round(HELD_OUT * images)
    tuned = zoo.load(MODEL, weights=weights, num_classes=2)
    tuned.compile(tf.keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = _accuracy(tuned, x[:split], animal[:split])
    tuned.fit(x[split:], animal[split:], batch_size=32, epochs=epochs, verbose=verbose)
    after = _accuracy(tuned, x[:split], animal[:split])
    say(f"              {split} images held out: {before:.1f} % right before, {after:.1f} % after\n")

    output.mkdir(parents=True, exist_ok=True)
    path = zoo.save_packed(tuned, output / "animal_or_vehicle.onebit", class_names=("vehicle", "animal"))
    loaded = zoo.load_packed(path)
    if not np.array_equal(tuned.predict(x[:100], verbose=0), loaded.predict(x[:100], verbose=0)):
        raise ValueError(f"The network loaded from {path} does not predict what the saved one predicts.")
    packed, unpacked = path.stat().st_size, 4 * tuned.count_params()
    say("[bold]4. Save[/]       zoo.save_packed(...) and zoo.load_packed(...): the same predictions, bit for bit")
    say(f"              {format_bytes(packed)} instead of {format_bytes(unpacked)}: {escape(str(path))}")
    return {
        "model": MODEL, "weights": weights, "counts": counts, "images": images, "accuracy": accuracy,
        "held_out": split, "before": before, "after": after, "packed_file": str(path), "float32_bytes": unpacked,
        "packed_bytes": packed,
    }  # fmt: skip


def _accuracy(model: tf.keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(model.predict(images, batch_size=100, verbose=0).argmax(axis=1) == labels))
