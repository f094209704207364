"""Runs a lowered training step by JAX, whole epochs at a time. Needs nothing but jax and NumPy.

A `Program` is a function as StableHLO whose first inputs are a batch and whose others are the state: every variable
that the step reads or changes. On accelerators many steps are one ``lax.scan``; on CPUs they are called one by one,
because XLA's CPU backend runs convolutions inside a loop ten times slower.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import jax
except ImportError as error:
    raise ImportError("The backend 'jax' needs JAX: pip install jax") from error

jax.config.update("jax_enable_x64", True)  # TensorFlow's labels, counters and float64 networks
import jax.export  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

MOST_STEPS = 200
"""Steps in one call on an accelerator: seconds of work for small networks, so that progress shows."""

CALL_BYTES = 2**28
"""Streamed images that go to the devices at once take no more than this."""


Kind = tuple[tuple[int, ...], str]
"""Shape and dtype of an array."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered function.

    Attributes:
        module: StableHLO as a portable artifact, whose function is ``main``.
        takes, gives: Shape and dtype of its inputs and outputs.
        inputs: How many of its inputs are a batch's; the others are the state, in the order of ``state``.
        state: A name for each variable.
        changes: For each output of a new value, its number among the outputs and that of its variable.
        results: The names of the first outputs, scalars.
    """

    module: bytes
    takes: tuple[Kind, ...]
    gives: tuple[Kind, ...]
    inputs: int
    state: tuple[str, ...]
    changes: tuple[tuple[int, int], ...]
    results: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write it as ``path`` with the endings ``.mlir`` and ``.json``."""
        path.with_suffix(".mlir").write_bytes(self.module)
        described = {k: v for k, v in dataclasses.asdict(self).items() if k != "module"}
        path.with_suffix(".json").write_text(json.dumps(described), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read what `save` wrote."""
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        takes, gives = (
            tuple((tuple(shape), str(dtype)) for shape, dtype in fields[which]) for which in ("takes", "gives")
        )
        return cls(
            path.with_suffix(".mlir").read_bytes(),
            takes,
            gives,
            fields["inputs"],
            tuple(fields["state"]),
            tuple((output, variable) for output, variable in fields["changes"]),
            tuple(fields["results"]),
        )

    def function(self) -> Callable[..., tuple[list[Any], dict[str, Any]]]:
        """Return ``function(state, *batch)``, which returns the new state and the results; it can be traced.

        Raises:
            ValueError: This version of JAX cannot read the module.
        """
        takes, gives = ([jax.ShapeDtypeStruct(s, jnp.dtype(d)) for s, d in kinds] for kinds in (self.takes, self.gives))

        def same_signature(*inputs: Any) -> list[Any]:
            return [jnp.zeros(kind.shape, kind.dtype) for kind in gives]

        try:
            # Whatever this version of JAX keeps of a function is that of one with the same inputs and outputs. What
            # ``jax.export.serialize`` writes is read for some months only, and with flatbuffers.
            like = jax.export.export(
                jax.jit(same_signature, keep_unused=True),
                disabled_checks=[jax.export.DisabledSafetyCheck.platform()],  # nothing in it is for one alone
            )(*takes)
            exported = dataclasses.replace(like, mlir_module_serialized=self.module)
            exported.mlir_module()
        except Exception as error:  # JAX raises whatever a newer or damaged module leads it to
            raise ValueError(f"jax {jax.__version__} cannot read the lowered step: {error}") from error

        def call(state: Sequence[Any], *batch: Any) -> tuple[list[Any], dict[str, Any]]:
            outputs = exported.call(*batch, *state)
            new = list(state)
            for output, variable in self.changes:
                new[variable] = outputs[output]
            return new, dict(zip(self.results, outputs, strict=False))

        return call


def jit(function: Callable[..., Any], **arguments: Any) -> Any:
    """Return ``jax.jit`` of a function, compiled without what XLA is known to compile wrongly."""
    return jax.jit(function, compiler_options=_compiler_options(jax.default_backend()), **arguments)


@functools.cache
def _compiler_options(platform: str) -> dict[str, str]:
    if platform != "cpu":
        return {}
    # YNNPACK's fusions. In bfloat16, that of jax 0.11.2 which begins a stage of a ResNet (convolution, ReLU,
    # convolution, the shortcut's pooling of one pixel, ReLU) reads memory that nothing has written: NaN, or just wrong.
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:  # an XLA that has neither the option nor these fusions
        return {}
    return options


class Runner:
    """Steps on the devices of this process, or of all processes of a ``jax.distributed`` cluster.

    Args:
        step: The training step; its batch is (images, labels, perhaps weights, seed (2,), learning rate).
        devices: How many devices share each batch; ``None`` is all.

    Raises:
        ValueError: There are fewer devices.
    """

    def __init__(self, step: Program, devices: int | None = None) -> None:
        available = jax.devices()
        if devices is not None and not 1 <= devices <= len(available):
            raise ValueError(f"devices must be from 1 to {len(available)}, those that JAX has here, not {devices}.")
        self.step = step
        self.devices = available[:devices]
        mesh = Mesh(np.array(self.devices), ("batch",))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._sharded = NamedSharding(mesh, PartitionSpec(None, "batch"))
        self._loops = self.devices[0].platform == "cpu"
        self._run = jit(self._steps(step.function()), donate_argnums=0)

    def _steps(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def steps(state: list[Any], batches: tuple[Any, ...]) -> tuple[list[Any], Any]:
            if len(batches[0]) == 1:
                return function(state, *(part[0] for part in batches))

            def one(state: list[Any], batch: tuple[Any, ...]) -> tuple[list[Any], Any]:
                return function(state, *batch)

            state, results = jax.lax.scan(one, state, batches)
            return state, jax.tree.map(lambda values: values[-1], results)

        return steps

    def put(self, state: Sequence[np.ndarray]) -> list[Any]:
        """Return the state on the devices."""
        return [self._global(value, self._replicated) for value in state]

    def get(self, state: Sequence[Any]) -> list[np.ndarray]:
        """Return the state on the host."""
        return [np.asarray(value) for value in jax.device_get(list(state))]

    def chunk(self, steps: int) -> int:
        """Return how many steps are one call: 1 on CPUs, else the largest small divisor of an epoch's."""
        if self._loops:
            return 1
        divisors = (n for n in range(min(steps, MOST_STEPS), 0, -1) if steps % n == 0)
        return max(next(divisors), min(steps, MOST_STEPS // 2))

    def epoch(
        self,
        state: list[Any],
        batches: Iterable[tuple[Any, ...]],
        seeds: np.ndarray,
        rates: np.ndarray,
        progress: Callable[[int, Mapping[str, Any]], None] | None = None,
    ) -> tuple[list[Any], dict[str, float]]:
        """Run an epoch.

        Args:
            state: Of `put`; it is used up.
            batches: Some batches at a time, see `chunks`: images (n, batch, h, w, c), labels (n, batch) and, if the
                step takes them, weights (n, batch).
            seeds, rates: Of each step, (steps, 2) and (steps,).
            progress: Gets the number of steps that were begun, and their last results, still on the device.

        Returns:
            The new state, and the results of the last step.

        Raises:
            MemoryError: The devices' memory does not suffice.
        """
        done, results = 0, {}
        try:
            for parts in batches:
                now = slice(done, done + len(parts[0]))
                shared = [self._global(part, self._sharded) for part in parts]
                same = [self._global(each[now], self._replicated) for each in (seeds, rates)]
                state, results = self._run(state, (*shared, *same))
                done = now.stop
                if progress:
                    progress(done, results)
            return state, {name: float(value) for name, value in results.items()}
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(f"The device's memory does not hold a step: {str(error).splitlines()[0]}") from error
            raise

    def chunks(self, parts: Sequence[Any], order: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """Yield an epoch's batches, as many at a time as are one call.

        Args:
            parts: All images (n, h, w, c), labels (n,) and perhaps weights (n,): NumPy arrays (memory-mapped ones, too)
                or what `hold` returned.
            order: (steps, batch), the images' numbers.
        """
        length = self.chunk(len(order))
        for start in range(0, len(order), length):
            chosen = order[start : start + length]
            yield tuple(part[chosen] for part in parts)

    def streamed(self, steps: int, batch_bytes: int) -> int:
        """Return how many of an epoch's batches, which come from the host, are one call."""
        return min(self.chunk(steps), max(1, CALL_BYTES // batch_bytes))

    def hold(self, parts: Sequence[np.ndarray]) -> list[Any]:
        """Return arrays on the devices if they fit into half of their free memory, else as they are."""
        if self._loops or jax.process_count() > 1:
            return list(parts)
        stats = self.devices[0].memory_stats() or {}
        free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
        if sum(part.nbytes for part in parts) > free // 2:
            return list(parts)
        return self.put(parts)

    def _global(self, value: Any, sharding: NamedSharding) -> Any:
        """Return an array over all processes' devices, of which each process has the whole value."""
        if isinstance(value, jax.Array) and value.sharding == sharding:
            return value
        if jax.process_count() == 1:
            return jax.device_put(value, sharding)
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def gather(batches: Iterable[tuple[np.ndarray, ...]], length: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield batches that come one by one, ``length`` at a time, see `Runner.chunks`."""
    gathered: list[tuple[np.ndarray, ...]] = []
    for batch in batches:
        gathered.append(batch)
        if len(gathered) == length:
            yield tuple(map(np.stack, zip(*gathered, strict=True)))
            gathered = []
    for batch in gathered:  # one by one: calls of another length would be compiled anew
        yield tuple(part[None] for part in batch)


def describe(devices: int | None = None) -> str:
    """Return what so many devices are, all by default, for people."""
    found = jax.devices()[:devices]
    return f"{len(found)} x {found[0].device_kind}, jax {jax.__version__}"


def evaluate(
    function: Callable[..., Any], state: Sequence[Any], batches: Iterable[tuple[np.ndarray, np.ndarray]], batch: int
) -> dict[str, float]:
    """Return the mean results of an evaluation step over images.

    Args:
        function: An evaluation `Program.function` through `jit`; its batch is (images, labels, weights), its results
            are sums.
        state: The network's.
        batches: Images and labels; those of fewer than ``batch`` images are filled up with some that do not count.
        batch: How many images the step takes.
    """
    totals: dict[str, float] = {}
    count = 0
    for images, labels in batches:
        chosen = np.minimum(np.arange(batch), len(images) - 1)
        counts = (np.arange(batch) < len(images)).astype(np.float32)
        _, sums = function(list(state), images[chosen], labels[chosen], counts)
        count += len(images)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return {name: value / count for name, value in totals.items()}


def batch_seeds(seed: int, epoch: int, steps: int) -> np.ndarray:
    """Return the seeds by which an epoch's batches are augmented, (steps, 2), as `batches` has them."""
    numbers = epoch * steps + np.arange(steps)
    return np.stack([np.full(steps, seed), -1 - numbers], axis=1).astype(np.int64)


def slices(images: np.ndarray, labels: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels in batches; the last one may be smaller."""
    for start in range(0, len(images), batch):
        yield np.asarray(images[start : start + batch]), labels[start : start + batch]
