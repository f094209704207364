"""What this machine is, for records of what was measured on it."""

from __future__ import annotations

import platform
from pathlib import Path

_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vpopcntdq": "VPOPCNTDQ",
    "avx512_bf16": "BF16",
    "amx_tile": "AMX",
}


def processor() -> str:
    """Return the processor's name, and which instructions for networks it has, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = found.get("flags", "").split()
    features = [feature for flag, feature in _FEATURES.items() if flag in flags]
    return f"{name} ({', '.join(features)})" if features else name
