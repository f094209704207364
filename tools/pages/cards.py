"""A page for each set of registered weights: what it is, how to load it, what was measured, and what it is not for."""

from __future__ import annotations

from pathlib import Path

from exports import recorded_exports

from onebit import zoo
from onebit.util.formatting import format_accuracies, format_bytes, format_count

from .facts import best_epoch, default_recipe, device, epochs_of, length, paper_top1, record_of

_CLASSES = {
    "cifar10": f"the ten classes of CIFAR-10 ({', '.join(zoo.class_names('cifar10') or ())})",
    "cifar100": "the hundred classes of CIFAR-100",
    "imagenet2012": "the thousand classes of ImageNet-2012",
}
_USE = (
    "For teaching, for research on 1-bit networks, and as a starting point for fine-tuning. It tells {} apart and "
    "assigns every image to one of them, whatever the image shows. Its accuracy is known only for the test images of "
    "that data set; on other images, blurred or differently cropped ones included, it is lower by an unknown amount. "
    "Its probabilities are not calibrated. It was not tested for decisions about people or where errors do harm, and "
    "must not be used for them."
)


def name(row: zoo.Weights) -> str:
    """Return the name of the file that describes some weights."""
    return f"{row.model}-{row.tag}.md".replace("/", "_")


def card(row: zoo.Weights) -> str:
    """Return the page of some weights, in Markdown."""
    sections = {
        "Load": _load(row),
        "Accuracy": _accuracy(row),
        "Size": _size(row),
        "Training": _training(row),
        "Licence": _licence(row),
        "Intended use and limits": _USE.format(_CLASSES.get(row.dataset, f"{row.num_classes} classes")),
    }
    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items() if body)
    return f"# {row.model}, weights `{row.tag}`\n\n{_what(row)}\n{text}"


def _what(row: zoo.Weights) -> str:
    entry = zoo.entry(row.model)
    paper = entry.paper
    sentences = [
        f"`{entry.call}`, from {paper.authors}, *{paper.title}*, {paper.venue}, "
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}).",
        f"Trained on {row.dataset}, {row.num_classes} classes.",
        entry.note,
        f"Input: {' x '.join(map(str, entry.native_shape))}, preprocessing `{row.preprocessing}`.",
        "Output: a probability for each class.",
        row.note,
    ]
    return " ".join(filter(None, sentences))


def _load(row: zoo.Weights) -> str:
    where = (
        "The file ships with the package and loads offline."
        if row.shipped
        else "The file is downloaded once, checked and cached."
        if row.url
        else f"Download [`{row.file}`]({row.page}) and pass its path as `weights`."
    )
    if ".pth" in row.file:
        where += ' Reading it needs PyTorch: `pip install ".[convert]"`.'
    weights = row.file if row.page and not row.url else row.tag
    return (
        f"{where}\n\n```python\nfrom onebit import zoo\n\n"
        f'model = zoo.load("{row.model}", weights="{weights}")\n'
        "# images: (n, height, width, 3), pixels from 0 to 255\n"
        f'images = zoo.get_preprocessing("{row.preprocessing}")(images)\n'
        "model.predict(images)\n```"
    )


def _accuracy(row: zoo.Weights) -> str:
    lines = ["| | top-1 | top-5 | how |\n|---|--:|--:|---|"]
    paper, ours = paper_top1(row.model, row), row.metrics
    if "top1" in ours:
        how = f"{ours['images']:,} images of the {ours['split']} split: `{ours['command']}`"
        lines.append(f"| measured here | {format_accuracies(ours)} | {how} |")
    if row.recipe is not None and (best := best_epoch(row)) is not None:
        lines.append(f"| best epoch, chosen by test images | {best:.2f} % | | not these weights |")
    if "top1" in row.published:
        lines.append(
            f"| reported by the source | {format_accuracies(row.published)} | {row.published.get('where', '')} |"
        )
    if paper is not None:
        lines.append(
            f"| reported by the paper or its repository | {paper:g} % | | {zoo.entry(row.model).paper.venue} |"
        )
    return "\n".join(lines)


def _size(row: zoo.Weights) -> str:
    count, exported = zoo.recorded_counts()[row.model], recorded_exports().get(row.model)
    sentences = [
        f"{format_count(count.parameters)} parameters, {format_count(count.binary_parameters)} of them 1-bit:",
        f"{format_bytes(count.memory)} of memory instead of {format_bytes(count.float32_memory)} in float32.",
        f"{format_count(count.binary_macs)} 1-bit and {format_count(count.float_macs)} other multiply-accumulates per",
        "image.",
        f"Weights file: {format_bytes(row.size)}." if row.size else "",
        f"Exported for the Larq Compute Engine: {format_bytes(exported.file_bytes)}." if exported else "",
    ]
    return " ".join(filter(None, sentences))


def _training(row: zoo.Weights) -> str:
    if row.recipe is None:
        return ""
    record, data = record_of(row), f"../../zoo/data/{Path(row.file).stem}"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    seconds = record["seconds"]
    time = f"{seconds / 60:.0f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"
    sentences = [
        f"{epochs_of(record)} epochs (the recipe's default: {length(default_recipe(record))}), seed {record['seed']},",
        f"{record['precision']}, {time} on {device(record)}; {versions}. The accuracy is that of the last epoch.",
        record.get("note", ""),
        f"Files: [record]({data}.json), [history]({data}.csv).",
    ]
    return f"```bash\n{row.recipe}\n```\n\n{' '.join(filter(None, sentences))}"


def _licence(row: zoo.Weights) -> str:
    source = "Trained by this project." if row.source == "onebit" else f"Source: {row.source}."
    return f"Weights: {row.licence}. {source} Please cite the paper."
