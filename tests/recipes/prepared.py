"""Small datasets in the form in which TensorFlow Datasets keeps the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from onebit.recipes.data.datasets import DatasetSpec


def prepare(dataset: DatasetSpec, data_dir: Path, count: int = 40) -> None:
    """Write ``count`` images for each split; a label, modulo 10, is 1/20 of most of its image's pixels."""
    name, _, config = dataset.tfds.partition("/")
    of_any_size = name == "imagenet2012"
    shape = (None, None, 3) if of_any_size else dataset.image_shape
    real = tfds.builder_cls(name)
    features = real(data_dir=str(data_dir), config=config or None).info.features
    rng = np.random.default_rng(0)

    def examples() -> dict[str, dict[str, object]]:
        found = {}
        for number in range(count):
            label = int(rng.integers(dataset.num_classes))
            size = rng.integers(60, 90, 2) if of_any_size else shape[:2]
            image = np.full((*size, shape[-1]), 20 * (label % 10), np.uint8)
            rest = {"id": f"{number}", "file_name": f"{number}.jpeg", "coarse_label": 0}
            example = {**rest, "image": image, "label": label}
            found[f"{number:04}"] = {feature: example[feature] for feature in features}
        return found

    class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        __module__ = "builtins"  # TFDS looks for a description beside the source, and trips over namespace packages
        VERSION = (real.builder_configs[config].version if config else None) or real.VERSION
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager: object) -> dict[str, object]:
            splits = {part for split in (dataset.train, dataset.test) for part in split.split("+")}
            return {split: examples().items() for split in sorted(splits)}

        def _generate_examples(self) -> None:
            raise NotImplementedError

    Prepared.name = name
    # Not the real one, which a machine with a network would find under this name.
    here = tfds.download.DownloadConfig(try_download_gcs=False)
    Prepared(data_dir=str(data_dir), config=config or None).download_and_prepare(download_config=here)
