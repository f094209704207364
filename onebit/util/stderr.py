"""What C++ code writes to the terminal."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator

_ALONE = threading.RLock()


@contextlib.contextmanager
def captured_stderr(*, shown_on_error: bool = False) -> Iterator[Callable[[], str]]:
    """Keep what is written to the process' standard error in this block; yields a function that returns it.

    Unlike ``contextlib.redirect_stderr`` it reaches C++ code, and all threads. With ``shown_on_error`` it is written
    after all where the block fails. Threads wait for each other: the process has one standard error.
    """
    with _ALONE, tempfile.TemporaryFile() as file:
        original = os.dup(2)
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
