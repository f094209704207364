"""Make the images that ship with the package from CIFAR-10's test set.

    python tools/make_sample.py --data-dir ~/tensorflow_datasets

Takes the first 100 images of each class in the order of the original file ``test_batch`` and writes
``zoo/data/cifar10_sample.npz``: ``images`` (1000, 32, 32, 3), ``labels`` (1000,) and ``indices`` (1000,), the position
of each in that file. The same data gives the same bytes.
"""

from __future__ import annotations

import argparse

import numpy as np
from pages.facts import DATA

from onebit.util.files import replacing

OUTPUT = DATA / "cifar10_sample.npz"


def make(data_dir: str | None, per_class: int = 100) -> dict[str, np.ndarray]:
    """Return the arrays of the sample."""
    import tensorflow_datasets as tfds

    rows = tfds.as_numpy(tfds.load("cifar10", split="test", data_dir=data_dir, batch_size=-1, download=False))
    positions = np.array([int(identity.decode().removeprefix("test_")) for identity in rows["id"]])
    order = np.argsort(positions)
    labels = rows["label"][order]
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)]))
    return {
        "images": rows["image"][order][chosen],
        "labels": labels[chosen].astype(np.uint8),
        "indices": positions[order][chosen].astype(np.uint16),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TFDS keeps the prepared dataset")
    arrays = make(parser.parse_args().data_dir)
    with replacing(OUTPUT) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size:,} bytes, {len(arrays['labels'])} images")
