"""Write the README's table of models from the registry.

python benchmarks/readme_tables.py            # count every model again (zoo/data/models.json), then write the table
python benchmarks/readme_tables.py --table    # the table alone, from the recorded counts
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onebit import zoo
from onebit.cli._common import natural, quantity, size
from onebit.zoo.files import replacing

ROOT = Path(__file__).resolve().parents[1]
README, COUNTS = ROOT / "README.md", ROOT / "zoo" / "data" / "models.json"
BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"


def count_all() -> dict[str, dict[str, int]]:
    """Build every registered model and count it."""
    import tensorflow as tf

    counts = {}
    for name in zoo.list_models():
        tf.keras.backend.clear_session()
        counts[name] = dataclasses.asdict(zoo.count(zoo.load(name)))
    return counts


def table(counts: Mapping[str, zoo.Counts]) -> str:
    """Return the table in Markdown: a row for each set of weights, or for a model without any."""
    header = (
        "| model | paper | parameters | 1-bit | memory | MACs 1-bit / other | file on device | binary ops / layers "
        "| paper's | weights | their source's | ours |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|\n"
    )
    names = sorted(zoo.list_models(), key=natural)
    return header + "".join(_row(name, counts[name], row) for name in names for row in zoo.list_weights(name) or [None])


def _row(name: str, count: zoo.Counts, weights: zoo.Weights | None) -> str:
    paper, exported = zoo.entry(name).paper, zoo.recorded_exports().get(name)
    cells = (
        f"`{name}`",
        f"[{paper.venue}](https://arxiv.org/abs/{paper.arxiv})",
        quantity(count.parameters),
        quantity(count.binary_parameters),
        size(count.memory),
        f"{quantity(count.binary_macs)} / {quantity(count.float_macs)}",
        size(exported.file_bytes) if exported else "",
        f"{exported.binary_operations} / {exported.binary_layers}" if exported else "",
        f"{paper.top1[name]:g} %" if name in paper.top1 and not _has_other_classes(weights) else "",
        f"`{weights.tag}`" if weights else "",
        _percent(weights.published) if weights else "",
        _percent(weights.metrics) if weights else "",
    )
    return f"| {' | '.join(cells)} |\n"


def _has_other_classes(weights: zoo.Weights | None) -> bool:
    """Return whether weights are for another dataset than the paper's figure, such as CIFAR-100."""
    return weights is not None and weights.num_classes not in (10, 1000)


def _percent(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['top1']:.2f} %" if "top1" in metrics else ""


def insert(readme: str, table: str) -> str:
    """Return the README with the table between its marks."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}{END}{rest.split(END)[1]}"


def write(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="do not count again")
    if not parser.parse_args().table:
        rows = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in count_all().items())
        write(COUNTS, "{\n" + ",\n".join(rows) + "\n}\n")
        zoo.recorded_counts.cache_clear()
    write(README, insert(README.read_text(encoding="utf-8"), table(zoo.recorded_counts())))
