"""The choice of an arithmetic."""

from __future__ import annotations

import pytest

from onebit import zoo


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "fpu avx512f avx512_bf16 amx_bf16 amx_tile", "mixed_bfloat16"),
        ("GenuineIntel", "fpu avx512f avx512_bf16", "float32"),
        ("AuthenticAMD", "fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("AuthenticAMD", "fpu avx2 avx512f", "float32"),
    ],
)
def test_by_the_processors_features(tmp_path, vendor, flags, expected):
    """Without instructions for it, bfloat16 is imitated; Intel's without AMX are no faster than those for float32."""
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n", encoding="utf-8")
    assert zoo.fast_precision(tmp_path / "cpuinfo") == expected


def test_where_the_processor_is_unknown(tmp_path):
    assert zoo.fast_precision(tmp_path / "absent") == "float32"
