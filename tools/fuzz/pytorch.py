"""State dicts of PyTorch, in its own files and in safetensors."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .mutations import EVIL, changed, zipped
from .readers import official


def save_pytorch(path: Path, old: bool = False) -> None:
    """Write an official checkpoint of random weights."""
    import torch

    torch.manual_seed(0)
    torch.save({"state_dict": official_state()}, path, _use_new_zipfile_serialization=not old)


def official_state() -> dict[str, Any]:
    """Return a state dict that fits `official`."""
    import torch

    from onebit.zoo.checkpoints.variables import named_variables
    from onebit.zoo.registry import entry

    variables, state = named_variables(official()), {}
    for name, place in entry("irnet_resnet20").build.state_dicts[0].tensors().items():
        shape = tuple(variables[place.variable].shape)
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), tuple(range(len(shape))))
        state[name] = torch.rand([shape[axis] for axis in order])
    return state


def save_safetensors(path: Path) -> None:
    """Write the same as safetensors."""
    from safetensors.torch import save_file

    save_file(official_state(), path)


def safetensors_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield files whose headers lie."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    yield struct.pack("<Q", 2**40) + data[8:]
    yield struct.pack("<Q", 2**25) + b"{" + b" " * 2**25 + data[8 + length :]
    while True:
        text = json.dumps(changed(header, rng)).encode()
        yield struct.pack("<Q", len(text)) + text + data[8 + length :]


def pytorch_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield archives with other numbers in their pickles, members that unfold to a gigabyte, and odd tensors."""
    import torch

    def saved(content: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    version = next((name for name in members if name.endswith("version")), pickled)
    state = torch.load(io.BytesIO(data), weights_only=True)["state_dict"]
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    yield zipped({**members, version: b"3\n" + bytes(2**28)})
    for odd in (
        torch.tensor(1.0),
        torch.zeros(1).expand(10**9),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
    ):
        yield saved({**state, first: odd})
    yield saved({**state, EVIL: torch.zeros(2)})
    yield saved({name: torch.zeros(1, dtype=torch.bfloat16).expand(10**7) for name in state})
    while True:
        content = bytearray(members[pickled])
        for _ in range(rng.choice([1, 1, 2])):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 255, rng.randrange(256)])
        yield zipped({**members, pickled: bytes(content)}, zipfile.ZIP_STORED)
