"""The invented paper of docs/extending.md, dropped into a copy of the package, works like any other."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"onebit": ".", "quantizers": "quantizers", "zoo": "zoo", "recipes": "recipes"}
USE = """
import importlib.util
import json
import numpy as np
from onebit import quantizers, recipes, zoo

model = zoo.load("boxnet_32", num_classes=3)
images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
labels = np.arange(24) % 3
zoo.save_packed(model, "boxnet.onebit")
x = zoo.preprocessing_of(model)(images)
same = np.array_equal(model.predict(x), zoo.load_packed("boxnet.onebit").predict(x))
settings = {"epochs": 1, "batch_size": 8, "precision": "float32", "verbose": 0}
record = recipes.train("boxnet", "run", data=((images, labels), (images, labels)), **settings)
binary = None
if importlib.util.find_spec("larq_compute_engine"):
    # Not strict: where the input of a sign is zero up to rounding, a network that was never trained differs.
    binary = zoo.export(model, "boxnet.tflite", images=x[:4], strict=False).binary_operations
print(json.dumps({
    "models": zoo.list_models("boxnet*"),
    "function": zoo.BoxNet.__name__,
    "quantizer": quantizers.LargestSign.__name__,
    "binary": zoo.count(model).binary_parameters,
    "same": bool(same),
    "lr": recipes.get_recipe("boxnet", model="boxnet_32").settings["lr"],
    "images": record["test"]["images"],
    "exported": binary,
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a folder with the package, as an installation lays it out, and the files of the document in it."""
    target = tmp_path_factory.mktemp("copy")
    for source, folder in PACKAGES.items():
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                link = target / "onebit" / folder / path.relative_to(ROOT / source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    files = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == ["quantizers/boxnet.py", "zoo/boxnet.py", "recipes/boxnet.py"]
    for name, code in files:
        (target / "onebit" / name).write_text(code, encoding="utf-8")
    return target


def python(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=copy)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_invented_paper(copy):
    found = json.loads(python(copy, "-c", USE).splitlines()[-1])
    kernels = 9 * 32 * 32 + 9 * 32 * 64
    assert found == {
        "models": ["boxnet_16", "boxnet_32"],
        "function": "BoxNet",
        "quantizer": "LargestSign",
        "binary": kernels,
        "same": True,
        "lr": 5e-4,
        "images": 24,
        "exported": 2 if importlib.util.find_spec("larq_compute_engine") else None,
    }


def test_it_is_on_the_command_line(copy):
    assert "boxnet_16" in python(copy, "-m", "onebit", "list", "boxnet")
    settings = json.loads(python(copy, "-m", "onebit", "train", "boxnet", "--show-settings", "--json"))
    assert settings
