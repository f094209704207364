"""The picture of every quantizer and non-linearity: what it returns, and its gradient as training sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from svg import drawing

Values = list[float]


class Curve(NamedTuple):
    """One quantizer or layer over its input.

    Attributes:
        title: Its name, and its parameters where they are not those it starts with.
        kernel: Whether ``x`` are the weights of one filter; else activations of one channel.
        x, y: Its input, ascending, and what it returns.
        slopes: By a label, the derivative of each output for the same place of the input.
    """

    title: str
    kernel: bool
    x: Values
    y: Values
    slopes: dict[str, Values]


def curves() -> list[Curve]:
    """Compute them all, in float32 rounded to 4 digits."""
    import numpy as np

    from onebit import quantizers as q

    def ede(share: float) -> Any:
        k, t = q.ede_schedule(share, epochs=1, t_min=1e-1)
        return q.EDE(k=k, t=t)

    def with_weights(layer: Any, *values: float) -> Any:
        layer.build((None, 1))
        layer.set_weights([np.array([value]) for value in values])
        return layer

    return [
        _curve("ApproxSign", {"": q.ApproxSign()}),
        _curve("EDE", {"at the start": ede(0.0), "half-way": ede(0.5), "at two thirds": ede(2 / 3)}),
        _curve("RSign, threshold 0.5", {"": with_weights(q.RSign(), 0.5)}),
        _curve("LeakyClip", {"": q.LeakyClip()}),
        _curve("ScaledSign", {"": q.ScaledSign()}, kernel=True),
        _curve("MagnitudeAwareSign", {"": q.MagnitudeAwareSign()}, kernel=True),
        _curve("LibraPB, half-way", {"": q.LibraPB(k=1.0, t=1.0)}, kernel=True),
        _curve("McDonnellSign", {"": q.McDonnellSign()}, kernel=True),
        _curve("RPReLU, shifts 0.5 and -0.5", {"": with_weights(q.RPReLU(), 0.5, 0.25, -0.5)}),
        _curve("FPReLU, slopes 1.2 and 0.25", {"": with_weights(q.FPReLU(), 1.2, 0.25)}),
        _curve("ShiftedReLU", {"": q.ShiftedReLU()}),
    ]


def _curve(title: str, layers: dict[str, Any], kernel: bool = False) -> Curve:
    import numpy as np
    import tensorflow as tf

    # A filter of 3x3 weights for 4 channels, whose mean is not 0.
    x = np.sort(np.random.default_rng(0).normal(0.3, 0.8, 36)) if kernel else np.linspace(-2, 2, 81)
    inputs = tf.constant(x[:, None], tf.float32)
    slopes: dict[str, Values] = {}
    for label, layer in layers.items():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            y = layer(inputs)
        if kernel:  # LibraPB's weights share a mean: the derivative of each by itself is on the diagonal
            slope = np.diag(tape.jacobian(y, inputs, experimental_use_pfor=False)[:, 0, :, 0])
        else:
            slope = tape.gradient(y, inputs)[:, 0]
        slopes[label] = _rounded(slope)
    return Curve(title, kernel, _rounded(x), _rounded(y[:, 0]), slopes)


def _rounded(values: Any) -> Values:
    return [round(float(value), 4) for value in values]


def draw(path: Path, curves: list[Curve]) -> None:
    """Write the picture."""
    with drawing(path, (10, 7), "Quantizers and non-linearities", curves) as figure:
        panels = figure.subplots(3, 4).ravel()
        for panel, curve in zip(panels, curves, strict=False):
            panel.set_title(curve.title, loc="left")
            panel.axhline(0, color="0.8", lw=0.8)
            panel.axvline(0, color="0.8", lw=0.8)
            for number, (label, slope) in enumerate(curve.slopes.items()):
                line = "x" if curve.kernel else ("--", "-.", ":")[number]
                panel.plot(curve.x, slope, line, color="C1", ms=3, label=f"gradient, of EDE {label}")
            panel.plot(curve.x, curve.y, "." if curve.kernel else "-", color="C0", ms=4, label="value")
            panel.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.4))
        panels[-1].axis("off")
        panels[-1].legend(*panels[1].get_legend_handles_labels(), loc="center left")
        panels[0].set_ylabel("quantizers of activations")
        panels[4].set_ylabel("quantizers of kernels, one filter")
        panels[8].set_ylabel("non-linearities")
