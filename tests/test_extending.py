"""Invented papers, dropped into a copy of the project, have everything that its own have; no other file is touched.

One is that of docs/extending.md. The other, in ``tests/invented_paper``, has kernels and activations whose two values
are not +a and -a, a non-linearity with a lowering of its own, and official checkpoints.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onebit.recipes.data.datasets import DATASETS
from tests.recipes.prepared import prepare

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("quantizers", "zoo", "recipes")
WITH_ENGINE = importlib.util.find_spec("larq_compute_engine") is not None


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """Return a copy of the project with the files of both papers in it."""
    target = tmp_path_factory.mktemp("clone")
    for name in ("benchmarks", "docs", "onebit", "tests", "tools", *PACKAGES):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("README.md", "setup.cfg"):
        shutil.copy(ROOT / name, target)
    for name in PACKAGES:  # as an installation lays them out
        (target / "onebit" / name).symlink_to(target / name)
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL))
    paper = ROOT / "tests" / "invented_paper"
    files |= {str(path.relative_to(paper)): path.read_text(encoding="utf-8") for path in paper.rglob("*.py")}
    modules = {f"{folder}/{name}.py" for folder in PACKAGES for name in ("boxnet", "tidenet")}
    assert files.keys() == modules and not any((target / name).exists() for name in files)
    for name, code in files.items():
        (target / name).write_text(code, encoding="utf-8")
    return target


def python(clone: Path, *arguments: object) -> str:
    """Run Python in the copy of the project; return what it writes."""
    environment = {**os.environ, "PYTHONPATH": str(clone), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=clone, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def onebit(clone: Path, *arguments: object) -> object:
    """Run a command of the copy with --json; return what it says."""
    return json.loads(python(clone, "-m", "onebit", *arguments, "--json"))


def script(clone: Path, code: str) -> dict[str, object]:
    """Run a script; return the dictionary that it prints last."""
    return json.loads(python(clone, "-c", code).splitlines()[-1])


OF_THE_GUIDE = """
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


def test_the_paper_of_the_guide(clone):
    found = script(clone, OF_THE_GUIDE)
    kernels = 9 * 32 * 32 + 9 * 32 * 64
    assert found == {
        "models": ["boxnet_16", "boxnet_32"],
        "function": "BoxNet",
        "quantizer": "LargestSign",
        "binary": kernels,
        "same": True,
        "lr": 5e-4,
        "images": 24,
        "exported": 2 if WITH_ENGINE else None,
    }
    assert [row["model"] for row in onebit(clone, "list", "boxnet")] == ["boxnet_16", "boxnet_32"]
    assert onebit(clone, "train", "boxnet", "--show-settings")


OFFICIAL = """
import importlib.util
import json
import numpy as np
from safetensors import safe_open
from onebit import zoo
from onebit.zoo.checkpoints.pytorch import load_state_dict
from onebit.zoo.checkpoints.variables import named_variables
from onebit.zoo.export.lowering import lower

model = zoo.TideNet8(classifier_activation=None)
rng = np.random.default_rng(0)
for variable in model.variables:
    variance = "variance" in variable.name
    variable.assign(rng.uniform(0.5, 2, variable.shape) if variance else 0.3 * rng.standard_normal(variable.shape))
(layout,) = zoo.TideNet8.state_dicts
axes = {4: (3, 2, 0, 1), 2: (1, 0)}
state = {}
for name, place in layout.tensors().items():
    value = named_variables(model)[place.variable].numpy()
    state[name] = value.transpose(axes.get(value.ndim, range(value.ndim)))
x = rng.standard_normal((8, 32, 32, 3)).astype(np.float32)
expected = model(x).numpy()
scale = float(np.abs(expected).max())

official = zoo.TideNet8(classifier_activation=None)
load_state_dict(official, state, layout, "the official state dict")
converted = None
if importlib.util.find_spec("torch"):
    import torch

    tensors = {f"module.{name}": torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()}
    torch.save({"state_dict": tensors}, "official.pth")
    zoo.convert("official.pth", "tidenet8", "official.onebit")
    file = zoo.load_packed("official.onebit")
    converted = bool(np.array_equal(file(x), zoo.TideNet8(weights="official.pth")(x)))
zoo.save_packed(model, "tidenet.onebit")
with safe_open("tidenet.onebit", framework="numpy") as packed:
    stored = {name: packed.get_tensor(name).nbytes for name in packed.keys() if name.startswith("stage3_block2_conv/")}
graph = lower(model)
exported = None
if importlib.util.find_spec("larq_compute_engine"):
    exported = zoo.export(model, "tidenet.tflite", images=x).agreement.max_difference / scale
print(json.dumps({
    "official": bool(np.array_equal(official(x), expected)),
    "converted": converted,
    "packed": bool(np.array_equal(zoo.load_packed("tidenet.onebit")(x), expected)),
    "stored": stored,
    "lowered": float(np.abs(graph.run(x) - expected).max()) / scale,
    "operations": sorted({type(node.operation).__name__ for node in graph.nodes if "_tide/" in node.name}),
    "binary": [len(graph.binary_layers), len(graph.float_layers)],
    "exported": exported,
}))
"""


