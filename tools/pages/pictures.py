"""The pictures of the documentation. Each holds the figures it shows, so that a test can tell if it is stale."""

from __future__ import annotations

import contextlib
import functools
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onebit import quantizers, zoo

from .facts import ROOT, bits, results
from .papers import modules, quantizers_of
from .tables import quantizer_classes, role

_STYLE = {
    "svg.hashsalt": "onebit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def drawn(path: Path) -> Any:
    """Return the figures that a picture was drawn from."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(html.unescape(found[1])) if found else None


@contextlib.contextmanager
def _drawing(path: Path, size: tuple[float, float], title: str, figures: Any) -> Iterator[Any]:
    """Yield a Matplotlib figure of a size in inches to draw on, then write it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        yield figure
        metadata = {"Date": None, "Title": title, "Description": json.dumps(figures)}
        figure.savefig(path, format="svg", metadata=metadata)


# What a 1-bit network is


def idea() -> dict[str, Any]:
    """Return one filter before and after binarisation, and sizes and accuracies of the networks that ship."""
    rows = [row for row in zoo.list_weights() if row.shipped and row.dataset == "cifar10"]
    quantizer = quantizers.ScaledSign()
    kernel = np.random.default_rng(8).normal(0, 0.3, (3, 3, 1, 1)).astype(np.float32)
    shipped = [
        {
            "model": row.model,
            "bits": bits(row.model),
            "kilobytes": round(zoo.recorded_counts()[row.model].memory / 1e3, 1),
            "float32_kilobytes": round(zoo.recorded_counts()[row.model].float32_memory / 1e3, 1),
            "top1": row.metrics["top1"],
        }
        for row in sorted(rows, key=lambda row: -row.metrics["top1"])
    ]
    return {"kernel": _rounded(kernel.ravel()), "binary": _rounded(np.ravel(quantizer(kernel))), "networks": shipped}


def _draw_idea(path: Path, figures: Any) -> None:
    blue, grey = "#0969da", "#6e7781"
    with _drawing(path, (9.5, 3.4), "What a 1-bit network is", figures) as figure:
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
        grids = left.subplots(1, 2)
        texts = ("32 bits per weight", "1 bit per weight,\none scale per filter")
        for axis, name, text in zip(grids, ("kernel", "binary"), texts, strict=True):
            values = np.reshape(figures[name], (3, 3))
            axis.imshow(values, cmap="PuOr", vmin=-1.2, vmax=1.2)
            for (row, column), value in np.ndenumerate(values):
                axis.text(column, row, f"{value:+.2f}".replace("-", "−"), ha="center", va="center", fontsize=9)
            axis.set_title(text, fontsize=9.5)
            axis.set(xticks=[], yticks=[])
        figure.get_layout_engine().set(wspace=0.12)
        left.text(0.5, 0.42, "→", ha="center", va="center", fontsize=18, color=grey)
        left.suptitle("Each filter becomes its signs", fontsize=11, fontweight="bold")
        axis = right.subplots()
        right.suptitle("CIFAR-10 networks that ship with the package", fontsize=11, fontweight="bold")
        networks = figures["networks"][::-1]
        for number, network in enumerate(networks):
            small, large = network["kilobytes"], network["float32_kilobytes"]
            axis.barh(number, large, color="none", edgecolor=grey, lw=0.8, height=0.62, ls=":")
            axis.barh(number, small, color=grey if small == large else blue, height=0.62)
            axis.text(large * 1.1, number, f"{network['top1']:.1f} %", va="center", fontweight="bold")
        axis.set_yticks(range(len(networks)), [network["model"] for network in networks])
        axis.set(xscale="log", xlim=(20, 8 * max(network["float32_kilobytes"] for network in networks)))
        axis.set_xlabel("memory in kB (dotted: in float32), and top-1 accuracy")
        axis.xaxis.set_major_formatter("{x:g}")


# Accuracy over size


def accuracies() -> list[dict[str, Any]]:
    """Return what the leaderboard's picture shows of each network."""
    counted = ((row, zoo.recorded_counts()[row.model]) for row in results())
    return [
        {
            "model": row.model,
            "top1": row.metrics["top1"],
            "paper": zoo.entry(row.model).paper_top1(row.num_classes),
            "memory": count.memory,
            "binary_macs": count.binary_macs,
            "float_macs": count.float_macs,
        }
        for row, count in counted
    ]


def _draw_accuracies(path: Path, points: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    with _drawing(path, (10, 4.2), "Accuracy over size", points) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        heights = label_heights([point["top1"] for point in points])
        for number, (point, height) in enumerate(zip(points, heights, strict=True)):
            color, top1, paper = f"C{number % 10}", point["top1"], point["paper"]
            places = (point["memory"] / 1e3, (point["binary_macs"] or point["float_macs"]) / 1e6)
            for axis, x, filled in zip(axes, places, (True, point["binary_macs"] > 0), strict=True):
                axis.scatter(x, top1, s=45, zorder=3, edgecolors=color, facecolors=color if filled else "none")
                axis.annotate(point["model"], (x, height), xytext=(7, -3), textcoords="offset points")
                if paper is not None:
                    axis.plot([x, x], [top1, paper], ":", color=color, lw=1)
                    axis.scatter(x, paper, s=45, zorder=3, marker="_", color=color)
        axes[0].set(xscale="log", xlabel="memory, kB", ylabel="top-1 on CIFAR-10, %")
        axes[1].set(xscale="log", xlabel="multiply-accumulates, million: 1-bit (filled), real activations (hollow)")
        axes[0].set_title("dots: this package; dashes: the papers", loc="left")
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


# Quantizers and non-linearities


def curves(classes: Mapping[str, type] | None = None) -> list[dict[str, Any]]:
    """Return value and gradient of some quantizers and non-linearities, or of all, to four digits."""
    found = []
    for name, layer in (classes or quantizer_classes()).items():
        title, examples = _EXAMPLES.get(name, (name, {"": layer}))
        found.append(_curve(title, role(layer), {label: make() for label, make in examples.items()}))
    order = ("activations", "kernels", "non-linearity")
    return sorted(found, key=lambda curve: order.index(curve["role"]))


def _ede(share: float) -> quantizers.EDE:
    k, t = quantizers.ede_schedule(share, epochs=1, t_min=1e-1)
    return quantizers.EDE(k=k, t=t)


def _with_weights(layer: Callable[[], Any], *values: float) -> Any:
    made = layer()
    made.build((None, 1))
    made.set_weights([np.array([value]) for value in values])
    return made


# Titles and layers by label, for classes whose start values would show too little.
_EXAMPLES: dict[str, tuple[str, dict[str, Callable[[], Any]]]] = {
    "EDE": (
        "EDE",
        {"at the start": lambda: _ede(0.0), "half-way": lambda: _ede(0.5), "at two thirds": lambda: _ede(2 / 3)},
    ),
    "LibraPB": ("LibraPB, half-way", {"": functools.partial(quantizers.LibraPB, k=1.0, t=1.0)}),
    "RSign": ("RSign, threshold 0.5", {"": lambda: _with_weights(quantizers.RSign, 0.5)}),
    "RPReLU": ("RPReLU, shifts 0.5 and -0.5", {"": lambda: _with_weights(quantizers.RPReLU, 0.5, 0.25, -0.5)}),
    "FPReLU": ("FPReLU, slopes 1.2 and 0.25", {"": lambda: _with_weights(quantizers.FPReLU, 1.2, 0.25)}),
}


def _curve(title: str, role: str, layers: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    kernel = role == "kernels"
    # A filter of 3x3 weights for 4 channels, whose mean is not 0.
    x = np.sort(np.random.default_rng(0).normal(0.3, 0.8, 36)) if kernel else np.linspace(-2, 2, 81)
    inputs = tf.constant(x[:, None], tf.float32)
    slopes = {}
    for label, layer in layers.items():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            y = layer(inputs)
        if kernel:  # weights may share a mean: the derivative of each by itself is on the diagonal
            slope = np.diag(tape.jacobian(y, inputs, experimental_use_pfor=False)[:, 0, :, 0])
        else:
            slope = tape.gradient(y, inputs)[:, 0]
        slopes[label] = _rounded(slope)
    return {"title": title, "role": role, "x": _rounded(x), "y": _rounded(y[:, 0]), "slopes": slopes}


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _draw_curves(path: Path, curves: list[dict[str, Any]]) -> None:
    columns = min(4, len(curves) + 1)
    rows = -(-(len(curves) + 1) // columns)
    with _drawing(path, (2.5 * columns, 2.35 * rows), "Quantizers and non-linearities", curves) as figure:
        panels = figure.subplots(rows, columns).ravel()
        for panel, curve in zip(panels, curves, strict=False):
            panel.set_title(f"{curve['title']}\n({curve['role']})", loc="left", fontsize=9)
            panel.axhline(0, color="0.8", lw=0.8)
            panel.axvline(0, color="0.8", lw=0.8)
            for number, (label, slope) in enumerate(curve["slopes"].items()):
                line = "x" if curve["role"] == "kernels" else ("--", "-.", ":")[number]
                panel.plot(curve["x"], slope, line, color="C1", ms=3, label=f"gradient, {label}".rstrip(", "))
            panel.plot(
                curve["x"], curve["y"], "." if curve["role"] == "kernels" else "-", color="C0", ms=4, label="value"
            )
            panel.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.4))
        handles = max((panel.get_legend_handles_labels() for panel in panels), key=lambda found: len(found[1]))
        for panel in panels[len(curves) :]:
            panel.axis("off")
        panels[-1].legend(*handles, loc="center left")


# What each shows, and how that is drawn into a file.
PICTURES: dict[Path, tuple[Callable[[], Any], Callable[[Path, Any], None]]] = {
    ROOT / "docs" / "onebit.svg": (idea, _draw_idea),
    ROOT / "docs" / "results.svg": (accuracies, _draw_accuracies),
    ROOT / "docs" / "quantizers.svg": (curves, _draw_curves),
    **{
        ROOT / "docs" / "papers" / f"{module}.svg": (functools.partial(curves, classes), _draw_curves)
        for module, models in modules().items()
        if (classes := quantizers_of(models))
    },
}
