"""Numbers and names for a reader."""

from __future__ import annotations

import pytest

from onebit.util.formatting import format_bytes, format_count, natural_key


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (999, "999"), (999.6, "1 k"), (36_479_194, "36.5 M"), (4_015_636_480, "4.02 G")]
)
def test_format_count(value: float, expected: str):
    assert format_count(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0 B"), (39_160, "39.2 kB"), (107_003_624, "107 MB"), (5e12, "5e+03 GB")]
)
def test_format_bytes(value: float, expected: str):
    assert format_bytes(value) == expected


def test_natural_key():
    assert sorted(["net_20_10", "net_20_2", "net_4"], key=natural_key) == ["net_4", "net_20_2", "net_20_10"]
