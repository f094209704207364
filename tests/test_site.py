"""The documentation's site is built without a warning, and its notebook runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
REMEDY = "pip install '.[docs]'"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason=REMEDY)
    pytest.importorskip("mkdocstrings", reason=REMEDY)
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_every_document_is_a_page(site):
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).exists(), path
    assert (site / "index.html").exists()


def test_links_lead_somewhere_and_pictures_have_a_text(site):
    """Also those to files outside docs/."""
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links are from the root
            continue
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#]+)', text):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
        for image in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]+"', image), f"{page.name}: {image}"


def test_formulas_are_shown_as_such(site):
    text = (site / "api" / "quantizers.html").read_text(encoding="utf-8")
    assert text.count("<math") > 10 and r"\mathrm" not in text


def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason=REMEDY)
    nbclient = pytest.importorskip("nbclient", reason=REMEDY)
    pytest.importorskip("larq_compute_engine")
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "same predictions: True" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"animals.onebit", "animals.tflite"}
