"""The main job, offline: load a 1-bit network, measure it, teach it something new, keep it in a few kilobytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich
import tensorflow as tf
from rich.markup import escape

from .. import zoo
from . import demo_picture as picture

MODEL, WEIGHTS = "wide_resnet_20_2", "cifar10"
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CLASSES = ("vehicle", "animal")
HELD_OUT = 0.2


@dataclass(frozen=True)
class Result:
    """What the demo found; accuracies in percent, sizes in bytes, times in seconds.

    Attributes:
        accuracy: Of the loaded network, on ``images`` test images.
        before, after: Accuracy on the new task, on ``held_out`` images that were not trained on, with the new
            classifier still random and after training.
        identical: Whether the fine-tuned network predicts bit for bit the same after packing and loading it.
        float32_bytes, packed_bytes: All variables of the fine-tuned network at 32 bits each, and its packed file.
        packed_file, picture: The files written.
    """

    model: str
    weights: str
    counts: zoo.Counts
    images: int
    accuracy: float
    evaluation_seconds: float
    trained_on: int
    held_out: int
    epochs: int
    before: float
    after: float
    training_seconds: float
    identical: bool
    float32_bytes: int
    packed_bytes: int
    packed_file: str
    picture: str
    seconds: float


def run(
    output: str | os.PathLike[str] = "onebit-demo",
    *,
    weights: str | os.PathLike[str] = WEIGHTS,
    images: int = 1000,
    epochs: int = 3,
    seed: int = 0,
    say: Callable[[str], object] = rich.print,
    verbose: int = 1,
) -> Result:
    """Do the main job with the images and the network that ship with the package; needs no internet connection.

    Args:
        output: Folder for the packed file and the picture; made if absent.
        weights: Weights of `MODEL` with ten classes.
        images: How many of the 1,000 sample images to use, at least 100.
        epochs: Number of fine-tuning epochs, at least 1.
        seed: Decides the new classifier's weights, the split and the order of training. Threads may still add in
            another order.
        say: Called with each piece of what the demo tells, in rich's markup.
        verbose: Passed to ``model.fit``; 1 shows Keras' progress bar.

    Returns:
        The figures.

    Raises:
        ValueError: An argument is out of its range, or the weights do not suit.
    """
    sample = zoo.sample_images()
    if not 100 <= images <= len(sample.images) or epochs < 1:
        raise ValueError(
            f"images must be 100 to {len(sample.images)} and epochs at least 1, not {images!r} and {epochs!r}."
        )
    start = time.perf_counter()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    tf.keras.utils.set_random_seed(seed)
    chosen = np.random.default_rng(seed).permutation(len(sample.images))[:images]
    x, labels = sample.images[chosen].astype(np.float32), sample.labels[chosen]

    say(f"[bold]1. Load[/]   model = zoo.load({MODEL!r}, weights={escape(repr(str(weights)))})")
    model = zoo.load(MODEL, weights=weights)
    counts = zoo.count(model)
    say(_summary(model))

    say(f"[bold]2. Evaluate[/] on {images:,} test images of CIFAR-10, none of them seen in training")
    started = time.perf_counter()
    probabilities = model.predict(x, batch_size=100, verbose=0)
    accuracy = 100 * float(np.mean(probabilities.argmax(axis=1) == labels))
    evaluation_seconds = time.perf_counter() - started
    say(f"   {accuracy:.1f} % are classified correctly ({evaluation_seconds:.1f} s)\n")

    say("[bold]3. Fine-tune[/] on a new task: is it an animal or a vehicle?")
    say(
        f"   model = zoo.load({MODEL!r}, weights={escape(repr(str(weights)))}, num_classes=2); "
        "model.compile(...); model.fit(...)"
    )
    animal = np.isin(labels, [sample.class_names.index(name) for name in ANIMALS]).astype(np.int64)
    split = round(HELD_OUT * images)
    held_out, training = (x[:split], animal[:split]), (x[split:], animal[split:])
    tuned = _with_new_classifier(weights)
    before = _accuracy(tuned, *held_out)
    started = time.perf_counter()
    tuned.fit(*training, batch_size=32, epochs=epochs, verbose=verbose)
    training_seconds = time.perf_counter() - started
    after = _accuracy(tuned, *held_out)
    say(
        f"   on {split} images kept aside: {before:.1f} % right with the untrained classifier, "
        f"{after:.1f} % after training\n"
    )

    say("[bold]4. Save and re-load[/] at 1 bit for each binary weight")
    path = zoo.save_packed(
        tuned, output / "animal_or_vehicle.onebit", source=f"onebit demo, from {MODEL} {weights}", class_names=CLASSES
    )
    loaded = zoo.load_packed(path)
    identical = np.array_equal(tuned.predict(x[:100], verbose=0), loaded.predict(x[:100], verbose=0))
    float32_bytes, packed_bytes = 4 * tuned.count_params(), path.stat().st_size
    verdict = "identical, bit for bit" if identical else "[red]NOT identical[/]"
    say(
        f"   {float32_bytes / 1e3:,.0f} kB in float32, {packed_bytes / 1e3:,.0f} kB packed: {escape(str(path))}\n"
        f"   the loaded network's predictions are {verdict}\n"
    )
    if not identical:
        raise ValueError(f"The network loaded from {path} does not predict what the saved one predicts.")

    image = picture.draw(
        output / "demo.png",
        images=sample.images[chosen],
        labels=labels,
        probabilities=probabilities,
        class_names=sample.class_names,
        title=f"A 1-bit {picture.display_name(MODEL)} on CIFAR-10: {accuracy:.1f} % of {images:,} test images correct",
        caption=f"Fine-tuned in {training_seconds:.0f} s to tell animals from vehicles:\n"
        f"{after:.1f} % of {split} images kept aside are right.\n"
        f"Its packed file has {packed_bytes / 1e3:,.0f} kB instead of {float32_bytes / 1e3:,.0f} kB.",
    )
    say(f"[bold]5. Picture[/] {escape(str(image.resolve()))}")
    return Result(
        model=MODEL,
        weights=str(weights),
        counts=counts,
        images=images,
        accuracy=accuracy,
        evaluation_seconds=evaluation_seconds,
        trained_on=images - split,
        held_out=split,
        epochs=epochs,
        before=before,
        after=after,
        training_seconds=training_seconds,
        identical=identical,
        float32_bytes=float32_bytes,
        packed_bytes=packed_bytes,
        packed_file=str(path),
        picture=str(image),
        seconds=time.perf_counter() - start,
    )


def _summary(model: tf.keras.Model) -> str:
    """Return the totals of Larq's summary."""
    from larq.models import summary

    tables: list[str] = []
    summary(model, print_fn=tables.append)
    return tables[-1]


def _with_new_classifier(weights: str | os.PathLike[str]) -> tf.keras.Model:
    model = zoo.load(MODEL, weights=weights, num_classes=2)
    model.compile(tf.keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _accuracy(model: tf.keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(model.predict(images, batch_size=100, verbose=0).argmax(axis=1) == labels))
