"""A page for each set of registered weights: what `zoo.model_card` says, how they were trained, and their limits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from exports import recorded_exports

from onebit import zoo
from onebit.util.formatting import describe_counts, format_bytes
from onebit.zoo.sharing.card import accuracies, code, facts_table, introduction, prediction, whose

from .facts import best_epoch, default_recipe, device, epochs_of, length, record_of

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
        "Licence": f"{whose(row)}. Please cite the paper.",
        "Intended use and limits": _USE.format(_CLASSES.get(row.dataset, f"{row.num_classes} classes")),
    }
    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items() if body)
    return f"# {row.model}, weights `{row.tag}`\n\n{_what(row)}\n{text}"


def _what(row: zoo.Weights) -> str:
    entry = zoo.entry(row.model)
    image = f"{' x '.join(map(str, entry.native_shape))}, preprocessing `{row.preprocessing}`"
    return f"{introduction(entry, row)} Input: {image}. Output: a probability for each of {row.num_classes} classes."


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
    weights = row.file if row.page else row.tag
    call = f'zoo.load("{row.model}", weights="{weights}")'
    return f"{where}\n\n{code(prediction(call, zoo.entry(row.model).native_shape))}"


def _accuracy(row: zoo.Weights) -> str:
    notes = []
    if "top1" in row.metrics:
        notes.append(f"Measured by `{row.metrics['command']}`.")
    if row.recipe is not None and (best := best_epoch(row)) is not None:
        notes.append(f"The best epoch, chosen by test images, had {best:.2f} %: not these weights.")
    return "\n\n".join(filter(None, [accuracies(zoo.entry(row.model), row), " ".join(notes)]))


def _size(row: zoo.Weights) -> str:
    rows, exported = describe_counts(asdict(zoo.recorded_counts()[row.model])), recorded_exports().get(row.model)
    if row.size:
        rows["weights file"] = format_bytes(row.size)
    if exported:
        rows["exported for the Larq Compute Engine"] = format_bytes(exported.file_bytes)
    return facts_table(rows)


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
