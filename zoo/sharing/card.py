"""A page about a model, from the registry: what it is, how good, how large, and whose weights it has."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from safetensors.numpy import load as read_tensors

from ...util.formatting import describe_counts, describe_input, format_accuracies, format_bytes, printable
from ..checkpoints.packed import save_packed
from ..checkpoints.packed_file import PackedFile
from ..checkpoints.weights import Weights
from ..counts import count
from ..model_info import ModelInfo, is_changed, model_info
from ..registry import Entry, entry_of, function, list_weights

DATASETS = {
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "imagenet2012": ("ImageNet", "ILSVRC/imagenet-1k"),
}
"""What the datasets are called, for a reader and on the Hub."""

_UNSTATED = "none stated"
_OTHER_WEIGHTS = "Its weights are others than those of the paper and of the zoo."


@dataclass(frozen=True, repr=False)
class ModelCard:
    """What there is to say of a model; a notebook shows it as a page.

    Attributes:
        title: The model's name, and that of its weights.
        entry: The registered model that it is; ``None`` for any other network.
        weights: The registered weights that it has; ``None`` for any others.
        text: The page, in Markdown.
        metadata: The same for the Hugging Face Hub: what its ``ModelCardData`` takes, with the measured figures as
            dictionaries of what its ``EvalResult`` takes.
    """

    title: str
    entry: Entry | None
    weights: Weights | None
    text: str
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<ModelCard of {self.title}>"

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def model_card(model: tf.keras.Model) -> ModelCard:
    """Return a page about a model: its paper, its weights and their accuracy, its size, and what it expects.

    Only a model that is as the zoo built it, with registered weights as they are, gets the paper's and the registered
    figures: one that was trained on, or has other layers, is described as what it is.

    Raises:
        ValueError: It is a model that `save_packed` cannot write, or whose layers were changed in place.
    """
    with tempfile.TemporaryDirectory() as folder:
        return pack(model, Path(folder) / "model.onebit")


def pack(
    model: tf.keras.Model,
    file: Path,
    *,
    address: str | None = None,
    license: str | None = None,
    dataset: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> ModelCard:
    """Write a model as a packed file, and return the page about it.

    Args:
        model, file: The model, and where to write.
        address: Where others load it from.
        license, dataset, metrics, source: Of weights that are not registered, see `push_to_hub`.

    Raises:
        ValueError: One of these is given for registered weights, which have their own; or the model was changed in
            place, so that its file makes another one.
    """
    info = model_info(model)
    if info and is_changed(model):
        raise ValueError(
            f"{model.name} was changed after the zoo had built it: its packed file would not make it. Other layers "
            "are put in by zoo.replace_layers."
        )
    save_packed(model, file)
    entry = _entry(info) if info else None
    row = _registered(entry, info, file) if entry and info else None
    given = {"license": license, "dataset": dataset, "metrics": metrics, "source": source}
    if row and (extra := [name for name, value in given.items() if value is not None]):
        raise ValueError(
            f"{', '.join(extra)} must not be given for the registered weights {row.tag!r} of {row.model}, which have "
            "their own."
        )
    if row:
        dataset, metrics, source = row.dataset, row.metrics, row.source
    if source or metrics:
        save_packed(model, file, source=source, metrics=metrics)
    name, hub_name = DATASETS.get(dataset or "", (dataset, dataset))
    title = f"{entry.name if entry else model.name}{f', weights {row.tag}' if row else ''}"
    sections = {
        "Load": _load(model, info, row, address),
        "Facts": _facts(model, info, file),
        "Accuracy": _accuracy(entry, row, name, metrics or {}),
        "Licence and origin": _origin(info, row, license, source),
    }
    text = "".join(f"\n## {heading}\n\n{body}\n" for heading, body in sections.items() if body)
    top = info is None or info.arguments["include_top"]
    metadata = {
        "library_name": "onebit",
        "pipeline_tag": "image-classification" if top else "image-feature-extraction",
        "tags": ["onebit", "larq", "tf-keras", "binary-neural-network", *([entry.name] if entry else [])],
        "license": _license(row.licence if row else license),
        "datasets": [hub_name] if hub_name else None,
        "metrics": ["accuracy"] if metrics and "top1" in metrics else None,
        "model_name": entry.name if entry else model.name,
        "eval_results": _results(name, hub_name, metrics or {}),
    }
    return ModelCard(title, entry, row, f"# {_plain(title)}\n\n{_what(info, entry, row)}\n{text}", metadata)


def _entry(info: ModelInfo) -> Entry | None:
    """Return the registered model that has exactly these arguments."""
    build = function(info.function)
    own = {name: value for name, value in info.arguments.items() if name in build.complete({})}
    found = entry_of(build, own)
    return found if found and build.complete(found.arguments) == build.complete(own) else None


def _registered(entry: Entry, info: ModelInfo, file: Path) -> Weights | None:
    """Return the registered weights that a model of an entry has, to the last bit of its packed file."""
    rows = [row for row in list_weights(entry.name) if row.shipped or row == info.weights]
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            theirs = row.path()
            if not row.file.endswith(".onebit"):
                theirs = save_packed(entry.load(weights=row), Path(folder) / "theirs.onebit")
            if _computes_the_same(file, theirs):
                return row
    return None


def _computes_the_same(one: Path, other: Path) -> bool:
    """Return whether two packed files make the same model with the same values."""
    ours, theirs = PackedFile(one), PackedFile(other)
    for name in ("function", "arguments", "kernels"):
        if ours.header[name] != theirs.header[name]:
            return False
    tensors, others = read_tensors(one.read_bytes()), read_tensors(other.read_bytes())
    return tensors.keys() == others.keys() and all(
        value.dtype == others[name].dtype and np.array_equal(value, others[name]) for name, value in tensors.items()
    )


def _what(info: ModelInfo | None, entry: Entry | None, row: Weights | None) -> str:
    if info is None:
        return (
            "A Keras model with layers of Larq or onebit. It is not one of the zoo's networks, or has layers that the "
            "zoo's have not."
        )
    if entry is None:
        return f"A network of the architecture `zoo.{info.function}`, with arguments that no registered model has."
    return introduction(entry, row)


def introduction(entry: Entry, row: Weights | None) -> str:
    """Return whose network a registered model is, and what its weights are: registered ones, or ``None`` for others."""
    paper = entry.paper
    sentences = [
        f"The network `{entry.call}` of {paper.authors}, *{paper.title}*, {paper.venue}, "
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}).",
        entry.note,
        f"Trained on {dataset_name(row.dataset)}." if row else _OTHER_WEIGHTS,
        row.note if row else None,
    ]
    return " ".join(filter(None, sentences))


def dataset_name(dataset: str) -> str:
    """Return what a dataset is called for a reader."""
    return DATASETS.get(dataset, (dataset,))[0]


def _load(model: tf.keras.Model, info: ModelInfo | None, row: Weights | None, address: str | None) -> str:
    if address is None and row is None:
        return ""
    if info is None:
        lines = [f'zoo.load_weights(model, "{address}")  # into a model of the same layers, by their names']
    else:
        call = f'"{address}"' if row is None or address else f'"{row.model}", weights="{row.tag}"'
        lines = prediction(f"zoo.load({call})", model.input_shape[1:])
    return code(lines, *(['# pip install "onebit-zoo[hub]"'] if address is not None else []))


def prediction(call: str, shape: Sequence[int | None]) -> list[str]:
    """Return the lines of Python that load a network by a call and predict with it, for images of a shape."""
    height, width = (size or 224 for size in shape[:2])
    grey = ", channels=1" if shape[2] == 1 else ""
    return [
        f"model = {call}",
        "prepare = zoo.preprocessing_of(model)",
        f'images = zoo.read_images(["image.png"], size=({height}, {width}), crop=prepare.crop{grey})',
        "predictor = zoo.compile(model)  # the fastest engine that is installed",
        "predictor(prepare(images))",
    ]


def code(lines: Iterable[str], *before: str) -> str:
    """Return lines of Python that use the zoo, with the import and what comes before that, as Markdown shows them."""
    return "\n".join(["```python", *before, "from onebit import zoo", "", *lines, "```"])


def _facts(model: tf.keras.Model, info: ModelInfo | None, file: Path) -> str:
    rows = {"input": " x ".join("any" if size is None else str(size) for size in model.input_shape[1:])}
    if info:
        size = None if None in model.input_shape[1:3] else tuple(model.input_shape[1:3])
        rows["images"] = describe_input(replace(info.preprocessing, size=size or info.preprocessing.size).to_dict())
    if info and info.arguments["include_top"]:
        names = f": {', '.join(map(_plain, info.class_names))}" if info.class_names else ""
        rows["output"] = f"{model.output_shape[-1]} classes{names if len(names) < 1000 else ''}"
    if None not in model.input_shape[1:]:
        rows |= describe_counts(asdict(count(model)))
        rows["multiply-accumulates"] += ", for an image"
    rows["packed file"] = format_bytes(file.stat().st_size)
    return facts_table(rows)


def facts_table(rows: Mapping[str, str]) -> str:
    """Return a table of names and what there is to say of each."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _accuracy(entry: Entry | None, row: Weights | None, dataset: str | None, metrics: Mapping[str, Any]) -> str:
    if entry and row:
        return accuracies(entry, row)
    figures = f"| measured by whoever shares it | {format_accuracies(metrics)} | {_plain(dataset or '')} |"
    return _accuracy_table([figures] if "top1" in metrics else [])


