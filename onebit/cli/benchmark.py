"""``onebit benchmark``: how long a TensorFlow Lite file takes for one image, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..util.formatting import format_bytes
from .arguments import ModelName, json_option
from .loading import import_tensorflow
from .output import console, print_json, progress, table

if TYPE_CHECKING:
    from ..zoo.export.convert import Precision

_CAVEAT = (
    "One thread of this {machine} machine. The Larq Compute Engine's fast kernels are for 64-bit Arm: elsewhere binary "
    "files run on its portable ones, and their times say nothing about a phone or board."
)


@click.command("benchmark", short_help="Single-thread latency of exported files.")
@click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model",
    type=ModelName(),
    help="Also measure this registered model in float32 and int8 (and binary, without a FILE), with random weights.",
)
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Timed runs, after 5 warm-up runs.")
@json_option
def command(files: tuple[Path, ...], model: str | None, runs: int, as_json: bool) -> None:
    """Measure the latency of TensorFlow Lite FILEs: the time for one image in one thread."""
    if not files and model is None:
        raise click.UsageError("Give a FILE, or a registered model with --model.")
    import_tensorflow()
    from .. import zoo

    contents: dict[str, Path | bytes] = {str(path): path for path in files}
    if model is not None:
        network = zoo.load(model)
        binary = not files and zoo.count(network).binary_macs
        precisions: list[Precision] = ["float32", "int8"]
        if binary:
            precisions.insert(0, "binary")
        contents |= {f"{model}, {each}": zoo.convert_to_tflite(network, each) for each in precisions}
    with progress("measuring", runs * len(contents)) as advance:
        rows = [{"file": name, **_figures(content, runs, advance)} for name, content in contents.items()]
    import platform

    caveat = _CAVEAT.format(machine=platform.machine())
    if as_json:
        print_json({"runs": runs, "threads": 1, "note": caveat, "files": rows})
        return
    numbers = ("size", "binary operations", "median", "fastest")
    result = table("file", *numbers, numbers=numbers)
    for row in rows:
        times = (f"{1000 * row[key]:.2f} ms" for key in ("median_seconds", "fastest_seconds"))
        result.add_row(row["file"], format_bytes(row["bytes"]), str(row["binary_operations"]), *times)
    console().print(result)
    console().print(caveat, markup=False)


def _figures(file: Path | bytes, runs: int, advance: Any) -> dict[str, Any]:
    import statistics

    from .. import zoo
    from ..zoo.export.tflite_file import BINARY_CONVOLUTION

    seconds = zoo.latency(file, runs=runs, progress=advance)
    return {
        "bytes": len(file) if isinstance(file, bytes) else file.stat().st_size,
        "binary_operations": zoo.read_tflite(file).operations[BINARY_CONVOLUTION],
        "median_seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
    }
