"""A page for each set of registered weights: what it is, how to load it, what was measured, and what it is not for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exports import recorded_exports
from results import epochs_of, paper_epochs, paper_top1, record_of

from onebit import zoo
from onebit.util.formatting import format_bytes, format_count

_CLASSES = {
    "cifar10": f"the ten classes of CIFAR-10 ({', '.join(zoo.class_names('cifar10') or ())})",
    "cifar100": "the hundred classes of CIFAR-100",
    "imagenet2012": "the thousand classes of ImageNet-2012",
}
_USE = (
    "Teaching, research on 1-bit networks, and a starting point for fine-tuning on other images. It tells {} apart, "
    "and assigns one of them to every image, whatever it shows. Its accuracy is known only for that dataset's test "
    "images; on others, including blurred or differently cropped ones, it is lower by an unknown amount. Its "
    "probabilities are not calibrated. It was not tested for, and must not be used for, decisions about people or "
    "where errors do harm."
)


def path(row: zoo.Weights, folder: Path) -> Path:
    """Return where the page of weights is."""
    return folder / f"{row.model}-{row.tag}.md"


def card(row: zoo.Weights) -> str:
    """Return the page of weights, in Markdown."""
    sections = {
        "Load it": _load(row),
        "Figures": _figures(row),
        "Size": _size(row),
        "Training": _training(row),
        "Licence and attribution": _licence(row),
        "Intended use, and limits": _USE.format(_CLASSES[row.dataset]),
    }
    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items() if body)
    return f"# {row.model}, weights `{row.tag}`\n\n{_what(row)}\n{text}"


def _what(row: zoo.Weights) -> str:
    entry = zoo.entry(row.model)
    paper = entry.paper
    sentences = [
        f"`{entry.call}` of {paper.authors}, *{paper.title}*, {paper.venue}, "
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}),",
        f"trained on {row.dataset} with {row.num_classes} classes.",
        entry.note,
        f"It takes images of {' x '.join(map(str, entry.native_shape))} with the preprocessing",
        f"`{row.preprocessing}`, and returns a probability for each class.",
        row.note,
    ]
    return " ".join(filter(None, sentences))


def _load(row: zoo.Weights) -> str:
    where = (
        "The file is in the package; no internet connection is needed."
        if row.shipped
        else "The file is downloaded once, checked and cached."
        if row.url
        else f"Download [`{row.file}`]({row.page}) and give its path as `weights`."
    )
    if ".pth" in row.file:
        where += ' Reading it needs PyTorch, `pip install ".[convert]"`.'
    weights = row.file if row.page and not row.url else row.tag
    return (
        f"{where}\n\n```python\nfrom onebit import zoo\n\n"
        f'model = zoo.load("{row.model}", weights="{weights}")\n'
        "# images: (n, height, width, 3), pixels from 0 to 255\n"
        f'images = zoo.get_preprocessing("{row.preprocessing}")(images)\n'
        "model.predict(images)\n```"
    )


def _figures(row: zoo.Weights) -> str:
    lines = ["| | top-1 | top-5 | how |\n|---|--:|--:|---|"]
    paper, ours = paper_top1(row.model, row), row.metrics
    if "top1" in ours:
        how = f"{ours['images']:,} images of the {ours['split']} split: `{ours['command']}`"
        lines.append(f"| measured here | {_both(ours)} | {how} |")
    if "top1" in row.published:
        lines.append(f"| their source | {_both(row.published)} | {row.published.get('where', '')} |")
    if paper is not None:
        lines.append(f"| the paper or its repository | {paper:g} % | | {zoo.entry(row.model).paper.venue} |")
    return "\n".join(lines)


def _both(metrics: Any) -> str:
    return " | ".join(f"{metrics[name]:.2f} %" if metrics.get(name) is not None else "" for name in ("top1", "top5"))


def _size(row: zoo.Weights) -> str:
    count, exported = zoo.recorded_counts()[row.model], recorded_exports().get(row.model)
    sentences = [
        f"{format_count(count.parameters)} parameters, {format_count(count.binary_parameters)} of them 1-bit:",
        f"{format_bytes(count.memory)} of memory, where float32 takes {format_bytes(count.float32_memory)}.",
        f"For one image {format_count(count.binary_macs)} 1-bit and {format_count(count.float_macs)} other",
        "multiply-accumulates.",
        f"This file: {format_bytes(row.size)}." if row.size else "",
        f"On the device: {format_bytes(exported.file_bytes)}." if exported else "",
    ]
    return " ".join(filter(None, sentences))


def _training(row: zoo.Weights) -> str:
    if row.recipe is None:
        return ""
    record, data = record_of(row), f"../../zoo/data/{Path(row.file).stem}"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    sentences = [
        f"{epochs_of(record)} epochs (the recipe's default: {paper_epochs(record)}), seed {record['seed']},",
        f"{record['precision']},",
        f"{record['seconds'] / 3600:.1f} hours, with {versions}. The figures are the last epoch's.",
        f"Settings: [record]({data}.json); epochs: [history]({data}.csv).",
        record.get("note", ""),
    ]
    return f"```bash\n{row.recipe}\n```\n\n{' '.join(filter(None, sentences))}"


def _licence(row: zoo.Weights) -> str:
    source = "Trained by this project." if row.source == "onebit" else f"Source: {row.source}."
    return f"Weights: {row.licence}. {source} Please cite the paper."
