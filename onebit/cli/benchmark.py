"""``onebit benchmark``: how fast networks are on this machine, in each engine or as exported files."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..util.formatting import format_bytes
from .arguments import ModelName, json_option
from .choices import ENGINES
from .loading import import_tensorflow
from .output import console, print_json, progress, table

if TYPE_CHECKING:
    from ..zoo.export.benchmark import Timing
    from ..zoo.export.predictor import Engine

_CAVEAT = (
    "The Larq Compute Engine's fast kernels are for 64-bit Arm: on this {machine} machine its files run on portable "
    "ones, and their times say nothing about a phone or board."
)


_ENDINGS = (".xml", ".onnx", ".tflite")


class _Target(ModelName):
    """A registered model, or a file of ``onebit export``, which need not be there yet."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if _is_file(value) else super().convert(value, param, ctx)


def _is_file(target: str) -> bool:
    path = Path(target)
    return target.lower().endswith(_ENDINGS) or (path.exists() and not path.is_dir())


@click.command("benchmark", short_help="Speed of networks in each engine, and of exported files.")
@click.argument("targets", nargs=-1, required=True, metavar="MODEL|FILE...", type=_Target())
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(ENGINES[1:]),
    help="Measure a MODEL in this one; again for more. Default: OpenVINO, ONNX Runtime, the Larq Compute Engine and "
    "Keras, as far as they are installed.",
)
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), default=(1,), show_default=True, help="Images a call."
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Timed runs at the most; two seconds of each engine.",
)
@json_option
def command(
    targets: tuple[str, ...], engines: tuple[Engine, ...], batches: tuple[int, ...], runs: int, as_json: bool
) -> None:
    """Measure registered MODELs, with random weights, in several engines, or exported FILEs in theirs.

    A MODEL's engines are measured each in turn, so that what disturbs one disturbs all, and beside it the same network
    with real convolutions; in one thread and in all. FILEs are measured for one image in one thread.
    """
    import_tensorflow()
    from ..util.machine import processor

    files = [Path(target) for target in targets if _is_file(target)]
    results = {name: _model(name, engines, batches, runs) for name in targets if not _is_file(name)}
    rows = [{"file": str(path), **_file(path, runs)} for path in files]
    caveat = _CAVEAT.format(machine=platform.machine())
    if as_json:
        models = {
            name: {"timings": [_figures(timing) for timing in timings], "failed": failed}
            for name, (timings, failed) in results.items()
        }
        print_json({"processor": processor(), "note": caveat, "models": models, "files": rows})
        return
    out = console()
    for name, (timings, failed) in results.items():
        _print_model(name, timings, failed)
    if rows:
        numbers = ("size", "binary operations", "median", "fastest")
        result = table("file", *numbers, numbers=numbers, title="one image, one thread")
        for row in rows:
            times = (f"{1000 * row[key]:.2f} ms" for key in ("median_seconds", "fastest_seconds"))
            binary = "-" if row["binary_operations"] is None else str(row["binary_operations"])
            result.add_row(row["file"], format_bytes(row["bytes"]), binary, *times)
        out.print(result)
    out.print(f"Processor: {processor()}. {caveat}", markup=False)


def _model(
    name: str, engines: tuple[Engine, ...], batches: tuple[int, ...], runs: int
) -> tuple[list[Timing], dict[str, str]]:
    from .. import zoo
    from ..zoo.export.benchmark import TURNS, compare_engines

    network = zoo.load(name)
    with progress(name, TURNS * len(batches)) as advance:
        return compare_engines(network, engines=engines or None, batches=batches, runs=runs, progress=advance)


def _figures(timing: Timing) -> dict[str, Any]:
    fastest, most = timing.spread
    figures = dataclasses.asdict(timing)
    del figures["seconds"]
    times = {"median_seconds": timing.median, "fastest_seconds": fastest, "nine_of_ten_seconds": most}
    return {**figures, "runs": len(timing.seconds), **times, "images_per_second": timing.throughput}


def _print_model(name: str, timings: list[Timing], failed: dict[str, str]) -> None:
    numbers = ("images", "median", "fastest", "90 %", "images/s")
    result = table("network", "engine", "threads", *numbers, numbers=numbers, title=name)
    for timing in sorted(timings, key=lambda each: (each.batch, each.threads is None, each.median)):
        fastest, most = (f"{1000 * seconds:.2f} ms" for seconds in timing.spread)
        network = timing.network if timing.precision == "float32" else f"{timing.network}, {timing.precision}"
        result.add_row(
            network,
            timing.engine,
            "all" if timing.threads is None else str(timing.threads),
            str(timing.batch),
            f"{1000 * timing.median:.2f} ms",
            fastest,
            most,
            f"{timing.throughput:,.0f}",
        )
    console().print(result)
    for engine, reason in failed.items():
        console().print(f"Not in {engine}: {reason}", markup=False)


def _file(path: Path, runs: int) -> dict[str, Any]:
    import statistics

    from .. import zoo
    from ..zoo.export.tflite_file import BINARY_CONVOLUTION

    ending = path.suffix.lower()
    with progress(str(path), runs) as advance:
        seconds = zoo.latency(path, runs=runs, progress=advance)
    size = path.stat().st_size + (path.with_suffix(".bin").stat().st_size if ending == ".xml" else 0)
    is_tflite = ending not in (".xml", ".onnx")
    binary = zoo.read_tflite(path).operations[BINARY_CONVOLUTION] if is_tflite else None
    return {
        "bytes": size,
        "binary_operations": binary,
        "median_seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
    }
