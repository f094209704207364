"""The order in which an epoch shows the training images: the same for every backend. Needs nothing but NumPy."""

from __future__ import annotations

import numpy as np


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of ``range(count)``, int32, that seed and epoch decide, on every machine alike.

    All permutations are as likely. Built on PCG64's raw bits, which NumPy does not change between versions, as it may
    ``Generator.permutation``.
    """
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(count)
    return np.argsort(bits, kind="stable").astype(np.int32)
