"""The picture of accuracy over size: what we trained on CIFAR-10, beside the papers' figures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from results import paper_top1, results
from svg import drawing

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
    counted = ((row, zoo.recorded_counts()[row.model]) for row in results())
    return [
        Point(
            row.model,
            row.metrics["top1"],
            paper_top1(row.model, row),
            count.memory,
            count.binary_macs,
            count.float_macs,
        )
        for row, count in counted
    ]


def draw(path: Path, points: list[Point]) -> None:
    """Write the picture."""
    from matplotlib.ticker import LogLocator, NullFormatter

    with drawing(path, (10, 4.2), "Accuracy over size", points) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        heights = label_heights([point.top1 for point in points])
        for number, (point, height) in enumerate(zip(points, heights, strict=True)):
            color = f"C{number % 10}"
            places = (point.memory / 1e3, (point.binary_macs or point.float_macs) / 1e6)
            for axis, x, filled in zip(axes, places, (True, point.binary_macs > 0), strict=True):
                axis.scatter(x, point.top1, s=45, zorder=3, edgecolors=color, facecolors=color if filled else "none")
                axis.annotate(point.model, (x, height), xytext=(7, -3), textcoords="offset points")
                if point.paper is not None:
                    axis.plot([x, x], [point.top1, point.paper], ":", color=color, lw=1)
                    axis.scatter(x, point.paper, s=45, zorder=3, marker="_", color=color)
        axes[0].set(xscale="log", xlabel="memory, kB", ylabel="top-1 on CIFAR-10, %")
        axes[1].set(xscale="log", xlabel="multiply-accumulates, million: 1-bit (filled), real activations (hollow)")
        axes[0].set_title("dots: this package; dashes: the papers, after their full schedules", loc="left")
        for axis in axes:
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.margins(x=0.3, y=0.15)
            axis.grid(alpha=0.3)


def label_heights(heights: list[float], apart: float = 0.045) -> list[float]:
    """Return the heights moved up where they are less than this fraction of their range apart, so that texts fit."""
    gap = apart * (max(heights, default=0) - min(heights, default=0))
    moved, lowest = dict.fromkeys(range(len(heights)), 0.0), float("-inf")
    for number in sorted(moved, key=lambda number: heights[number]):
        moved[number] = max(heights[number], lowest)
        lowest = moved[number] + gap
    return list(moved.values())
