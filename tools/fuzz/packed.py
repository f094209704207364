"""Packed files whose headers lie."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .mutations import EVIL, changed
from .readers import network


def save_packed(path: Path) -> None:
    """Write the network's packed file."""
    from onebit import zoo

    zoo.save_packed(network(), path, class_names=list("abcdefghij"))


def parts_of_packed(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Split a packed file into safetensors' header, ours, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["onebit"]), data[8 + length :]


def join_packed(outer: dict[str, Any], header: Any, tensors: bytes) -> bytes:
    """Put a packed file together, with its digest if it has room for one."""
    zeros = "0" * 64
    if isinstance(header, dict) and "sha256" in header:
        header["sha256"] = zeros
    outer = {**outer, "__metadata__": {"onebit": json.dumps(header)}}
    text = json.dumps(outer).encode()
    content = struct.pack("<Q", len(text)) + text + tensors
    return content.replace(zeros.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def packed_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield packed files whose headers lie, with digests that are right."""
    outer, header, tensors = parts_of_packed(data)
    yield join_packed(
        {**outer, EVIL: {"dtype": "F32", "shape": [0], "data_offsets": [len(tensors)] * 2}}, header, tensors
    )
    yield join_packed(outer, {**header, "function": EVIL}, tensors)
    yield join_packed(outer, {**header, "arguments": {**header["arguments"], EVIL: 1}}, tensors)
    yield join_packed(outer, {**header, "class_names": [EVIL] * 10}, tensors)
    yield struct.pack("<Q", 2**40) + data[8:]
    while True:
        if rng.random() < 0.7:
            yield join_packed(outer, changed(header, rng), tensors)
        else:
            new = changed({name: part for name, part in outer.items() if name != "__metadata__"}, rng)
            yield join_packed(new if isinstance(new, dict) else {}, header, tensors)
