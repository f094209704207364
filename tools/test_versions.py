"""Run the fast tests with the lowest and with the newest versions that setup.cfg allows, and print a table of them.

Each case has an environment of its own, 2 GB, which is removed afterwards. They are made by uv, which has to be on the
PATH (`pip install uv`), as do the Pythons.
"""

from __future__ import annotations

import argparse
import configparser
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("tensorflow", "tf-keras", "larq", "numpy", "protobuf", "tensorflow-datasets")


class Case(NamedTuple):
    """A Python, which of the allowed versions are taken, and whether larq-zoo is installed, which holds others back."""

    python: str
    resolution: str
    larq_zoo: bool


CASES = {
    "lowest": Case("3.10", "lowest-direct", True),
    "newest": Case("3.12", "highest", True),
    "newest without larq-zoo": Case("3.12", "highest", False),
}


def requirements(case: Case) -> str:
    """Return what a case installs beside the package itself, one requirement a line."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    lines = [*config["options"]["install_requires"].splitlines(), *extras["dev"].splitlines()]
    lines = [line for line in lines if not line.startswith("larq-zoo")]
    return "\n".join(lines + extras["zoo"].splitlines() * case.larq_zoo)


def run_case(case: Case, folder: Path, arguments: list[str]) -> dict[str, str]:
    """Make an environment in ``folder``, run the tests in it, and return its row of the table.

    Raises:
        subprocess.CalledProcessError: The environment cannot be made.
    """
    python = folder / "venv/bin/python"
    (folder / "requirements.txt").write_text(requirements(case), encoding="utf-8")
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    for command in (
        ["uv", "venv", "--quiet", "--python", case.python, str(folder / "venv")],
        [*install, "--resolution", case.resolution, "--requirements", str(folder / "requirements.txt")],
        [*install, "--no-deps", "--editable", str(ROOT)],
    ):
        subprocess.run(command, check=True)
    start = time.monotonic()
    result = subprocess.run(
        [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
    )
    print(result.stdout, flush=True)
    listed = subprocess.run(
        ["uv", "pip", "list", "--quiet", "--format", "freeze", "--python", python],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    versions = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    counts = dict(re.findall(r"(\d+) (passed|failed|errors?|skipped)", result.stdout.splitlines()[-1]))
    counts = {kind: count for count, kind in counts.items()}
    return {
        "Python": case.python,
        **{name: versions.get(name, "-") for name in SHOWN},
        "Passed": counts.get("passed", "0"),
        "Failed": str(sum(int(counts.get(kind, 0)) for kind in ("failed", "error", "errors"))),
        "Skipped": counts.get("skipped", "0"),
        "Minutes": f"{(time.monotonic() - start) / 60:.0f}",
    }


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {', '.join(map(repr, CASES))}; default: all")
    parser.add_argument("--pytest", default="", help="arguments for pytest, such as '-k parity'")
    options = parser.parse_args()
    if unknown := set(options.cases) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    if shutil.which("uv") is None:
        parser.error("uv is not on the PATH: pip install uv")
    rows = {}
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = run_case(CASES[name], Path(folder), options.pytest.split())
    columns = list(next(iter(rows.values())))
    print(f"{datetime.datetime.now(datetime.timezone.utc):%d %B %Y}, `make test-versions`:\n")
    print(f"| Versions | {' | '.join(columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row.values())} |")
    sys.exit(any(row["Failed"] != "0" for row in rows.values()))


if __name__ == "__main__":
    main()
