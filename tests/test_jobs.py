"""`benchmarks/jobs.py`, which starts the training runs of the other benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import sys

import jobs
import pytest


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("at_once", range(1, min(len(jobs.processors()), 2) + 1))
def test_one_that_fails_does_not_keep_the_others_from_their_turn(tmp_path, at_once):
    commands = {"good": python("pass"), "bad": python("raise SystemExit(3)"), "also good": python("pass")}
    ended = dict(jobs.run_all(commands, at_once, tmp_path))
    assert ended == {"good": True, "bad": False, "also good": True}


def test_an_interruption_starts_no_other(tmp_path):
    commands = {name: python(f"open({str(tmp_path / name)!r}, 'w')") for name in "abc"}
    ended = jobs.run_all(commands, 1, tmp_path)
    next(ended)
    with pytest.raises(KeyboardInterrupt):
        ended.throw(KeyboardInterrupt)
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(
    len(jobs.processors()) < 2 or not hasattr(os, "sched_setaffinity"), reason="needs Linux and two processors"
)
def test_each_of_several_has_a_log_and_processors_of_its_own(tmp_path):
    share = "import os; print(sorted(os.sched_getaffinity(0)), flush=True)"
    wait = f"import time\nwhile not os.path.exists({str(tmp_path / 'b.log')!r}): time.sleep(0.01)"
    ended = dict(jobs.run_all({"a": python(f"{share}\n{wait}"), "b": python(share)}, 2, tmp_path))
    assert ended == {"a": True, "b": True}
    shares = [set(json.loads((tmp_path / f"{name}.log").read_text())) for name in "ab"]
    assert shares[0] and shares[1] and shares[0].isdisjoint(shares[1])


@pytest.mark.parametrize("text", ["0", "-1", "two", str(len(jobs.processors()) + 1)])
def test_refuses_a_number_of_jobs(text):
    with pytest.raises(argparse.ArgumentTypeError, match=rf"from 1 to {len(jobs.processors())}.*not '{text}'"):
        jobs.number_of_jobs(text)
