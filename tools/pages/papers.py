"""A page for each paper: the idea, its quantizers, networks, results and training settings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from onebit import recipes, zoo
from onebit.recipes.recipe import list_recipes, registered
from onebit.util.formatting import natural_key

from . import tables
from .facts import results


def modules() -> dict[str, list[str]]:
    """Return the names of the papers' modules in ``zoo``, each with the names of its models."""
    found: dict[str, list[str]] = {}
    for name in sorted(zoo.list_models(), key=natural_key):
        found.setdefault(zoo.entry(name).build.__module__.rpartition(".")[2], []).append(name)
    return found


def pages() -> dict[str, str]:
    """Return the pages in Markdown, by the name of the module."""
    return {name: page(importlib.import_module(f"onebit.zoo.{name}"), models) for name, models in modules().items()}


def page(module: ModuleType, models: list[str]) -> str:
    """Return the page of a paper."""
    title, _, text = (inspect.getdoc(module) or "").partition("\n")
    ids = {zoo.entry(name).paper.arxiv for name in models}
    parts = [
        f"# {title.rstrip('.')}",
        linked(text.strip()),
        *_part("Quantizers and non-linearities", _quantizers(models)),
        *_part("Networks", tables.models(models, "../models/")),
        *_part("Results on CIFAR-10", _results(models)),
        *_recipes(ids),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def families(folder: str) -> str:
    """Return the names of the families of 1-bit networks, as the first words of their modules, with links to pages."""
    found = []
    for name, models in modules().items():
        if any(zoo.recorded_counts()[model].binary_parameters for model in models):
            title = (inspect.getdoc(importlib.import_module(f"onebit.zoo.{name}")) or "").partition(":")[0]
            found.append(f"[{title}]({folder}{name}.md)")
    return f"{', '.join(sorted(found))}.\n"


def linked(text: str) -> str:
    """Return a docstring with its arXiv numbers as links, and its indented commands as blocks of code."""
    text = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"(?m)^ {4}(onebit .*)$", r"```bash\n\1\n```", text)


def _part(title: str, body: str) -> list[str]:
    return [f"## {title}", body] if body else []


def quantizers_of(models: Iterable[str]) -> dict[str, type]:
    """Return the quantizers and non-linearities whose docstrings refer to the papers of some models."""
    ids = {zoo.entry(name).paper.arxiv for name in models}
    return {
        name: each
        for name, each in tables.quantizer_classes().items()
        if ids & set(re.findall(r"arxiv\.org/abs/([\d.]+)", inspect.getdoc(each) or ""))
    }


def _quantizers(models: list[str]) -> str:
    classes = quantizers_of(models)
    if not classes:
        return ""
    module = zoo.entry(models[0]).build.__module__.rpartition(".")[2]
    picture = f"![Value and gradient of {', '.join(classes)}]({module}.svg)"
    found = filter(None, (formulas(name, each) for name, each in classes.items()))
    return "\n\n".join([tables.quantizer_table(classes).rstrip("\n"), picture, *found])


def formulas(name: str, documented: Any) -> str:
    """Return those paragraphs of a docstring that have formulas in lines of their own, or nothing."""
    found = [text for text in (inspect.getdoc(documented) or "").split("\n\n") if r"\[" in text]
    text = re.sub(r"\s*\\\[\s*(.*?)\s*\\\]\s*", r"\n\n```math\n\1\n```\n\n", "\n\n".join(found), flags=re.DOTALL)
    return f"**`{name}`**. {tables.inline(text).strip()}" if found else ""


def _results(models: list[str]) -> str:
    rows = [row for row in results() if row.model in models]
    return tables.leaderboard(rows, "../models/") if rows else ""


def _recipes(ids: set[str]) -> Iterator[str]:
    """Yield what the modules of recipes say whose first paper is one of these."""
    for found in pkgutil.iter_modules(recipes.__path__, f"{recipes.__name__}."):
        module = importlib.import_module(found.name)
        title, _, text = (inspect.getdoc(module) or "").partition("\n")
        names = [name for name in list_recipes() if registered(name).function.__module__ == found.name]
        if names and set(re.findall(r"arXiv (\d{4}\.\d{5})", text)[:1]) & ids:
            yield f"## Training\n\n{title}\n\n{linked(text.strip())}"
            for name in names:
                yield f"### `{name}`\n\n{settings(name)}"


def settings(recipe: str) -> str:
    """Return the table of a recipe's settings: the defaults, and what each condition changes."""
    table = registered(recipe).table
    names = inspect.signature(registered(recipe).function).parameters
    shown = [name for name in names if any(name in row for row in table.values())]
    return tables.markdown(
        ["setting", *(condition if condition == "default" else f"`{condition}`" for condition in table)],
        ([f"`{name}`", *(_value(row[name]) if name in row else "" for row in table.values())] for name in shown),
    )


def _value(value: Any) -> str:
    return f"as `{value.setting}`" if hasattr(value, "setting") else f"`{value}`"
