"""The tables of what was measured of speed, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .facts import ROOT
from .tables import markdown


def speeds() -> str:
    """Return the table of measured speeds, and where and how often they were measured."""
    rows = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))
    (machine,), (rounds,) = ({row[name] for row in rows} for name in ("machine", "rounds"))
    table = markdown(
        [
            "network", "task", "precision", "compared with", "images/s:", "compared:", "ratio (lowest to highest):",
            "peak memory:", "compared:",
        ],
        (
            (
                f"`{row['model']}`",
                f"{row['task']}, batch {row['batch']}",
                row["precision"],
                row["against"],
                f"{row['images_per_second']:,.1f}",
                f"{row['against_images_per_second']:,.1f}",
                f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})",
                f"{row['peak_memory'] / 1e9:.2f} GB",
                f"{row['against_peak_memory'] / 1e9:.2f} GB",
            )
            for row in rows
        ),
    )  # fmt: skip
    return f"Measured on {machine}; medians of {rounds} rounds.\n\n{table}"


_ENGINES = {
    "openvino": "OpenVINO",
    "onnx": "ONNX Runtime",
    "lce": "Larq Compute Engine",
    "keras": "Keras function",
    "keras predict": "`model.predict`",
}


def _timings() -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """Return where the engines were measured, and what was measured of each network, in the order of the file."""
    record = json.loads((ROOT / "benchmarks" / "engines.json").read_text(encoding="utf-8"))
    networks: dict[str, list[dict[str, Any]]] = {}
    for row in record["timings"]:
        networks.setdefault(row["model"], []).append(row)
    machine = record["machine"]
    return f"{machine['processor']}, {machine['cores']} cores", networks


def _median(rows: Iterable[Mapping[str, Any]], batch: int = 1, **wanted: Any) -> float | None:
    """Return the median milliseconds of the measurement that is wanted, if it was made."""
    wanted = {"precision": "float32", "batch": batch, **wanted}
    return next((row["median"] for row in rows if wanted.items() <= row.items()), None)


def _pair(rows: Sequence[Mapping[str, Any]]) -> tuple[float | None, ...]:
    """Return the medians of a network in OpenVINO, 1-bit and in full precision, for one image in one thread."""
    return tuple(_median(rows, engine="openvino", threads=1, network=each) for each in ("1-bit", "full precision"))


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def engine_summary() -> str:
    """Return the small table of engines: one image, in one thread, in milliseconds."""
    machine, networks = _timings()
    rows = []
    for name, timings in networks.items():
        binary, real = _pair(timings)
        others = [_median(timings, engine="lce", threads=1)]
        others += [_median(timings, engine=engine, threads=None) for engine in ("keras", "keras predict")]
        if binary and real and others[0]:
            rows.append((f"`{name}`", *map(_milliseconds, (binary, real, *others)), f"{real / binary:.1f}"))
    table = markdown(
        [
            "network", "1-bit, OpenVINO:", "full precision, OpenVINO:", "1-bit, Larq Compute Engine:",
            "1-bit, Keras function:", "`model.predict`:", "full precision / 1-bit:",
        ],
        rows,
    )  # fmt: skip
    return f"Milliseconds for one image, in one thread (Keras: in all), on {machine}:\n\n{table}"


def engines() -> str:
    """Return the large tables of engines: every engine that was measured, and every network in OpenVINO."""
    machine, networks = _timings()
    rows, pairs = [], []
    for name, timings in networks.items():
        for key in dict.fromkeys((row["network"], row["engine"], row["precision"]) for row in timings):
            wanted = dict(zip(("network", "engine", "precision"), key, strict=True))
            precision = "" if key[2] == "float32" else f", {key[2]}"
            times = [_milliseconds(_median(timings, threads=threads, **wanted)) for threads in (1, None)]
            most = (_median(timings, batch, threads=None, **wanted) for batch in (1, 8, 32))
            rates = [median and f"{1000 * batch / median:,.0f}" for batch, median in zip((1, 8, 32), most, strict=True)]
            if any(rates):
                rows.append(
                    (f"`{name}`", f"{key[0]}{precision}", _ENGINES[key[1]], *times, *(each or "" for each in rates))
                )
        binary, real = _pair(timings)
        if binary and real:
            pairs.append((real / binary, f"`{name}`", _milliseconds(binary), _milliseconds(real)))
    large = markdown(
        [
            "network", "precision", "engine", "ms, one thread:", "ms, all threads:", "images/s, batch 1:", "batch 8:",
            "batch 32:",
        ],
        rows,
    )  # fmt: skip
    every = markdown(
        ["network", "1-bit, ms:", "full precision, ms:", "ratio:"],
        ((*cells, f"{ratio:.1f}") for ratio, *cells in sorted(pairs, reverse=True)),
    )
    return (
        f"Measured on {machine}; medians. Images per second are of all threads.\n\n{large}\n"
        f"Every network with 1-bit weights and activations, in OpenVINO, one image, one thread:\n\n{every}"
    )
