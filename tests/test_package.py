"""The distribution: what an installation contains, what importing costs, and the set-up commands."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"onebit": "onebit", "quantizers": "onebit/quantizers", "zoo": "onebit/zoo", "recipes": "onebit/recipes"}


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def copy_sources(target: Path) -> Path:
    """Copy what a clone contains, as far as building is concerned."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*FOLDERS, "tests", "benchmarks", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, target)
    return target


def build(source: Path, *options: str) -> Path:
    """Build in ``source`` and return the wheel."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools")
    command = [sys.executable, "-m", "build", "--no-isolation", *options]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(copy_sources(tmp_path_factory.mktemp("wheel")), "--wheel")


def test_wheel_holds_every_source_file_and_no_other_name(wheel):
    files = contents(wheel)
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"onebit", "onebit_zoo"}
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files if name.startswith("onebit/")} == expected


def test_wheel_metadata(wheel):
    files = {
        name.partition("dist-info/")[2]: data.decode()
        for name, data in contents(wheel).items()
        if ".dist-info/" in name
    }
    assert "onebit = onebit.cli:main" in files["entry_points.txt"]
    assert "License: Apache-2.0" in files["METADATA"].replace("License-Expression", "License")
    assert any(name.endswith("LICENSE") for name in files)
    assert "Description-Content-Type: text/markdown" in files["METADATA"]


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(wheel, tmp_path):
    from_sdist = contents(build(copy_sources(tmp_path)))
    direct = contents(wheel)
    assert from_sdist.keys() == direct.keys()
    assert [name for name in direct if from_sdist[name] != direct[name]] == []


def run_python(code: str, keras_2: bool) -> str:
    """Run ``code`` in a new interpreter, with or without the Keras 2 switch in its environment; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if keras_2:
        environment["TF_USE_LEGACY_KERAS"] = "1"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_import_after_tensorflow_with_keras_3_says_what_to_do():
    code = """
import os
import tensorflow as tf

def attempt():
    try:
        import onebit
    except ImportError as error:
        print(error)

attempt()  # before tf.keras is first used, when Larq's import would already fail
print(tf.keras.layers.Layer.__module__)
attempt()
print("TF_USE_LEGACY_KERAS" in os.environ)
"""
    first, layer, second, switched = run_python(code, keras_2=False).splitlines()
    assert first == second
    assert "uses Keras 3." in first
    assert "Import onebit before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1" in first
    assert layer.startswith("keras.src.")
    assert switched == "False"


def test_import_after_tensorflow_with_keras_2():
    code = """
import tensorflow as tf
import onebit, larq
from tensorflow.keras.layers import Layer
print(Layer is tf.keras.layers.Layer, Layer.__module__.startswith("tf_keras."))
"""
    assert run_python(code, keras_2=True).split() == ["True", "True"]


def test_import_first_selects_keras_2_and_loads_little():
    code = """
import sys
optional = ("tensorflow_datasets", "larq_zoo", "larq_compute_engine", "matplotlib", "torch", "rich", "click")

def report(*names):
    print(*[name for name in names if name in sys.modules] or ["none"])

import onebit
report("tensorflow", "numpy", *optional)
import onebit.quantizers
report("onebit.zoo", "onebit.recipes", "onebit.cli", *optional)
import onebit.zoo
report("onebit.recipes", "onebit.cli", *optional)
import tensorflow as tf
print(tf.keras.layers.Layer.__module__.partition(".")[0])
print(onebit.quantizers.__file__, onebit.zoo.__file__, sep="\\n")
"""
    *loaded, keras, quantizers, zoo = run_python(code, keras_2=False).splitlines()
    assert loaded == ["none", "none", "none"]
    assert keras == "tf_keras"
    # A copied or moved environment would test another folder's code.
    assert Path(quantizers).parent.resolve() == ROOT / "quantizers"
    assert Path(zoo).parent.resolve() == ROOT / "zoo"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_constraints_pin_every_dependency_within_its_bounds(python):
    options = config()
    names = [*options["options"]["install_requires"].split("\n"), *options["options.extras_require"]["dev"].split("\n")]
    environment = {"python_version": python, "platform_machine": "x86_64"}
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(environment):
                assert canonicalize_name(pin.name) not in pins, f"{pin.name} is pinned twice"
                pins[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    for requirement in map(Requirement, filter(None, names)):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_supported_pythons_are_the_same_everywhere():
    options = config()
    makefile = re.search(r"^VERSIONS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[
        1
    ].split()
    classifiers = re.findall(r"Python :: (3\.\d+)", options["metadata"]["classifiers"])
    required = SpecifierSet(options["options"]["python_requires"])
    supported = [version for version in (f"3.{minor}" for minor in range(30)) if version in required]
    assert sorted(makefile) == classifiers == supported


@pytest.fixture
def project(tmp_path):
    """The set-up command in a new folder, with a stand-in for Python that logs what it is asked to do."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python with a space"
    python.write_text(
        """#!/bin/sh
echo "$*" | cut -c1-60 >> log
case "$1 $2" in
    -c*) exit $UNSUITABLE ;;
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip") exit $PIP_FAILS ;;
esac
""",
        encoding="utf-8",
    )
    python.chmod(0o755)

    def make(unsuitable: int = 0, pip_fails: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run the set-up; return its result and which of ``venv`` and ``pip`` ran."""
        (tmp_path / "log").write_text("")
        environment = {**os.environ, "UNSUITABLE": str(unsuitable), "PIP_FAILS": str(pip_fails)}
        command = ["make", f"PYTHON={python}", ".venv/.ready"]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return result, re.findall(r"^-m (venv|pip)", (tmp_path / "log").read_text(), re.MULTILINE)

    make.root = tmp_path
    return make


def test_set_up_stops_at_an_unsupported_python_before_downloading(project):
    result, ran = project(unsuitable=1)
    assert result.returncode != 0
    assert "onebit needs Python 3.10, 3.11 or 3.12" in result.stderr
    assert ran == []
    assert not (project.root / ".venv").exists()


def test_set_up_resumes_reuses_and_renews(project):
    result, ran = project(pip_fails=1)
    assert result.returncode != 0
    assert ran == ["venv", "pip"]
    result, ran = project()
    assert result.returncode == 0, result.stderr
    assert ran == ["venv", "pip"], "an interrupted installation was taken for complete"
    assert project()[1] == []
    later = (project.root / ".venv/.ready").stat().st_mtime + 10
    os.utime(project.root / "constraints.txt", (later, later))
    assert project()[1] == ["pip"]
