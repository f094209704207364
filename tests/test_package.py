"""The distribution: what an installation contains, and what importing costs."""

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


@pytest.mark.slow
def test_the_wheel_of_the_sdist_is_complete(tmp_path):
    """It holds every source file, the licence and the command, and installs no other top-level name."""
    pytest.importorskip("build")
    made = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    source = shutil.copytree(ROOT, tmp_path / "clone", ignore=made)
    result = subprocess.run([sys.executable, "-m", "build", "-n"], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as archive:
        names = set(archive.namelist())
        (command,) = (archive.read(name) for name in names if name.endswith("entry_points.txt"))
    assert b"onebit = onebit.cli:main" in command
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"onebit", "onebit_zoo"}
    assert {name for name in names if name.startswith("onebit/")} == {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run_python(code: str, keras_2: bool) -> str:
    """Run ``code`` in a new interpreter, with or without the Keras 2 switch in its environment; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if keras_2:
        environment["TF_USE_LEGACY_KERAS"] = "1"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
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
    assert "TF_USE_LEGACY_KERAS=1" in first
    assert layer.startswith("keras.src.")
    assert switched == "False"


@pytest.mark.slow
def test_import_after_tensorflow_with_keras_2():
    code = """
import tensorflow as tf
import onebit, larq
from tensorflow.keras.layers import Layer
print(Layer is tf.keras.layers.Layer, Layer.__module__.startswith("tf_keras."))
"""
    assert run_python(code, keras_2=True).split() == ["True", "True"]


def test_beside_a_folder_of_the_package_s_name(tmp_path):
    """As of a clone, which Python finds before an editable installation."""
    (tmp_path / "onebit").symlink_to(ROOT, target_is_directory=True)
    code = "import os; from onebit import util, __version__; print('legacy', os.environ['TF_USE_LEGACY_KERAS'])"
    for command, printed in ((["-c", code], "legacy 1"), (["-m", "onebit", "--version"], "version")):
        result = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert printed in result.stdout, result.stderr


def test_import_first_selects_keras_2_and_loads_little():
    code = """
import sys
optional = ("tensorflow_datasets", "larq_zoo", "larq_compute_engine", "matplotlib", "torch", "rich", "click",
            "huggingface_hub")

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
    extras = options["options.extras_require"].values()
    names = "\n".join([options["options"]["install_requires"], *extras]).splitlines()
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
    makefile = re.search(r"(?m)^VERSIONS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()
    classifiers = re.findall(r"Python :: (3\.\d+)", options["metadata"]["classifiers"])
    required = SpecifierSet(options["options"]["python_requires"])
    supported = [version for version in (f"3.{minor}" for minor in range(30)) if version in required]
    assert sorted(makefile) == classifiers == supported


def test_larq_zoos_models_need_the_extra(monkeypatch):
    from onebit import zoo

    monkeypatch.setitem(sys.modules, "larq_zoo", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[zoo\]"):
        zoo.load("larq/quicknet")
    assert zoo.list_models("larq/*")


@pytest.mark.slow
def test_importing_the_package_is_enough_to_open_its_files(tmp_path):
    """Of Keras' formats, whichever of the two is imported first."""
    path = tmp_path / "model.keras"
    save = f"from onebit import zoo; zoo.WideResNet(depth=8, width=1, input_shape=(8, 8, 3)).save({str(path)!r})"
    run_python(save, keras_2=False)
    for first in ("import onebit, tensorflow as tf", "import tensorflow as tf, onebit"):
        code = f"{first}; print(tf.keras.models.load_model({str(path)!r}).input_shape)"
        assert run_python(code, keras_2=True).strip() == "(None, 8, 8, 3)"
