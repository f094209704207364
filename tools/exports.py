"""Export every model with 1-bit weights and activations, and record the files' sizes beside this file.

    python tools/exports.py                  # the models that are not recorded yet; hours for all of them
    python tools/exports.py birealnet20 ...  # these, again

The weights are random numbers: a file's size and operations do not depend on them. Fresh weights would not do, because
equal constants are stored once. For each model the outputs are compared with Keras' on a few images.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages.facts import write_rows

from onebit import zoo
from onebit.zoo.checkpoints.variables import named_variables
from onebit.zoo.export.export import default_images

FILE = Path(__file__).with_name("exports.json")
IMAGES = 4


@dataclass(frozen=True)
class ExportRecord:
    """Figures of a model's file for the Larq Compute Engine, which do not depend on its weights.

    Attributes:
        file_bytes: Its size.
        binary_operations: Its binary convolutions; a layer with groups has one for each.
        binary_layers: The layers that ``larq.models.summary`` counts as 1-bit, all of which are binary in the file.
    """

    file_bytes: int
    binary_operations: int
    binary_layers: int


def recorded_exports() -> dict[str, ExportRecord]:
    """Return the recorded figures of the registered models that have binary layers, by name."""
    return {name: ExportRecord(**row) for name, row in json.loads(FILE.read_text(encoding="utf-8")).items()}


def limit(memory: int, row: ExportRecord) -> float:
    """Return how many bytes a file may have, for a network of so many.

    A binary convolution beyond one for each layer is that of a group, or sums the signs where there is an offset.
    """
    return 1.1 * memory + 32 * 1024 + 4 * 1024 * (row.binary_operations - row.binary_layers)


def main() -> None:
    """Export models and add a row for each to the record as soon as it is known."""
    import tensorflow as tf

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models to export again (default: those not recorded yet)")
    names = parser.parse_args().models

    binary = [name for name, counts in zoo.recorded_counts().items() if counts.binary_macs]
    binary.sort(key=lambda name: zoo.recorded_counts()[name].binary_macs)
    rows = {name: row for name, row in recorded_exports().items() if name in binary}
    for name in names or [name for name in binary if name not in rows]:
        tf.keras.backend.clear_session()
        gc.collect()
        rows[name] = export(name)
        write_rows(FILE, {name: dataclasses.asdict(row) for name, row in sorted(rows.items())})


def export(name: str) -> ExportRecord:
    """Export a model with random weights to a temporary file and return its figures."""
    model = zoo.load(name, classifier_activation=None)
    rng = np.random.default_rng(0)
    for path, variable in named_variables(model).items():
        if path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif not path.endswith(("k_bias", "t_bias")):  # IR-Net's state, which the forward pass does not see
            spread = 0.05 if path.endswith("kernel") else 0.1
            variable.assign_add(rng.normal(0, spread, variable.shape).astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        # Not strict: the outputs of random networks may differ for rounding alone. The figures say how much.
        result = zoo.export(model, file, images=default_images(model, IMAGES), strict=False)
    if result.float_layers:
        raise SystemExit(f"{name}: not binary are {dict(result.float_layers)}")
    if result.misaligned:
        raise SystemExit(f"{name}: {result.misaligned} convolutions begin at another pixel")
    row = ExportRecord(result.file_bytes, result.binary_operations, result.binary_layers)
    print(
        f"{name}: {row.file_bytes:,} bytes ({row.file_bytes / limit(result.memory, row):.2f} of the limit), "
        f"{row.binary_operations} binary operations for {row.binary_layers} layers, {result.agreement}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
