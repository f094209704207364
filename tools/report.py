"""Write the generated parts of the documentation: tables, model cards and pictures.

    python tools/report.py            # from the registry and the records of the runs
    python tools/report.py --count    # first count every model again, or those that follow (zoo/data/counts)

A test fails where a document is not what this writes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pages import cards, papers, pictures, speeds, tables
from pages.facts import DATA, ROOT, write_rows

from onebit import zoo
from onebit.cli.catalogue import described
from onebit.util.files import replacing

DOCS, COUNTS = ROOT / "docs", DATA / "counts"
CARDS, PAPERS = DOCS / "models", DOCS / "papers"
MODELS = DATA / "models"  # what the command line shows without importing TensorFlow
# What stands between the marks `<!-- NAME:begin -->` and `<!-- NAME:end -->` of a document.
PARTS: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {
        "families": lambda: papers.families("docs/papers/"),
        "weights": lambda: tables.weights("docs/models/"),
        "engines": speeds.engine_summary,
    },
    DOCS / "models.md": {"models": tables.models, "papers": tables.papers},
    DOCS / "results.md": {"results": tables.leaderboard, "others": tables.of_others},
    DOCS / "speed.md": {"speed": speeds.speeds, "engines": speeds.engines},
    DOCS / "quantizers.md": {"quantizers": tables.quantizer_table},
    DOCS / "training.md": {"recipes": tables.recipe_table},
    DOCS / "weights.md": {"licences": tables.licences},
}


def count(names: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Build registered models and count them; return the counts by paper, with those recorded of its other models."""
    import tensorflow as tf

    recorded = zoo.recorded_counts()
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for name in names:
        tf.keras.backend.clear_session()
        module = zoo.entry(name).build.__module__
        family = [other for other in zoo.list_models() if zoo.entry(other).build.__module__ == module]
        known = {other: dataclasses.asdict(recorded[other]) for other in family if other in recorded}
        counts.setdefault(module.rpartition(".")[2], known)[name] = dataclasses.asdict(zoo.count(zoo.load(name)))
    return {module: dict(sorted(rows.items())) for module, rows in counts.items()}


def insert(document: str, name: str, content: str) -> str:
    """Return a document with new content between the marks of this name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{content}{end}{after}"


def documents() -> dict[Path, str]:
    """Return all that is written here, but for the pictures."""
    if missing := set(zoo.list_models()) - zoo.recorded_counts().keys():
        raise LookupError(f"{', '.join(sorted(missing))}: not counted yet. Run python tools/report.py --count")
    found = {}
    for path, parts in PARTS.items():
        found[path] = path.read_text(encoding="utf-8")
        for name, table in parts.items():
            found[path] = insert(found[path], name, table())
    found |= {PAPERS / f"{name}.md": page for name, page in papers.pages().items()}
    found |= {MODELS / f"{module}.json": _lines(rows) for module, rows in described().items()}
    return found | {CARDS / cards.name(row): cards.card(row) for row in zoo.list_weights()}


def _lines(rows: list[dict[str, Any]]) -> str:
    """Return rows as JSON, one to a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows) + "\n]\n"


def main() -> None:
    """Write everything, and remove the pages of what is no longer registered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", nargs="*", metavar="MODEL", help="first count these models again, or all")
    names = parser.parse_args().count
    if names is not None:
        for module, rows in count(names or zoo.list_models()).items():
            write_rows(COUNTS / f"{module}.json", rows)
        zoo.recorded_counts.cache_clear()
    for folder in (CARDS, PAPERS, MODELS):
        folder.mkdir(exist_ok=True)
    written = documents()
    for path, text in written.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for old in {*CARDS.iterdir(), *PAPERS.iterdir()} - {*written, *pictures.PICTURES}:
        old.unlink()
    for picture, (figures, draw) in pictures.PICTURES.items():
        with replacing(picture) as temporary:
            draw(temporary, figures())


if __name__ == "__main__":
    main()
