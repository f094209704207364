"""The tables of the documentation, in Markdown."""

from __future__ import annotations

import inspect
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from exports import recorded_exports

from onebit import quantizers, recipes, zoo
from onebit.recipes.recipe import registered
from onebit.util.formatting import format_bytes, format_count, natural_key
from onebit.zoo.sharing.card import dataset_name

from . import cards
from .facts import (
    best_epoch,
    bits,
    default_recipe,
    device,
    epochs_of,
    length,
    measured_of_others,
    record_of,
    results,
    seeds,
)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A heading that ends in a colon is that of a column of numbers."""
    lines = [[heading.rstrip(":") for heading in headings]]
    lines.append(["--:" if heading.endswith(":") else "---" for heading in headings])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *rows])


def percent(metrics: Mapping[str, Any]) -> str:
    """Return the top-1 accuracy of some metrics, or nothing where they have none."""
    return f"{metrics['top1']:.2f} %" if "top1" in metrics else ""


def reported(value: float | None, digits: str = "g") -> str:
    """Return a figure in percent, by default as its paper prints it, or nothing where there is none."""
    return "" if value is None else f"{value:{digits}} %"


def weights(folder: str) -> str:
    """Return the table of all registered weights, those in the package first, the most accurate first."""
    order = sorted(
        zoo.list_weights(), key=lambda row: (not row.shipped, row.page is not None, row.dataset, -_top1(row))
    )
    return markdown(
        [
            "network", "weights", "trained on", "bits of weights / activations", "file:", "top-1 measured here:",
            "top-1 by its source:", "top-1 in the paper:",
        ],
        (
            (
                f"[`{row.model}`]({folder}{cards.name(row)})",
                f"`{row.tag}`",
                dataset_name(row.dataset),
                bits(row.model),
                ", ".join(filter(None, [row.size and format_bytes(row.size), _where(row)])),
                percent(row.metrics),
                percent(row.published),
                reported(zoo.entry(row.model).paper_top1(row.num_classes)),
            )
            for row in order
        ),
    )  # fmt: skip


def _where(row: zoo.Weights) -> str:
    """Return how some weights come to the user, where they are not in the package."""
    return "" if row.shipped else "download by hand" if row.page else "download"


def _top1(row: zoo.Weights) -> float:
    return row.metrics.get("top1", row.published.get("top1", 0))


def models(names: Iterable[str] | None = None, folder: str = "models/") -> str:
    """Return the table of some models, or of all models of the zoo; their cards are in a folder."""
    return markdown(
        [
            "model", "paper", "parameters:", "1-bit:", "memory:", "MACs 1-bit / other:", "exported file:",
            "binary operations:", "the paper's top-1:", "weights",
        ],
        (_model(name, folder) for name in sorted(names or zoo.list_models(), key=natural_key)),
    )  # fmt: skip


def _model(name: str, folder: str) -> Sequence[str]:
    count, paper, exported = zoo.recorded_counts()[name], zoo.entry(name).paper, recorded_exports().get(name)
    return (
        f"`{name}`",
        f"[{paper.venue}](https://arxiv.org/abs/{paper.arxiv})",
        format_count(count.parameters),
        format_count(count.binary_parameters),
        format_bytes(count.memory),
        f"{format_count(count.binary_macs)} / {format_count(count.float_macs)}",
        format_bytes(exported.file_bytes) if exported else "",
        str(exported.binary_operations) if exported else "",
        reported(paper.top1.get(name)),
        ", ".join(f"[`{row.tag}`]({folder}{cards.name(row)})" for row in zoo.list_weights(name)),
    )


def papers() -> str:
    """Return the list of the papers, each with its page and its models."""
    models: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(zoo.list_models(), key=natural_key):
        paper, module = zoo.entry(name).paper, zoo.entry(name).build.__module__.rpartition(".")[2]
        models.setdefault((paper.arxiv, paper.authors, paper.title, paper.venue, module), []).append(name)
    return "".join(
        f"- {authors}, *{title}*, {venue}, [arXiv {arxiv}](https://arxiv.org/abs/{arxiv}). "
        f"[{', '.join(f'`{name}`' for name in names)}](papers/{module}.md)\n"
        for (arxiv, authors, title, venue, module), names in sorted(models.items())
    )


def licences() -> str:
    """Return the table of the weights that are other people's, with their sources and licences."""
    owned = [row for row in zoo.list_weights() if row.source != "onebit"]
    return markdown(
        ["weights", "source", "licence"], ((f"`{row.model}`, `{row.tag}`", row.source, row.licence) for row in owned)
    )


