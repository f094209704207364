"""Write packed files anew in the present version of their format: the same tensors and header, with a digest.

python tools/repack.py zoo/data/*.onebit
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.numpy import load_file

import onebit  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from onebit.zoo.checkpoints.packed_file import PackedFile, write_packed


def repack(path: Path) -> None:
    """Replace a packed file of any version."""
    header = {name: value for name, value in PackedFile(path).header.items() if name not in ("format", "sha256")}
    write_packed(path, header, load_file(path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for file in parser.parse_args().files:
        repack(file)
