"""Records as JSON with one row to a line, so that a change of one shows as one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onebit.util.files import replacing


def write_rows(path: Path, rows: Mapping[str, Any] | Sequence[Any]) -> None:
    """Replace a file by rows, an object of them or an array, in one step."""
    if isinstance(rows, Mapping):
        brackets, lines = "{}", [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    else:
        brackets, lines = "[]", [json.dumps(row) for row in rows]
    text = ",\n".join(f"  {line}" for line in lines)
    with replacing(path) as temporary:
        temporary.write_text(f"{brackets[0]}\n{text}\n{brackets[1]}\n", encoding="utf-8")
