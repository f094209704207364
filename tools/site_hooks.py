"""Hooks of the documentation's site (``make site``): pages that are made when it is built, and links and formulas.

The home page is the README. The pages of the API list what the packages export. Formulas become MathML, which needs no
script. Links to files outside ``docs`` lead to copies of them.
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "build" / "api"  # the packages as an installation lays them out, for the pages of the API
SOURCES.mkdir(parents=True, exist_ok=True)  # mkdocstrings looks which folders are there before `on_config`
PACKAGES = {"zoo": "Zoo", "quantizers": "Quantizers", "recipes": "Recipes"}
GUIDES = (
    "weights.md", "hub.md", "fine-tuning.md", "training.md", "quantizers.md", "deployment.md",
    "deployment-openvino.md", "deployment-arm.md", "deployment-onnx.md", "packed-format.md", "reliability.md",
    "compatibility.md", "extending.md",
)  # fmt: skip
COPIES = ("LICENSE", "docs/tour.ipynb", "zoo/data/*.json", "zoo/data/*.csv", "zoo/data/*.md", "tests/goldens/README.md")


def on_config(config: Any) -> Any:
    """Lay out the packages and list the pages."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for source, target in {"onebit": ".", **{name: name for name in PACKAGES}}.items():
        for path in (ROOT / source).rglob("*.py"):
            copy = SOURCES / "onebit" / target / path.relative_to(ROOT / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_spaced(path.read_text(encoding="utf-8")), encoding="utf-8")
    docs = Path(config.docs_dir)
    config.nav = [
        {"Home": "index.md"},
        {"Try it": "browser.md"},
        {"Guides": list(GUIDES)},
        {"Models": ["models.md", "results.md", "speed.md"]},
        {"Papers": [{_title(path): f"papers/{path.name}"} for path in sorted((docs / "papers").glob("*.md"))]},
        {"Weights": [{_title(path): f"models/{path.name}"} for path in sorted((docs / "models").glob("*.md"))]},
        {"API": [{title: f"api/{package}.md"} for package, title in PACKAGES.items()]},
    ]
    return config


def _title(page: Path) -> str:
    """Return what a page is called among others: its title up to the colon, without words that all of them have."""
    return page.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ").partition(":")[0].replace(" weights", "")


def _spaced(source: str) -> str:
    """Return a module with an empty line around each formula that has lines of its own, as Markdown needs."""
    return re.sub(r"^( *)(\\\[.*?\\\])$", r"\n\1\2\n", source, flags=re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the home page, the pages of the API and the copies."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=_api(package)))
    for pattern in COPIES:
        for path in ROOT.glob(pattern):
            copy = f"files/{path.name}.txt" if path.suffix in ("", ".md") else f"files/{path.name}"
            files.append(File.generated(config, copy, content=path.read_text(encoding="utf-8")))
    return files


def _api(package: str) -> str:
    """Return a page with the docstrings of all that a package exports."""
    import importlib

    module = importlib.import_module(f"onebit.{package}")
    text = [f"# onebit.{package}", (module.__doc__ or "").strip()]
    for name in sorted(module.__all__, key=str.lower):
        found = getattr(module, name)
        where = getattr(found, "__module__", None) or ""
        if where.startswith("onebit."):
            # What a paper's module exports is not named in the package: readers of the source find it there only.
            papers = where.count(".") == 2 and name in getattr(importlib.import_module(where), "__all__", ())
            text.append(f"::: {where if papers else module.__name__}.{name}")
    return "\n\n".join(text) + "\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to where the pages and the copies are."""
    # Wide tables have the room of the contents; the home page's navigation would hold but itself.
    page.meta["hide"] = ["toc"] * bool(re.search(r"(?m)^(?:\| [^|]*){8}", markdown))
    page.meta["hide"] += ["navigation"] * (page.file.src_uri in ("index.md", "browser.md"))
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri == "index.md":
        markdown = markdown.replace("](docs/", "](")

    def copy(match: re.Match[str]) -> str:
        name = Path(match[1]).name
        return f"]({up}files/{name}{'.txt' if Path(name).suffix in ('', '.md') else ''})"

    return re.sub(r"\]\((?:\.\./)*((?:zoo/data|tests/goldens)/[^)]*|LICENSE|tour\.ipynb)\)", copy, markdown)


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    r"""Turn formulas, ``\(...\)`` and ``\[...\]`` marked by arithmatex, into MathML."""
    from latex2mathml.converter import convert

    def formula(match: re.Match[str]) -> str:
        text = html.unescape(match[2]).strip()
        if text.startswith(r"\["):
            return f'<div class="formula">{convert(text[2:-2], display="block")}</div>'
        return convert(text[2:-2])

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', formula, content, flags=re.DOTALL)
