"""A page about a model, from the registry: what it is, how good, how large, and whose weights it has."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from safetensors.numpy import load as read_tensors

from ...util.formatting import describe_input, format_accuracies, format_bytes, format_count, printable
from ..checkpoints.packed import save_packed
from ..checkpoints.packed_file import PackedFile
from ..checkpoints.weights import Weights
from ..counts import count
from ..model_info import ModelInfo, is_changed, model_info
from ..registry import Entry, entry_of, function, list_weights

# What the datasets are called, for a reader and on the Hub.
_DATASETS = {
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "imagenet2012": ("ImageNet", "ILSVRC/imagenet-1k"),
}
_UNSTATED = "none stated"


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
    name, hub_name = _DATASETS.get(dataset or "", (dataset, dataset))
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
    return ModelCard(title, entry, row, f"# {_plain(title)}\n\n{_what(info, entry, row, name)}\n{text}", metadata)


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


def _what(info: ModelInfo | None, entry: Entry | None, row: Weights | None, dataset: str | None) -> str:
    if info is None:
        return (
            "A Keras model with layers of Larq or onebit. It is not one of the zoo's networks, or has layers that the "
            "zoo's have not."
        )
    if entry is None:
        return f"A network of the architecture `zoo.{info.function}`, with arguments that no registered model has."
    paper = entry.paper
    sentences = [
        f"The network `{entry.call}` of {paper.authors}, *{paper.title}*, {paper.venue}, "
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}).",
        entry.note,
        f"Trained on {dataset}." if row else "Its weights are others than those of the paper and of the zoo.",
        row.note if row else None,
    ]
    return " ".join(filter(None, sentences))


def _load(model: tf.keras.Model, info: ModelInfo | None, row: Weights | None, address: str | None) -> str:
    if address is None and row is None:
        return ""
    lines = ["from onebit import zoo", ""]
    if address is not None:
        lines.insert(0, '# pip install "onebit-zoo[hub]"')
    if info is None:
        lines.append(f'zoo.load_weights(model, "{address}")  # into a model of the same layers, by their names')
    else:
        call = f'"{address}"' if row is None or address else f'"{row.model}", weights="{row.tag}"'
        height, width = (size or 224 for size in model.input_shape[1:3])
        grey = ", channels=1" if model.input_shape[3] == 1 else ""
        lines += [
            f"model = zoo.load({call})",
            "prepare = zoo.preprocessing_of(model)",
            f'images = zoo.read_images(["image.png"], size=({height}, {width}), crop=prepare.crop{grey})',
            "predictor = zoo.compile(model)  # the fastest engine that is installed",
            "predictor(prepare(images))",
        ]
    return "\n".join(["```python", *lines, "```"])


def _facts(model: tf.keras.Model, info: ModelInfo | None, file: Path) -> str:
    rows = {"input": " x ".join("any" if size is None else str(size) for size in model.input_shape[1:])}
    if info:
        size = None if None in model.input_shape[1:3] else tuple(model.input_shape[1:3])
        rows["images"] = describe_input(replace(info.preprocessing, size=size or info.preprocessing.size).to_dict())
    if info and info.arguments["include_top"]:
        names = f": {', '.join(map(_plain, info.class_names))}" if info.class_names else ""
        rows["output"] = f"{model.output_shape[-1]} classes{names if len(names) < 1000 else ''}"
    if None not in model.input_shape[1:]:
        counts = count(model)
        rows["parameters"] = (
            f"{format_count(counts.parameters)}, {format_count(counts.binary_parameters)} of them 1-bit"
        )
        rows["memory"] = f"{format_bytes(counts.memory)}; all in float32: {format_bytes(counts.float32_memory)}"
        macs = f"{format_count(counts.binary_macs)} 1-bit, {format_count(counts.float_macs)} others"
        rows["multiply-accumulates"] = f"{macs}, for an image"
    rows["packed file"] = format_bytes(file.stat().st_size)
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _accuracy(entry: Entry | None, row: Weights | None, dataset: str | None, metrics: Mapping[str, Any]) -> str:
    lines = []
    if "top1" in metrics:
        how = f"{metrics['images']:,} images of {dataset}, {metrics['split']} split" if row else _plain(dataset or "")
        lines.append(
            f"| measured {'by the zoo' if row else 'by whoever shares it'} | {format_accuracies(metrics)} | {how} |"
        )
    if row and "top1" in row.published:
        lines.append(
            f"| by the source of the weights | {format_accuracies(row.published)} | {row.published.get('where', '')} |"
        )
    # A paper's figure is for the data that its network of this size is for.
    if entry and row and row.num_classes == entry.build.spec.num_classes and entry.name in entry.paper.top1:
        lines.append(f"| in the paper or its repository | {entry.paper.top1[entry.name]:g} % | | {entry.paper.venue} |")
    if not lines:
        return "Not stated."
    return "\n".join(["| | top-1 | top-5 | |", "|---|--:|--:|---|", *lines])


def _origin(info: ModelInfo | None, row: Weights | None, license: str | None, source: str | None) -> str:
    if row is None:
        begun = info.weights if info else None
        sentences = [
            f"Licence: {_plain(license)}." if license else f"Licence: {_UNSTATED}.",
            f"Source: {_plain(source)}." if source else "",
            f"Training began with the weights `{begun.tag}` of `{begun.model}` ({_whose(begun)})." if begun else "",
        ]
        return "\n\n".join(filter(None, [" ".join(filter(None, sentences)), _notice(begun) if begun else ""]))
    trained = f"\n\n```bash\n{row.recipe}\n```" if row.recipe else ""
    return "\n\n".join(filter(None, [f"{_whose(row)}. Please cite the paper.{trained}", _notice(row)]))


def _whose(row: Weights) -> str:
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
