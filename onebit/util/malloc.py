"""How the C library hands out memory to a process that trains."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h, with their values: no trimming, 256 MiB of room to grow, and no tensor in a mapping of its own.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_SETTINGS = {_TRIM_THRESHOLD: -1, _TOP_PAD: 1 << 28, _MMAP_MAX: 0}


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next tensors, and return whether it does.

    glibc gives tensors of more than 32 MB, as networks for ImageNet have, back to the system after each use, which then
    clears every page anew: a quarter of a training step of ReActNet-A. Other C libraries are left alone. It holds for
    the whole process, which afterwards keeps its peak of memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _SETTINGS.items())
