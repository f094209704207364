"""What C++ code writes to the terminal, in a process that is ours: the command line's."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

_process = {"is ours": False}


def own_process() -> None:
    """Say that this process runs the command line alone, so that its standard error may be redirected."""
    _process["is ours"] = True


@contextlib.contextmanager
def captured_stderr(*, shown_on_error: bool = False) -> Iterator[Callable[[], str]]:
    """Keep what is written to the process' standard error in this block; yields a function that returns it.

    Unlike ``contextlib.redirect_stderr`` it reaches C++ code, and all threads. So it does nothing in a process that is
    not ours (see `own_process`), whose standard error is its user's. With ``shown_on_error`` what was kept is written
    after all where the block fails.
    """
    if not _process["is ours"] or sys.stderr is None:  # closed by who called us
        yield str
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
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
