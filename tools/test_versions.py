"""Run the fast tests with the lowest and with the newest versions that setup.cfg allows, and record them in docs/.

Each case has an environment of its own, 2 GB, which is removed afterwards. They are made by uv, which has to be on the
PATH (`pip install uv`), as do the Pythons.
"""

from __future__ import annotations

import argparse
import configparser
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from report import insert

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
SHOWN = ("tensorflow", "tf-keras", "larq", "numpy", "protobuf", "tensorflow-datasets", "jax")
COLUMNS = ("versions", "Python", *SHOWN, "passed", "failed", "skipped", "minutes", "on")


class Case(NamedTuple):
    """A Python, which of the allowed versions are taken, and what is left out of them because it holds others back."""

    python: str
    resolution: str
    without: tuple[str, ...]


CASES = {
    # The lowest JAX that is allowed needs the ml-dtypes of TensorFlow 2.18.
    "lowest": Case("3.10", "lowest-direct", ("jax",)),
    "newest": Case("3.12", "highest", ()),
    "newest without larq-zoo": Case("3.12", "highest", ("larq-zoo",)),
}


def requirements(case: Case) -> str:
    """Return what a case installs beside the package itself, one requirement a line."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    lines = [*config["options"]["install_requires"].splitlines(), *extras["dev"].splitlines()]
    if "larq-zoo" not in case.without:
        lines += extras["zoo"].splitlines()
    return "\n".join(line for line in lines if not line.startswith(case.without or "#"))


def run_case(case: Case, folder: Path, arguments: list[str]) -> dict[str, str]:
    """Make an environment in ``folder``, run the tests in it, and return its row of the table.

    Raises:
        subprocess.CalledProcessError: The environment cannot be made.
    """
    python, report = folder / "venv/bin/python", folder / "report.xml"
    (folder / "requirements.txt").write_text(requirements(case), encoding="utf-8")
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    for command in (
        ["uv", "venv", "--quiet", "--python", case.python, str(folder / "venv")],
        [*install, "--resolution", case.resolution, "--requirements", str(folder / "requirements.txt")],
        [*install, "--no-deps", "--editable", str(ROOT)],
    ):
        subprocess.run(command, check=True)
    start = time.monotonic()
    subprocess.run(
        [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    minutes = (time.monotonic() - start) / 60
    freeze = ["uv", "pip", "list", "--quiet", "--format", "freeze", "--python", python]
    listed = subprocess.run(freeze, check=True, stdout=subprocess.PIPE, text=True).stdout
    versions = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    suite = ElementTree.parse(report).getroot()[0].attrib
    tests, failed, skipped = (int(suite[name]) for name in ("tests", "failures", "skipped"))
    failed += int(suite["errors"])
    return {
        "Python": case.python,
        **{name: versions.get(name, "-") for name in SHOWN},
        "passed": str(tests - failed - skipped),
        "failed": str(failed),
        "skipped": str(skipped),
        "minutes": f"{minutes:.0f}",
        "on": f"{datetime.datetime.now(datetime.timezone.utc):%d %B %Y}",
    }


def record(rows: Mapping[str, Mapping[str, str]]) -> None:
    """Put rows into the table of the page, each in the place of the one of its name."""
    text = PAGE.read_text(encoding="utf-8")
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    lines |= {name: f"| {' | '.join([name, *row.values()])} |" for name, row in rows.items()}
    table = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    PAGE.write_text(
        insert(text, "versions", "\n".join([*table, *(lines[name] for name in CASES if name in lines), ""])),
        encoding="utf-8",
    )


def main() -> None:
    """Run the cases and record them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {', '.join(map(repr, CASES))}; default: all")
    parser.add_argument("--pytest", default="", help="for pytest, such as '-n 2'; with '-k' nothing is recorded")
    options = parser.parse_args()
    if unknown := set(options.cases) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    if shutil.which("uv") is None:
        parser.error("uv is not on the PATH: pip install uv")
    rows = {}
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = run_case(CASES[name], Path(folder), options.pytest.split())
        print(name, rows[name], flush=True)
        if "-k" not in options.pytest:
            record({name: rows[name]})
    sys.exit(any(row["failed"] != "0" for row in rows.values()))


if __name__ == "__main__":
    main()