def accuracies(entry: Entry, row: Weights) -> str:
    """Return the table of what is known of the accuracy of registered weights."""
    lines, metrics, published = [], row.metrics, row.published
    if "top1" in metrics:
        how = f"{metrics['images']:,} images of {dataset_name(row.dataset)}, {metrics['split']} split"
        lines.append(f"| measured by the zoo | {format_accuracies(metrics)} | {how} |")
    if "top1" in published:
        figures = format_accuracies(published)
        lines.append(f"| by the source of the weights | {figures} | {published.get('where', '')} |")
    if (figure := entry.paper_top1(row.num_classes)) is not None:
        lines.append(f"| in the paper or its repository | {figure:g} % | | {entry.paper.venue} |")
    return _accuracy_table(lines)


def _accuracy_table(lines: Sequence[str]) -> str:
    return "\n".join(["| | top-1 | top-5 | |", "|---|--:|--:|---|", *lines]) if lines else "Not stated."


def _origin(info: ModelInfo | None, row: Weights | None, license: str | None, source: str | None) -> str:
    if row is None:
        begun = info.weights if info else None
        sentences = [
            f"Licence: {_plain(license)}." if license else f"Licence: {_UNSTATED}.",
            f"Source: {_plain(source)}." if source else "",
            f"Training began with the weights `{begun.tag}` of `{begun.model}` ({whose(begun)})." if begun else "",
        ]
        return "\n\n".join(filter(None, [" ".join(filter(None, sentences)), _notice(begun) if begun else ""]))
    trained = f"\n\n```bash\n{row.recipe}\n```" if row.recipe else ""
    return "\n\n".join(filter(None, [f"{whose(row)}. Please cite the paper.{trained}", _notice(row)]))


def whose(row: Weights) -> str:
    """Return the licence and the source of registered weights."""
    source = "trained by the project onebit" if row.source == "onebit" else row.source
    return f"Licence of the weights: {row.licence}; source: {source}"


def _notice(row: Weights) -> str:
    return re.sub("^#", "###", row.notice or "").strip()


def _license(name: str | None) -> str | None:
    """Return a licence's identifier on the Hub."""
    return "unknown" if name == _UNSTATED else name and name.lower()


def _results(dataset: str | None, hub_name: str | None, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {"top1": "top-1 accuracy", "top5": "top-5 accuracy"}
    return [
        {
            "task_type": "image-classification",
            "dataset_type": hub_name,
            "dataset_name": dataset,
            "dataset_split": metrics.get("split"),
            "metric_type": "accuracy",
            "metric_name": name,
            "metric_value": round(metrics[key] / 100, 6),
        }
        for key, name in names.items()
        if dataset and metrics.get(key) is not None
    ]


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is: names may be from a file of somebody else's."""
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", html.escape(printable(text), quote=False))
