"""The picture of accuracy over size: what we trained on CIFAR-10, beside the papers' figures."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

from results import results

from onebit import zoo


class Point(NamedTuple):
    """One network's place in the picture.

    Attributes:
        model: Its registered name.
        top1: Accuracy on the test images of CIFAR-10, in percent.
        paper: What the paper reports, if it does.
        memory: Bytes, as Larq's summary counts.
        binary_macs, float_macs: Multiply-accumulates for one image.
    """

    model: str
    top1: float
    paper: float | None
    memory: int
    binary_macs: int
    float_macs: int


def points() -> list[Point]:
    """Return a point for each network that we trained."""
    return [
        Point(
            row.model,
            row.metrics["top1"],
            zoo.entry(row.model).paper.top1.get(row.model),
            (count := zoo.recorded_counts()[row.model]).memory,
            count.binary_macs,
            count.float_macs,
        )
        for row in results()
    ]


def draw(path: Path, points: list[Point]) -> None:
    """Write an SVG with the points' figures in its description, from which `drawn` reads them again."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = {"svg.hashsalt": "onebit", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, constrained_layout=True)
        for point in points:
            mark = {"color": f"C{points.index(point) % 10}", "s": 45, "zorder": 3}
            places = (point.memory / 1e3, (point.binary_macs or point.float_macs) / 1e6)
            for axis, x, filled in zip(axes, places, (True, point.binary_macs > 0), strict=True):
                axis.scatter(
                    x, point.top1, **(mark if filled else mark | {"facecolors": "none", "edgecolors": mark["color"]})
                )
                axis.annotate(point.model, (x, point.top1), xytext=(6, 4), textcoords="offset points")
                if point.paper is not None:
                    axis.plot([x, x], [point.top1, point.paper], ":", color=mark["color"], lw=1)
                    axis.scatter(x, point.paper, marker="_", **mark)
        axes[0].set(xscale="log", xlabel="memory, kB", ylabel="top-1 on CIFAR-10, %")
        axes[1].set(xscale="log", xlabel="multiply-accumulates, million: 1-bit (filled), real activations (hollow)")
        axes[0].set_title("dots: this package; dashes: the papers, after their full schedules", loc="left")
        for axis in axes:
            axis.margins(x=0.3, y=0.15)
            axis.grid(alpha=0.3)
        metadata = {"Date": None, "Title": "Accuracy over size", "Description": json.dumps(points)}
        figure.savefig(path, format="svg", metadata=metadata)
        plt.close(figure)


def drawn(path: Path) -> list[Point]:
    """Return the points that are in a picture."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(encoding="utf-8"), re.DOTALL)
    return [Point(*each) for each in json.loads(html.unescape(found[1]))] if found else []
