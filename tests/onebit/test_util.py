"""What every part of the package uses: text for a reader, files from outside and to outside, downloads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import platform
import resource
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebit.util import download
from onebit.util.files import check_source, check_target, reading, replacing
from onebit.util.formatting import did_you_mean, format_bytes, format_count, natural_key, printable

# --- Text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "count", "size"),
    [
        (0, "0", "0 B"),
        (999.6, "1 k", "1 kB"),
        (39_160, "39.2 k", "39.2 kB"),
        (36_479_194, "36.5 M", "36.5 MB"),
        (5e12, "5e+03 G", "5e+03 GB"),
    ],
)
def test_numbers(value: float, count: str, size: str):
    assert (format_count(value), format_bytes(value)) == (count, size)


def test_names():
    assert sorted(["net_20_10", "net_20_2", "net_4"], key=natural_key) == ["net_4", "net_20_2", "net_20_10"]
    assert "'irnet'" in did_you_mean("irnett", ["irnet", "zoo"]) and "'zoo'" in did_you_mean("q", ["irnet", "zoo"])


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "two\nlines", "\u202eback", "\udcff", "A" * 10**6])
def test_what_is_shown_is_one_safe_line(text: str):
    shown = printable(f"begin {text} end")
    assert shown.isprintable() and len(shown) < 1100 and shown.startswith("begin") and shown.endswith("end")
    with pytest.raises(ValueError, match=r"a\.onebit") as raised, reading("a.onebit"):
        raise KeyError(text)
    assert str(raised.value).isprintable()
    with pytest.raises(FileNotFoundError), reading("a.onebit"):
        raise FileNotFoundError("a.onebit")


# --- Files ------------------------------------------------------------------------------------------------------------


def test_only_files_are_read_and_written(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for check in (check_source, check_target):
        for path in (tmp_path / "fifo", tmp_path / "link", Path("/dev/zero"), tmp_path):
            with pytest.raises(OSError, match=path.name):
                check(path)
    for path in ("nothing", "a\0b"):
        with pytest.raises((FileNotFoundError, ValueError)):
            check_source(tmp_path / path)
    (tmp_path / "large").write_bytes(bytes(100))
    assert check_source(tmp_path / "large", 100).name == "large"
    with pytest.raises(ValueError, match="100"):
        check_source(tmp_path / "large", 99)


def test_a_read_only_file_stays_and_the_longest_name_is_no_problem(tmp_path: Path):
    path = tmp_path / ("n" * 255)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    path.chmod(0o444)
    with pytest.raises(PermissionError), replacing(path) as temporary:
        temporary.write_text("newer")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


# --- Downloads --------------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 2000
fetch = functools.partial(download.fetch, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONEBIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[str]:
    """A server that misbehaves as the path says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            length = b"" if self.path == "/endless" else b"Content-Length: %d\r\n" % len(CONTENT)
            if self.path == "/length":
                length = b"Content-Length: abc\r\n"
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + CONTENT[:200_000])
                time.sleep(30 if self.path == "/slow" else 0)
                for place in range(200_000 if self.path == "/drip" else 0):
                    self.wfile.write(CONTENT[200_000 + place : 200_001 + place])
                    time.sleep(0.05)
                self.wfile.write(CONTENT[200_000:] * (1 if self.path != "/endless" else 100))

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def test_no_more_is_fetched_than_the_file_has(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    largest = []
    verify = download.verify
    monkeypatch.setattr(download, "verify", lambda *a, **k: largest.append(1) or verify(*a, **k))
    with pytest.raises(ValueError, match="endless"):
        fetch(f"{server}/endless", "net.bin")
    assert not list(cache.iterdir()) and not largest, "it stops before the end"


def test_a_wrong_length_is_the_server_s(server: str, cache: Path):
    with contextlib.suppress(ConnectionError):
        assert fetch(f"{server}/length", "net.bin").read_bytes() == CONTENT
    assert {path.name for path in cache.iterdir()} <= {"net.bin"}


def test_a_server_that_drips_is_left(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """No byte of it is late."""
    monkeypatch.setattr(download, "_PATIENCE", 0.3)
    with pytest.raises(ConnectionError, match=r"sent .* bytes"):
        fetch(f"{server}/drip", "net.bin")
    assert not list(cache.iterdir())


def test_what_a_killed_download_left_is_removed_by_the_next(server: str, cache: Path):
    code = f"""
from onebit.util.download import fetch
fetch({server + "/slow"!r}, "net.bin", {"0" * 64!r}, {len(CONTENT)})
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        while not (cache.exists() and any(path.stat().st_size for path in cache.iterdir())):
            time.sleep(0.02)
            assert process.poll() is None
        assert all(path.name.startswith(".") for path in cache.iterdir()), "a part is hidden"
        with pytest.raises(ValueError, match="SHA-256"):
            download.fetch(f"{server}/fast", "net.bin", "0" * 64, len(CONTENT))
        assert list(cache.iterdir()), "nobody takes it from the process that fetches it"
        process.kill()
    umask = os.umask(0)
    os.umask(umask)
    path = fetch(f"{server}/fast", "net.bin")
    assert list(cache.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_full_disk_is_said(server: str, cache: Path):
    """Stood for by a limit on the size of files."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[0][1]))
    try:
        with pytest.raises(OSError, match=r"net\.bin.*ONEBIT_CACHE_DIR") as raised:
            fetch(f"{server}/fast", "net.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old[0])
        signal.signal(signal.SIGXFSZ, old[1])
    assert not isinstance(raised.value, ConnectionError) and not list(cache.iterdir())


# --- The process ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_importing_changes_nothing_but_the_choice_of_keras():
    code = """
import logging, os
before = dict(os.environ)
import onebit
assert {n for n in os.environ if os.environ[n] != before.get(n)} <= {"TF_USE_LEGACY_KERAS"}
from onebit import zoo, quantizers, recipes
assert not [n for n, log in logging.Logger.manager.loggerDict.items() if getattr(log, "disabled", False)]
from onebit.util.malloc import keep_freed_memory
print(keep_freed_memory())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_ENABLE")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
