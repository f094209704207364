"""How fast the input pipelines deliver images, against how fast training consumes them.

    python benchmarks/input_pipeline.py [--data-dir DATA] [--seconds 10] [--json]

For CIFAR-10, and for JPEG files of ImageNet's usual size, each paper's augmentation: images per second of the pipeline
alone, of training steps alone on one fixed batch, and their ratio. The two take turns, in one process.
Without ``--data-dir`` the images are random, which costs the pipelines the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from onebit import recipes, zoo

# isort: split
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from onebit.recipes.data.images import ArrayImages, Images, StreamedImages, batches
from onebit.recipes.data.tfds import decode_and_crop, load_arrays

ROUNDS = 3

# A recipe and its settings.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("irnet", {}),
    ("mcdonnell", {"width": 1.0}),
    ("birealnet", {"model": "birealnet18", "dataset": "imagenet2012", "batch_size": 32}),
    ("irnet_imagenet", {"batch_size": 32}),
]


def cifar(data_dir: str | None) -> Images:
    """Return CIFAR-10's training images, or random ones."""
    if data_dir is not None:
        return ArrayImages(*load_arrays("cifar10", "train", data_dir))
    rng = np.random.default_rng(0)
    return ArrayImages(rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8), rng.integers(0, 10, 50_000))


def imagenet() -> Images:
    """Return photographs enlarged to 500 x 375 pixels, as JPEG files in memory of about 45 kB."""
    sample = zoo.sample_images()
    pictures = tf.cast(tf.image.resize(sample.images[:256], (375, 500), "bicubic"), tf.float32)
    grain = tf.random.stateless_normal(pictures.shape, [1, 2], stddev=6.0)
    pictures = tf.cast(tf.clip_by_value(pictures + grain, 0, 255), tf.uint8)
    files = [tf.io.encode_jpeg(picture, quality=90) for picture in pictures]
    labels = np.arange(256, dtype=np.int64)
    dataset = tf.data.Dataset.from_tensor_slices((tf.stack(files), labels)).repeat(40)
    return StreamedImages(
        lambda order: dataset,
        lambda example, crop, seed: (decode_and_crop(example[0], crop, (224, 224), seed), example[1]),
        40 * 256,
        (224, 224, 3),
        1000,
    )


def speed(step: Callable[[], int], seconds: float) -> float:
    """Return the images per second that repeated steps handle."""
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += step()
    return images / (time.perf_counter() - start)


def measure(name: str, settings: dict[str, Any], images: Images, seconds: float) -> dict[str, Any]:
    """Return the median speeds of a recipe's pipeline and of its training steps."""
    recipe = recipes.get_recipe(name, **settings)
    stage = recipe.stages[0]
    stream = iter(batches(images, batch_size=recipe.batch_size, epochs=10**6, augment=stage.augment, crop=stage.crop))
    x, y = next(stream)
    model = stage.build(images.num_classes, images.shape)
    model.compile(stage.optimizer(100), stage.loss)
    model.train_on_batch(x, y)

    def load() -> int:
        return len(next(stream)[1])

    def train() -> int:
        model.train_on_batch(x, y)
        return len(y)

    rounds = [(speed(load, seconds), speed(train, seconds)) for _ in range(ROUNDS)]
    loading, training = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [one / other for one, other in rounds]
    return {
        "recipe": name,
        "images": "x".join(map(str, images.shape)),
        "batch_size": recipe.batch_size,
        "pipeline_images_per_second": round(loading),
        "training_images_per_second": round(training, 1),
        "ratio": round(statistics.median(ratios), 1),
        "ratio_lowest": round(min(ratios), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement (default: 10)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    small, large = cifar(options.data_dir), imagenet()
    rows = []
    for name, settings in CASES:
        images = large if "imagenet" in recipes.get_recipe(name, **settings).dataset else small
        rows.append(measure(name, settings, images, options.seconds))
    if options.json:
        print(json.dumps(rows))
        return
    table = Table("recipe", "images", "batch", "pipeline, images/s", "training, images/s", "ratio (lowest)")
    for row in rows:
        recipe, shape, batch, loading, training, ratio, lowest = map(str, row.values())
        table.add_row(recipe, shape, batch, loading, training, f"{ratio} ({lowest})")
    Console().print(table)


if __name__ == "__main__":
    main()
