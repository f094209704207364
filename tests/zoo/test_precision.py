"""The choice of an arithmetic."""

from __future__ import annotations

import pytest

from onebit import zoo


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu avx2 avx512f", "float32"),
    ],
)
def test_by_the_processors_features(tmp_path, flags, expected):
    """Without instructions for it, bfloat16 is imitated."""
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: {flags}\nbogomips\t: 4890\n", encoding="utf-8")
    assert zoo.fast_precision(tmp_path / "cpuinfo") == expected


def test_where_the_processor_is_unknown(tmp_path):
    assert zoo.fast_precision(tmp_path / "absent") == "float32"
