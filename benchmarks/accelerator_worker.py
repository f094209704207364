"""A process that runs one cell of `accelerator.py`: ``accelerator_worker.py CASE PRECISION WAY STEPS``.

It builds, compiles and warms up, and says so in a line of JSON. To each line of its input it answers with another, the
seconds of a step in a window of steps. An error is a line of JSON too, and the last one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
WARM_UP, LEAST_SECONDS = 5, 0.3
Window = Callable[[], float]
"""Runs some steps to their end, and returns the seconds of one."""


def jax_window(name: str, case: dict[str, Any], precision: str, steps: int) -> tuple[Window, dict[str, Any]]:
    """Return a window of the lowered step, run as a training by JAX runs it."""
    import jax
    from runner import Program, Runner, batch_seeds

    program = Program.load(HERE / f"{name}-{precision}")
    runner = Runner(program, 1)
    steps = steps or case["steps"]
    draw = np.random.default_rng(1)
    batch = case["batch"]
    images = draw.integers(0, 256, (max(case["pool"], batch), *case["shape"]), np.uint8)
    parts = runner.hold([images, draw.integers(0, case["classes"], len(images))])
    order = draw.integers(0, len(images), (steps, batch)).astype(np.int32)
    rates = np.full(steps, 1e-3, np.float32)
    losses: list[float] = []
    state = runner.put(load_state(HERE / f"{name}-{precision}.npz", len(program.state)))

    def window() -> float:
        nonlocal state
        began = time.perf_counter()
        state, results = runner.epoch(state, runner.chunks(parts, order), batch_seeds(1, 0, steps), rates)
        jax.block_until_ready(state)
        losses.append(results["loss"])
        return (time.perf_counter() - began) / steps

    window()
    about = {"device": runner.devices[0].device_kind, "version": f"jax {jax.__version__}"}
    return window, about | remark(losses)


def load_state(path: Path, count: int) -> list[np.ndarray]:
    """Return a step's variables, the large ones drawn."""
    draw = np.random.default_rng(2)
    values = []
    with np.load(path, allow_pickle=False) as file:
        for number in range(count):
            if f"{number}/value" in file.files:
                values.append(file[f"{number}/value"])
            else:
                *shape, deviation = file[f"{number}/drawn"]
                drawn = draw.standard_normal([int(length) for length in shape], np.float32)
                values.append(drawn * np.float32(deviation))
    return values


def torch_window(
    name: str, case: dict[str, Any], precision: str, steps: int, compiled: bool
) -> tuple[Window, dict[str, Any]]:
    """Return a window of plain PyTorch."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")  # TF32, as XLA has it
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    batch, (height, width, channels) = case["batch"], case["shape"]
    network = torch_module(name, channels, height, width, case["classes"]).to(device)
    kind, settings = case["optimizer"]
    optimizer = getattr(torch.optim, kind)(network.parameters(), **settings, **({"fused": True} if cuda else {}))
    pool = 4
    images = torch.randn(pool, batch, channels, height, width, device=device)
    labels = torch.randint(case["classes"], (pool, batch), device=device)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            logits = network(x)
        return torch.nn.functional.cross_entropy(logits.float(), y)

    forward = torch.compile(loss_of, mode="reduce-overhead") if compiled else loss_of
    done, losses = 0, []

    def step() -> torch.Tensor:
        nonlocal done
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images[done % pool], labels[done % pool])
        loss.backward()
        optimizer.step()
        done += 1
        return loss.detach()

    def run(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            loss = step()
        losses.append(loss.item())  # waits for everything
        return (time.perf_counter() - began) / count

    run(steps or WARM_UP)  # compiles, and records CUDA graphs
    each = run(steps or WARM_UP)
    count = steps or max(10, round(LEAST_SECONDS / each))
    about = {"device": torch.cuda.get_device_name() if cuda else "cpu", "version": f"torch {torch.__version__}"}
    about |= remark(losses)
    if compiled and cuda and (skipped := skipped_graphs()):
        about["remark"] = f"{skipped} parts of it without CUDA graphs"
    if cuda:
        torch.cuda.empty_cache()
    return lambda: run(count), about


def torch_module(name: str, channels: int, height: int, width: int, classes: int) -> Any:
    """Return a network of `torch_networks` as a module, whose tensors PyTorch knows to stay where they are."""
    import torch
    from torch_networks import NETWORKS

    state: dict[str, torch.Tensor] = {}
    NETWORKS[name](state, torch.randn(2, channels, height, width), True, classes=classes)  # draws the state

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = {key: key.replace(".", "__") for key in state}
            for key, place in self.places.items():
                value = state[key].detach()
                if state[key].requires_grad:
                    self.register_parameter(place, torch.nn.Parameter(value))
                else:
                    self.register_buffer(place, value)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tensors = {key: getattr(self, place) for key, place in self.places.items()}
            return NETWORKS[name](tensors, x, True, classes=classes)

    return Network()


def skipped_graphs() -> int:
    """Return how many parts of the compiled step run without CUDA graphs, as far as PyTorch counts them."""
    try:
        from torch._dynamo.utils import counters

        return int(counters["inductor"]["cudagraph_skips"])
    except (ImportError, KeyError):
        return 0


def remark(losses: list[float]) -> dict[str, str]:
    """Return what is to be said of a training whose loss is no number: it is as fast, but trains nothing."""
    return {} if np.isfinite(losses).all() else {"remark": f"the loss is {losses[-1]}"}


def main() -> None:
    """Build the cell, and run a window for each line."""
    began = time.monotonic()
    name, precision, way, steps = sys.argv[1:]
    try:
        case = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))[name]
        if way == "jax":
            window, about = jax_window(name, case, precision, int(steps))
        else:
            window, about = torch_window(name, case, precision, int(steps), way == "compiled")
        print(json.dumps({**about, "ready": round(time.monotonic() - began, 1)}), flush=True)
        for _ in sys.stdin:
            print(json.dumps({"seconds": window()}), flush=True)
    except Exception as error:  # whatever a library or a device comes up with: the other cells go on
        said = str(error).strip().splitlines() or [""]
        print(json.dumps({"error": f"{type(error).__name__}: {said[0][:300]}"}), flush=True)


if __name__ == "__main__":
    main()
