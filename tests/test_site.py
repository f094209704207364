"""The documentation's site is built without a warning, and its notebook runs."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
REMEDY = "pip install '.[docs]'"


def test_every_document_is_a_page(site):
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).exists(), path
    assert (site / "index.html").exists()


def test_links_lead_somewhere_and_pictures_have_a_text(site):
    """Also those to files outside docs/, and those to parts of pages."""
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    parts = {page: set(re.findall(r'id="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        if page.name == "404.html":  # its links are from the root
            continue
        for target, part in re.findall(r'(?:href|src)="([^"#]*)(?:#([^"]*))?"', text):
            if not re.match(r"[a-z]+:", target):
                leads_to = (page.parent / target).resolve() if target else page
                assert leads_to.exists(), f"{page.name}: {target}"
                assert not part or html.unescape(unquote(part)) in parts[leads_to], f"{page.name}: {target}#{part}"
        for image in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]+"', image), f"{page.name}: {image}"


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]*)"', text := page.read_text(encoding="utf-8"))
        loaded += re.findall(r'<link rel="(?:stylesheet|preconnect|icon)" href="([^"]*)"', text)
        assert loaded and not [target for target in loaded if re.match(r"(?:[a-z]+:)?//", target)], page.name


def test_formulas_are_shown_as_such(site):
    text = (site / "api" / "quantizers.html").read_text(encoding="utf-8")
    assert text.count("<math") > 10 and r"\mathrm" not in text
    for page in (site / "papers").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<math" in text or page.stem == "resnet34", page  # which has no quantizer


def test_scripts_are_those_that_the_hashes_name(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason=REMEDY)
    import site_browser

    monkeypatch.setattr(site_browser, "BUILD", tmp_path)
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / "some-1.0.0.tgz").write_bytes(b"other")
    with pytest.raises(site_browser.PluginError, match=r"some@1.0.0 has the hash sha512-.* instead of sha512-this"):
        site_browser.packed("some@1.0.0", "sha512-this")
    assert not list((tmp_path / "npm").iterdir())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(site_browser.PluginError, match="needs npm"):
        site_browser.packed("some@1.0.0", "sha512-this")


def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason=REMEDY)
    nbclient = pytest.importorskip("nbclient", reason=REMEDY)
    pytest.importorskip("larq_compute_engine")
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "same predictions: True" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"animals.onebit", "animals.tflite"}
