"""Learning curves as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...util.files import replacing


def plot_history(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw loss, accuracy, flip ratio and learning rate over the epochs of a run, stage after stage.

    Without Matplotlib, which the extra ``plots`` installs, nothing is drawn.

    Args:
        rows: The history's rows.
        path: The PNG to write.
        title: Its title.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(title)
    panels = (
        ("loss", ("loss", "val_loss"), False),
        ("accuracy (%)", ("accuracy", "val_accuracy"), False),
        ("signs changed in an epoch (%)", ("flip_ratio",), False),
        ("learning rate", ("learning_rate",), True),
    )
    starts = [i for i, row in enumerate(rows) if i and row["stage"] != rows[i - 1]["stage"]]
    for axes, (label, names, logarithmic) in zip(figure.subplots(2, 2).ravel(), panels, strict=True):
        percent = 100 if "%" in label else 1
        for name in names:
            points = [(i + 1, percent * row[name]) for i, row in enumerate(rows) if name in row]
            if points:
                marker = "o" if len(points) < 30 else None
                axes.plot(
                    *zip(*points, strict=True),
                    label="test" if name.startswith("val") else "training",
                    marker=marker,
                    markersize=3,
                )
        for start in starts:
            axes.axvline(start + 0.5, color="0.7", linestyle="--", linewidth=1)
        if logarithmic:
            axes.set_yscale("log")
        if len(axes.lines) - len(starts) > 1:
            axes.legend()
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
