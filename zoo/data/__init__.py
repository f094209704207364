"""The files that ship with the package: weights with their records, rows of data about models, sample images."""

from pathlib import Path

DATA = Path(__file__).parent
