"""Files that lie: some of each format that ``tools/hostile.py`` makes, which makes as many as one has minutes."""

from __future__ import annotations

from collections.abc import Iterator

import hostile
import pytest

EACH = 26  # what takes a file's place, then the lies that are told on purpose, in turns with random damage


@pytest.fixture(scope="module")
def worker() -> Iterator[hostile.Worker]:
    found = hostile.Worker()
    yield found
    found.close()


# The others take their time in the libraries that read them.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("packed", "class names .txt") else pytest.mark.slow)
        for name in hostile.FORMATS
    ],
)
def test_no_file_ends_hangs_or_swells_the_process(name: str, worker: hostile.Worker):
    if "PyTorch" in name:
        pytest.importorskip("torch")
    if "TFDS" in name:
        pytest.importorskip("tensorflow_datasets")
    each = EACH if "Lite" not in name else EACH // 2  # for each that is run TensorFlow is imported
    count = hostile.try_format(name, 1, worker, 300, most=each)
    assert count.total() == each and not count["short"], count
    assert count["refused"] > each // 4, "it is not that everything is accepted"
    if hostile.FORMATS[name].checked:
        assert not count["changed"], count


def test_what_falls_short_is_seen():
    """The measure itself: a right refusal, and each way to fall short."""
    fine = {"outcome": "refused", "right": True, "message": "a.onebit is damaged", "seconds": 0.1, "bytes": 10**6}
    assert hostile.shortcoming(fine) is None
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
        assert hostile.shortcoming(wrong)