def leaderboard(rows: Sequence[zoo.Weights] | None = None, folder: str = "models/") -> str:
    """Return the table of what this project trained on CIFAR-10, the most accurate first: some of its rows, or all.

    Columns that would be empty are left out.
    """
    columns: dict[str, Callable[[zoo.Weights, Mapping[str, Any]], str]] = {
        "network": lambda row, record: f"[`{row.model}`]({folder}{cards.name(row)})",
        "bits": lambda row, record: bits(row.model),
        "top-1, last epoch:": lambda row, record: percent(row.metrics),
        "over seeds:": lambda row, record: _over(seeds(row)),
        "best epoch, by test images:": lambda row, record: reported(best_epoch(row), ".2f"),
        "the paper's:": lambda row, record: reported(zoo.entry(row.model).paper_top1(row.num_classes)),
        "epochs:": lambda row, record: epochs_of(record),
        "the recipe's:": lambda row, record: length(default_recipe(record)),
        "trained on": lambda row, record: device(record),
        "precision": lambda row, record: record["precision"],
        "file:": lambda row, record: format_bytes(row.size or 0),
        "command": lambda row, record: f"`{row.recipe}`",
    }
    table = [[cell(row, record_of(row)) for row in rows or results()] for cell in columns.values()]
    filled = {heading: cells for heading, cells in zip(columns, table, strict=True) if any(cells)}
    return markdown(list(filled), zip(*filled.values(), strict=True))


def _over(accuracies: Sequence[float]) -> str:
    """Return mean, standard deviation and number of some accuracies, where there are several."""
    if len(accuracies) < 2:
        return ""
    return f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f} % ({len(accuracies)})"


def of_others(folder: str = "models/") -> str:
    """Return the table of other people's weights for CIFAR-10 that were measured here, the most accurate first."""
    return markdown(
        ["network", "weights", "bits", "top-1 measured here:", "by its source:", "the paper's:", "file:", "source"],
        (
            (
                f"[`{row.model}`]({folder}{cards.name(row)})",
                f"`{row.tag}`",
                bits(row.model),
                percent(row.metrics),
                percent(row.published),
                reported(zoo.entry(row.model).paper_top1(row.num_classes)),
                format_bytes(row.size or 0),
                row.source,
            )
            for row in measured_of_others()
        ),
    )


def quantizer_classes() -> dict[str, type]:
    """Return the quantizers and non-linearities of the package, by the names of their classes, without base classes."""
    classes = {name: getattr(quantizers, name) for name in quantizers.__all__}
    return {name: each for name, each in classes.items() if isinstance(each, type) and role(each)}


def role(layer: type) -> str:
    """Return what a class is for, or nothing for one that is no layer to use as it is."""
    import tensorflow as tf

    if not issubclass(layer, tf.keras.layers.Layer) or "call" not in vars(layer):
        return ""
    if not hasattr(layer, "precision"):
        return "non-linearity"
    own = issubclass(layer, quantizers.KernelQuantizer)
    return "kernels" if own or layer is quantizers.MagnitudeAwareSign else "activations"


def quantizer_table(classes: Mapping[str, type] | None = None) -> str:
    """Return the table of some quantizers and non-linearities, or of all, from their docstrings."""
    order = sorted(
        (classes or quantizer_classes()).items(), key=lambda item: (role(item[1]) == "non-linearity", role(item[1]))
    )
    return markdown(
        ["class", "name", "for", "what it does", "source"],
        (
            (f"`{name}`", _alias(layer), role(layer), summary(layer.__doc__ or ""), _source(layer))
            for name, layer in order
        ),
    )


def _alias(layer: type) -> str:
    """Return the name that stands for a quantizer in Larq's layers, if it has one."""
    import tensorflow as tf

    names = [name for name, each in tf.keras.utils.get_custom_objects().items() if each is layer and name.islower()]
    return ", ".join(f'`"{name}"`' for name in names)


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring."""
    return inline(" ".join(docstring.split("\n\n")[0].split()))


def inline(text: str) -> str:
    """Return a docstring's text with the formulas within its lines as Markdown has them."""
    return re.sub(r"\\\((.*?)\\\)", r"$\1$", text)


def _source(documented: Any) -> str:
    found = re.search(r"\[([^\]]*)\]\((https://arxiv[^)]*)\)", " ".join((inspect.getdoc(documented) or "").split()))
    if not found:
        return ""
    title = found[1].partition(":")[0]
    return f"[{title if len(title) < 20 else found[2].replace('https://arxiv.org/abs/', 'arXiv ')}]({found[2]})"


def recipe_table() -> str:
    """Return the table of training recipes, with their defaults."""
    found = [recipes.get_recipe(name) for name in recipes.list_recipes()]
    return markdown(
        ["recipe", "what it does", "model", "data set", "epochs:", "batch:"],
        (
            (
                f"`{recipe.name}`",
                summary(registered(recipe.name).summary),
                f"`{recipe.settings['model']}`" if "model" in recipe.settings else "",
                recipe.dataset,
                length(recipe),
                str(recipe.batch_size),
            )
            for recipe in found
        ),
    )
