"""How fast a network is in each engine on this machine: each in turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from ...util.arguments import check_choice
from ...util.graph import Graph, full_precision
from . import onnx, openvino
from .convert import convert_graph
from .lowering import lower
from .predictor import Engine, Run, one_by_one, start
from .runners import ONNXRunner, OpenVINORunner

Network = Literal["1-bit", "full precision"]
TURNS = 5
"""How often each engine has its turn."""


@dataclass(frozen=True)
class Timing:
    """How long an engine took.

    Attributes:
        network: ``"1-bit"``, the model; or ``"full precision"``, the same with real convolutions.
        engine: See `Engine`; ``"keras predict"`` is ``model.predict``.
        precision: What real numbers are computed in.
        threads: How many; ``None`` for all that the engine takes.
        batch: Images in one call.
        seconds: Of each call.
    """

    network: Network
    engine: str
    precision: str
    threads: int | None
    batch: int
    seconds: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest call, and what nine of ten took at most."""
        return min(self.seconds), float(np.quantile(self.seconds, 0.9))

    @property
    def throughput(self) -> float:
        """Images in a second."""
        return self.batch / self.median


def compare_engines(
    model: tf.keras.Model,
    *,
    engines: Sequence[Engine] | None = None,
    threads: Iterable[int | None] = (1, None),
    batches: Iterable[int] = (1,),
    runs: int = 500,
    seconds: float = 2.0,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Timing], dict[str, str]]:
    """Measure a model in several engines, each in turn, and beside it the same network with real convolutions.

    There are `TURNS` turns, each of many calls in a row. The first is not timed: it brings back what the others drove
    from the processor's caches.

    Args:
        model: A model that `export` takes.
        engines: Which; by default all but TensorFlow Lite, which is measured in float32 and int8.
        threads: How many threads to use, ``None`` being all that an engine takes.
        batches: How many images are in a call. TensorFlow Lite and the Larq Compute Engine are measured with one.
        runs: How often each is measured.
        seconds: After how long one of them is not measured any more, however often it was.
        progress: Called with 1 when each engine had its turn: `TURNS` times for each of ``batches``.

    Returns:
        What was measured, and which engines could not be, each with the reason.

    Raises:
        ValueError: The model cannot be exported, or an argument is not as described.
    """
    chosen = list(engines or ("openvino", "onnx", "lce", "keras"))
    for each in chosen:
        check_choice("engines", each, [name for name in get_args(Engine) if name != "auto"])
    graph, batches = lower(model), list(batches)
    started: list[tuple[Timing, Run]] = []
    failed: dict[str, str] = {}
    for count, engine in itertools.product(threads, chosen):
        found, reason = _try(model, graph, engine, count)
        started += found
        failed |= {engine: reason} if reason else {}
    rng, timings = np.random.default_rng(0), []
    for batch in batches:
        images = rng.standard_normal((batch, *graph.input.shape)).astype(graph.dtype)
        entries = [(row, run) for row, run in started if batch == 1 or row.engine not in ("lce", "tflite")]
        timings += _measure(entries, images, runs, seconds, progress)
    return timings, failed


def _try(model: Any, graph: Graph, engine: Engine, threads: int | None) -> tuple[list[tuple[Timing, Run]], str]:
    try:
        return _start(model, graph, engine, threads), ""
    except (ValueError, ModuleNotFoundError) as error:
        return [], str(error)


def _start(model: Any, graph: Graph, engine: Engine, threads: int | None) -> list[tuple[Timing, Run]]:
    def row(network: Network, precision: str = "float32", name: str = engine) -> Timing:
        return Timing(network, name, precision, threads, 0)

    if engine == "keras":
        if threads is not None:
            return []  # TensorFlow has one setting for the process
        predict: Run = functools.partial(model.predict, verbose=0)
        return [(row("1-bit"), start(model, graph, engine, None)[0]), (row("1-bit", name="keras predict"), predict)]
    entries = [(row("1-bit"), start(model, graph, engine, threads)[0])]
    if engine == "tflite":
        content = convert_graph(graph, "int8")
        entries.append((row("1-bit", "int8"), one_by_one(content, threads or 1)))
    if not graph.binary_layers or engine not in ("openvino", "onnx"):
        return entries
    real = full_precision(graph)
    if engine == "onnx":
        content = onnx.emit(real).SerializeToString()
        return [*entries, (row("full precision"), ONNXRunner(content, threads))]
    files = openvino.to_bytes(openvino.emit(real).model, {})
    for precision, name in (("f32", "float32"), ("bf16", "bfloat16")):
        entries.append((row("full precision", name), OpenVINORunner(*files, threads, precision)))
    return entries


def _measure(
    entries: list[tuple[Timing, Run]],
    images: np.ndarray,
    runs: int,
    seconds: float,
    progress: Callable[[int], None] | None,
) -> list[Timing]:
    taken: list[list[float]] = [[] for _ in entries]
    for turn in range(1, TURNS + 1):
        most, until = runs * turn / TURNS, seconds * turn / TURNS
        for (_, run), times in zip(entries, taken, strict=True):
            if sum(times) < until:
                run(images)
            while not times or (len(times) < most and sum(times) < until):
                begin = time.perf_counter()
                run(images)
                times.append(time.perf_counter() - begin)
        if progress:
            progress(1)
    pairs = zip(entries, taken, strict=True)
    return [replace(row, batch=len(images), seconds=tuple(times)) for (row, _), times in pairs]