def test_offsets_lowering_and_official_checkpoints(clone):
    found = script(clone, OFFICIAL)
    assert found["official"] and found["packed"]
    assert found["converted"] is (True if importlib.util.find_spec("torch") else None)
    layer = "stage3_block2_conv"
    bits, values = 9 * 32 * 32 // 8, 4 * 32
    assert found["stored"] == {
        f"{layer}/kernel": bits,
        f"{layer}/kernel:low": values,
        f"{layer}/kernel:high": values,
        f"{layer}/input_quantizer/threshold_bias": 4,
    }
    assert found["lowered"] < 1e-5 and found["operations"] == ["Affine", "TwoSlopes"] and found["binary"] == [6, 0]
    assert found["exported"] is None or found["exported"] < 1e-4


def test_the_battery_of_tests(clone):
    """What tests find by registration: the network, its quantizers and its recipe, and the structure of their code."""
    files = ("tests/zoo", "tests/quantizers", "tests/recipes", "tests/test_structure.py")
    chosen = "(tidenet or Tide) and not saved_model"
    options = ("-q", "-p", "no:cacheprovider", "-m", "slow or not slow", "-k", chosen)
    output = python(clone, "-m", "pytest", *options, *files)
    passed = re.search(r"(\d+) passed", output)
    assert passed and int(passed[1]) > 50 and "failed" not in output, output


def test_it_is_trained_registered_and_documented(clone, tmp_path):
    """On a tiny CIFAR-10, by the commands and tools that the guide names."""
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "tidenet8.tflite"
    prepare(DATASETS["cifar10"], data, count=64)
    settings = ("--epochs", 2, "--set", "batch_size=16", "--precision", "float32")
    record = onebit(clone, "train", "tidenet", "--data-dir", data, "-o", run, *settings)
    assert record["test"]["images"] == 64
    python(clone, "tools/register.py", run, "tidenet8", "--data-dir", data)
    python(clone, "tools/report.py", "--count", "tidenet8", "boxnet_16", "boxnet_32")
    card = (clone / "docs" / "models" / "tidenet8-cifar10.md").read_text(encoding="utf-8")
    assert "zoo.TideNet8()" in card and "Tide Networks" in card
    assert "tidenet8" in (clone / "README.md").read_text(encoding="utf-8")
    assert "`TideKernel`" in (clone / "docs" / "quantizers.md").read_text(encoding="utf-8")

    assert [row["model"] for row in onebit(clone, "list", "tidenet")] == ["tidenet8"]
    counts = onebit(clone, "info", "tidenet8")["counts"]
    assert counts["binary_macs"] > 0
    assert "stage3_block2_conv" in python(clone, "-m", "onebit", "summary", "tidenet8")
    assert onebit(clone, "evaluate", "tidenet8", "--data", "sample", "--limit", 20)["images"] == 20
    if WITH_ENGINE:
        assert onebit(clone, "export", "tidenet8", "-o", file)["binary_layers"] == 6
