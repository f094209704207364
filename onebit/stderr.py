"""What C++ code writes to the terminal."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured_stderr(*, shown_on_error: bool = False) -> Iterator[Callable[[], str]]:
    """Keep what is written to the process' standard error in this block; yields a function that returns it.

    Unlike ``contextlib.redirect_stderr`` it reaches C++ code, and all threads. With ``shown_on_error`` it is written
    after all where the block fails.
    """
    original = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield text
        except BaseException:
            if shown_on_error:
                os.write(original, text().encode())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
