"""One picture of what a small 1-bit network does and of what it weighs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import zoo
from ..util.files import replacing
from ..util.formatting import format_bytes

RIGHT, WRONG, FLOAT, BINARY, INK, FAINT = "#1a7f37", "#cf222e", "#b8c0cc", "#0969da", "#1f2328", "#6e7781"
PER_CLASS = 6
SMALLEST, LARGEST = 1e4, 1.2e9  # bytes; the ends of the logarithmic axis


def draw(
    path: Path,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    title: str,
    caption: str,
    models: Sequence[str] = ("wide_resnet_20_1", "wide_resnet_20_2", "wide_resnet_20_4", "wide_resnet_20_10"),
) -> Path:
    """Write a PNG: on the left images of each class with the network's answers, on the right the sizes of models.

    Args:
        path: The file to write.
        images: (n, height, width, 3), uint8.
        labels: (n,), integers.
        probabilities: (n, classes).
        class_names: One for each class.
        title: Headline.
        caption: What stands below the sizes; lines of up to 40 characters.
        models: Registered models whose sizes to compare.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), facecolor="white")
    FigureCanvasAgg(figure)  # no display, and no state of pyplot's
    left, right = figure.subfigures(1, 2, width_ratios=(2.35, 1))
    figure.text(0.025, 0.955, title, fontsize=19, fontweight="bold", color=INK)
    figure.text(0.025, 0.922, "What it answers, and how sure it is: ", fontsize=12, color=FAINT)
    figure.text(0.225, 0.922, "right", fontsize=12, color=RIGHT, fontweight="bold")
    figure.text(0.262, 0.922, "or", fontsize=12, color=FAINT)
    figure.text(0.281, 0.922, "wrong", fontsize=12, color=WRONG, fontweight="bold")
    _grid(left, images, labels, probabilities, class_names)
    _sizes(right, models)
    right.text(0.08, 0.055, caption, fontsize=11.5, color=INK, linespacing=1.5)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path


def _grid(
    figure: Any, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> None:
    axes = figure.subplots(PER_CLASS, len(class_names), squeeze=False)
    figure.subplots_adjust(left=0.035, right=0.985, top=0.86, bottom=0.03, wspace=0.1, hspace=0.22)
    for ax in axes.flat:
        ax.set_axis_off()
    for label, name in enumerate(class_names):
        axes[0, label].annotate(
            name, (0.5, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", ha="center", fontsize=11,
            fontweight="bold", color=INK,
        )  # fmt: skip
        for ax, index in zip(axes[:, label], np.flatnonzero(labels == label), strict=False):
            guess = int(probabilities[index].argmax())
            colour = RIGHT if guess == label else WRONG
            ax.set_axis_on()
            ax.imshow(images[index], interpolation="lanczos")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(color=colour, linewidth=2.5)
            ax.set_xlabel(
                f"{class_names[guess]} {100 * probabilities[index, guess]:.0f} %",
                fontsize=7.8,
                color=colour,
                labelpad=3,
            )


def _sizes(figure: Any, models: Sequence[str]) -> None:
    ax = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.97, top=0.82, bottom=0.2)
    counts = [zoo.recorded_counts()[name] for name in models]
    rows = np.arange(len(models))[::-1] * 1.0
    for y, name, count in zip(rows, models, counts, strict=True):
        for offset, value, colour in ((0.16, count.float32_memory, FLOAT), (-0.16, count.memory, BINARY)):
            ax.barh(y + offset, value - SMALLEST, 0.3, SMALLEST, color=colour)
            ax.text(value * 1.12, y + offset, format_bytes(value), va="center", fontsize=11.5, color=INK)
        ratio = f"{count.float32_memory / count.memory:.0f} times smaller"
        ax.text(SMALLEST, y + 0.4, f"{display_name(name)}", fontsize=11.5, fontweight="bold", color=INK)
        ax.text(LARGEST, y + 0.4, ratio, fontsize=10.5, color=FAINT, ha="right")
    ax.set(xscale="log", xlim=(SMALLEST, LARGEST), ylim=(-0.5, rows[0] + 0.65), yticks=[])
    ax.set_xticks([1e4, 1e5, 1e6, 1e7, 1e8], ["10 kB", "100 kB", "1 MB", "10 MB", "100 MB"], color=FAINT)
    ax.minorticks_off()
    ax.tick_params(length=0)
    ax.grid(axis="x", color="#eaeef2")
    ax.set_axisbelow(True)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.text(0.08, 0.872, "Memory for the weights", fontsize=15, fontweight="bold", color=INK)
    figure.text(0.08, 0.842, "in float32", fontsize=12, color=FAINT, fontweight="bold")
    figure.text(0.36, 0.842, "at 1 bit", fontsize=12, color=BINARY, fontweight="bold")
    figure.text(0.56, 0.842, "(logarithmic)", fontsize=11, color=FAINT)


def display_name(name: str) -> str:
    """Return ``wide_resnet_20_1`` as Wide ResNet 20-1."""
    *words, depth, width = name.split("_")
    return f"{' '.join(words).title().replace('Resnet', 'ResNet')} {depth}-{width}"
