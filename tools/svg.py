"""Pictures of the documentation, which hold their own figures: a test can tell whether they are out of date."""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STYLE = {
    "svg.hashsalt": "onebit",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


@contextlib.contextmanager
def drawing(path: Path, size: tuple[float, float], title: str, figures: Any) -> Iterator[Any]:
    """Yield a Matplotlib figure to draw on, then write it.

    Args:
        path: The SVG.
        size: (width, height) in inches.
        title: Its title.
        figures: What is drawn, as JSON can hold it; it becomes the picture's description.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        metadata = {"Date": None, "Title": title, "Description": json.dumps(figures)}
        figure.savefig(path, format="svg", metadata=metadata)


def drawn(path: Path) -> Any:
    """Return the figures that a picture was drawn from."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(html.unescape(found[1])) if found else None
