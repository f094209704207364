"""README and guides: their links lead somewhere, their commands are understood, and most of their code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import larq
import numpy as np
import pytest
from PIL import Image

from onebit import recipes, zoo
from onebit.cli import main

ROOT = Path(__file__).resolve().parents[1]
MODEL = "wide_resnet_20_2"


DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def code(document: str) -> list[str]:
    """Return the Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_have_no_dead_links_and_no_broken_code(document: str):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target
    for block in code(document):
        compile(block, document, "exec")


def commands() -> list[str]:
    """Return the lines of all documents that call ``onebit``."""
    text = "\n".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    return sorted(set(re.findall(r"^ *(onebit .*)$", blocks, re.MULTILINE)))


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line: str):
    """Their arguments and options, and a recipe's settings. Files need not be there."""
    name, *words = shlex.split(line, comments=True)[1:]
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            parameter.type.exists = False
    given = command.make_context(name, words).params
    if name == "train":
        settings = dict(word.split("=", 1) for word in given["settings"])
        recipes.get_recipe(given["recipe"], **settings)


@pytest.mark.slow
def test_the_readme_s_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    sample = zoo.sample_images()
    variables = {"images": sample.images[::125].astype("float32"), "labels": np.arange(8) % 2}
    for block in code("README.md"):
        exec(block, variables)
    assert variables["probabilities"].shape == (1000, 10)
    assert variables["result"].binary_layers == variables["result"].binary_operations == 18
    assert {path.name for path in tmp_path.iterdir()} == {"animals.onebit", "birealnet20.xml", "birealnet20.bin"}


def test_quantizers_in_a_network_of_one_s_own():
    variables: dict = {}
    for block in code("docs/quantizers.md"):
        exec(block, variables)
    profile = larq.models.ModelProfile(variables["model"])
    assert profile.weight_count(1) == 3 * 3 * 32 * 64 and profile.op_count("mac", 1) == 3 * 3 * 32 * 64 * 32 * 32
    assert variables["model"](np.ones((1, 32, 32, 3), np.float32)).shape == (1, 10)
    layer = variables["layer"]
    layer(np.ones((1, 5, 5, 3), np.float32))
    with larq.context.quantized_scope(True):
        (kernel,) = (weights for weights in layer.get_weights() if weights.ndim == 4)
    assert set(np.unique(kernel)) == {-1, 1} and layer.kernel_quantizer.precision == 1


@pytest.mark.slow
def test_fine_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sample = zoo.sample_images()
    for label in (0, 1, 2):
        folder = tmp_path / "my_images" / sample.class_names[label]
        folder.mkdir(parents=True)
        for i, image in enumerate(sample.images[sample.labels == label][:12]):
            Image.fromarray(image).save(folder / f"{i}.png")
    weights = zoo.save_packed(zoo.load(MODEL), tmp_path / "random.onebit")
    monkeypatch.chdir(tmp_path)
    script = code("docs/fine-tuning.md")[0].replace('weights="cifar10"', f"weights={str(weights)!r}")
    assert len([line for line in script.splitlines() if line]) <= 10
    variables: dict = {}
    exec(script, variables)
    images = sample.images[:4].astype("float32")
    expected = variables["model"].predict(images, verbose=0)
    assert expected.shape == (4, 3)
    np.testing.assert_array_equal(zoo.load_packed("my_model.onebit").predict(images, verbose=0), expected)


@pytest.mark.slow
def test_reading_a_packed_file_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = zoo.load(MODEL)
    zoo.save_packed(model, "model.onebit")
    variables: dict = {}
    exec(code("docs/packed-format.md")[1], variables)
    layer, _ = variables["name"].split("/")
    kernel = model.get_layer(layer).kernel.numpy()  # (height, width, in, out); the filters are the last axis
    np.testing.assert_array_equal(variables["signs"], np.where(kernel >= 0, 1, -1).transpose(3, 0, 1, 2).ravel())
