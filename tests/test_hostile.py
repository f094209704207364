"""Files that lie: some of each format that ``tools/hostile.py`` makes, which makes as many as one has minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz.formats import FORMATS
from fuzz.readers import exported
from fuzz.watch import Worker, shortcoming, try_format

pytestmark = pytest.mark.slow
EACH = 26  # what takes a file's place, then the lies that are told on purpose, in turns with random damage


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    found = Worker()
    yield found
    found.close()


@pytest.mark.parametrize("name", FORMATS)
def test_no_file_ends_hangs_or_swells_the_process(name: str, worker: Worker):
    for module in FORMATS[name].needs:
        pytest.importorskip(module)
    each = EACH if FORMATS[name].reader is not exported else EACH // 2  # for each that is run an engine is imported
    count = try_format(name, 1, worker, 300, most=each)
    assert count.total() == each and not count["short"], count
    assert count["refused"] > each // 4, "it is not that everything is accepted"
    if FORMATS[name].checked:
        assert not count["changed"], count


def test_what_falls_short_is_seen():
    """The measure itself: a right refusal, and each way to fall short."""
    fine = {"outcome": "refused", "right": True, "message": "a.onebit is damaged", "seconds": 0.1, "bytes": 10**6}
    assert shortcoming(fine) is None
    for wrong in (
        {"outcome": "hangs"},
        {"outcome": "ends the process (-11)"},
        {**fine, "seconds": 30},
        {**fine, "bytes": 3 * 10**8},
        {**fine, "right": False, "type": "KeyError"},
        {**fine, "message": "two\nlines"},
        {**fine, "message": "\x1b[2J"},
        {**fine, "message": "A" * 5000},
    ):
        assert shortcoming(wrong)
