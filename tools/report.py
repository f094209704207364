"""Write what the documentation says in figures: the README's tables, the pictures and the model cards.

python tools/report.py            # from the registry and the records of the runs
python tools/report.py --count    # count every model again before (zoo/data/models.json)

A test fails where a document is not what this writes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import model_cards
import pareto
import shapes
import speed
from exports import recorded_exports
from results import DATA, epochs_of, paper_epochs, paper_top1, record_of, results
from rows import write_rows

from onebit import zoo
from onebit.util.files import replacing
from onebit.util.formatting import format_bytes, format_count, natural_key

ROOT = Path(__file__).resolve().parents[1]
README, COUNTS, CARDS = ROOT / "README.md", DATA / "models.json", ROOT / "docs" / "models"
PICTURE, SHAPES = ROOT / "docs" / "pareto.svg", ROOT / "docs" / "quantizers.svg"


def count_all() -> dict[str, dict[str, int]]:
    """Build every registered model and count it."""
    import tensorflow as tf

    counts = {}
    for name in zoo.list_models():
        tf.keras.backend.clear_session()
        counts[name] = dataclasses.asdict(zoo.count(zoo.load(name)))
    return counts


def models_table(counts: Mapping[str, zoo.Counts]) -> str:
    """Return the table of all models in Markdown: a row for each set of weights, or for a model without any."""
    header = (
        "| model | paper | parameters | 1-bit | memory | MACs 1-bit / other | file on device | binary ops / layers "
        "| paper's | weights | their source's | ours |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|\n"
    )
    names = sorted(zoo.list_models(), key=natural_key)
    return header + "".join(_row(name, counts[name], row) for name in names for row in zoo.list_weights(name) or [None])


def _row(name: str, count: zoo.Counts, weights: zoo.Weights | None) -> str:
    paper, exported = zoo.entry(name).paper, recorded_exports().get(name)
    published = paper_top1(name, weights)
    return _line(
        f"`{name}`",
        f"[{paper.venue}](https://arxiv.org/abs/{paper.arxiv})",
        format_count(count.parameters),
        format_count(count.binary_parameters),
        format_bytes(count.memory),
        _macs(count),
        format_bytes(exported.file_bytes) if exported else "",
        f"{exported.binary_operations} / {exported.binary_layers}" if exported else "",
        f"{published:g} %" if published is not None else "",
        _card_link(weights.tag, weights) if weights else "",
        _percent(weights.published) if weights else "",
        _percent(weights.metrics) if weights else "",
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _card_link(text: str, row: zoo.Weights) -> str:
    return f"[`{text}`]({model_cards.path(row, CARDS).relative_to(ROOT).as_posix()})"


def _macs(count: zoo.Counts) -> str:
    return f"{format_count(count.binary_macs)} / {format_count(count.float_macs)}"


def _percent(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['top1']:.2f} %" if "top1" in metrics else ""


def results_table() -> str:
    """Return the table of what we trained, in Markdown, the most accurate first."""
    lines = [
        "| model | top-1 | top-5 | epochs | hours | paper's top-1 | its epochs | file | memory | MACs 1-bit / other |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    ]
    for row in results():
        count, record = zoo.recorded_counts()[row.model], record_of(row)
        published = paper_top1(row.model, row)
        lines.append(
            _line(
                _card_link(row.model, row),
                f"{row.metrics['top1']:.2f} %",
                f"{row.metrics['top5']:.2f} %",
                epochs_of(record),
                f"{record['seconds'] / 3600:.1f}",
                f"{published:g} %" if published is not None else "",
                paper_epochs(record) if published is not None else "",
                format_bytes(row.size or 0),
                format_bytes(count.memory),
                _macs(count),
            )
        )
    return "".join(lines)


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of measured speeds in Markdown, and where and how often they were measured."""
    (machine,), (rounds,) = ({row[name] for row in rows} for name in ("machine", "rounds"))
    lines = [_line(*speed.HEADINGS), f"|---|---|---|---|{'--:|' * (len(speed.HEADINGS) - 4)}\n"]
    lines += [_line(f"`{name}`", *rest) for name, *rest in map(speed.cells, rows)]
    where = f"Measured on {machine}: medians of {rounds} rounds, in brackets the lowest and the highest.\n\n"
    return where + "".join(lines)


def _noise(runs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Return how much the accuracy varies across seeds, as far as it was measured."""
    seeds = [[row["top1"] for row in of_variant] for of_variant in runs if len(of_variant) > 1]
    if not seeds:
        return "\n**Noise**: each variant was trained once; how much accuracy varies across seeds was not measured.\n"
    widest = max(max(top1) - min(top1) for top1 in seeds)
    varied = (
        f"{len(seeds)} of {len(runs)} variants have several seeds, across which accuracy varied by up to {widest:.1f}"
    )
    return f"""
**Noise**: {varied} points.
Few seeds show less of it than there is: differences that are little larger may be noise as well.
"""


_ABLATIONS = """# What each idea brings

Comparisons from three of the papers, on CIFAR-10: IR-Net's Libra-PB and EDE, and EDE beside Bi-Real Net's ApproxSign as
the activations' gradient; ReActNet's RSign, RPReLU and distillation; FTBNN's non-linearities. Not compared here:
McDonnell's 1-bit and 32-bit weights, and his fixed and learned scales of batch normalisation; Bi-Real Net's shortcuts
and magnitude-aware gradient; FTBNN's order, shortcuts and groups, and FTBNN with Bi-Real and ReAct networks under one
recipe; ReActNet without non-linearity.

All have one short schedule (`epochs`, of which each of ReActNet's two stages has half) and everything else as in the
recipe, except for batches of 128, and compute in bfloat16. Accuracy is the last epoch's, on the 10,000 test images. The
papers train for dozens of times as long, and some of them other networks on other images: these tables show what helps
a short training run of a small network, and do not contradict the papers where they differ.
`python benchmarks/ablations.py` trains the networks, `python tools/report.py` writes this page.
"""


def insert(document: str, name: str, content: str) -> str:
    """Return a document with new content between the marks of this name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = document.split(begin)
    return f"{before}{begin}\n{content}{end}{rest.split(end)[1]}"


def documents() -> dict[Path, str]:
    """Return all that is written here, except for the pictures."""
    if missing := set(zoo.list_models()) - zoo.recorded_counts().keys():
        raise LookupError(f"{', '.join(sorted(missing))}: not counted yet. Run python tools/report.py --count")
    readme = README.read_text(encoding="utf-8")
    measured = json.loads(speed.FILE.read_text(encoding="utf-8"))
    tables = {"models": models_table(zoo.recorded_counts()), "results": results_table(), "speed": speed_table(measured)}
    for name, table in tables.items():
        readme = insert(readme, name, table)
    cards = {model_cards.path(row, CARDS): model_cards.card(row) for row in zoo.list_weights()}
    pages = {}
    return {README: readme, **pages, **cards}


def main() -> None:
    """Write everything, and remove the cards of weights that are no longer registered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="count every model again before")
    if parser.parse_args().count:
        write_rows(COUNTS, count_all())
        zoo.recorded_counts.cache_clear()
    CARDS.mkdir(exist_ok=True)
    written = documents()
    for path, text in written.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for old in set(CARDS.glob("*.md")) - set(written):
        old.unlink()
    for picture, draw, figures in ((PICTURE, pareto.draw, pareto.points()), (SHAPES, shapes.draw, shapes.curves())):
        with replacing(picture) as temporary:
            draw(temporary, figures)


if __name__ == "__main__":
    main()
