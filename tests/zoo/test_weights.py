"""Registered weights are data that holds; a file is fetched once, checked, and there or not there."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import http.server
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from onebit import zoo
from onebit.util import download as cache
from onebit.util.download import fetch
from onebit.zoo.checkpoints.weights import is_tag
from tests.helpers import shared

CONTENT = b"weights " * 1000
SHIPPED = [row for row in zoo.list_weights() if row.source == "onebit"]
UMASK = os.umask(0o022)
os.umask(UMASK)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


# --- The rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=zoo.list_weights(), ids=lambda row: f"{row.model}-{row.tag}")
def row(request):
    return request.param


def test_row(row):
    entry = zoo.entry(row.model)
    assert re.fullmatch(r"[a-z0-9_]+", row.tag)
    if row.page is None:
        assert re.fullmatch(r"[0-9a-f]{64}", row.sha256)
    else:
        assert row.url is None
        assert row.page.startswith("https://")
    assert row.size is None or (type(row.size) is int and row.size > 1000)
    assert re.fullmatch(r"[\w.-]+", row.file)
    assert type(row.num_classes) is int
    assert row.num_classes > 1
    assert row.licence
    assert row.source
    assert row.dataset
    assert row.preprocessing
    assert entry.native_shape[2] == 3
    assert isinstance(row.metrics, dict)
    assert isinstance(row.published, dict)
    if row.metrics:
        assert {"split", "command"} <= row.metrics.keys()
    if row.published:
        assert "where" in row.published
    for figures in (row.metrics, row.published):
        assert all(0 < value <= 100 for name, value in figures.items() if name.startswith("top"))


def test_row_has_a_source_that_cannot_change(row):
    """A commit or release in the URL, or a file of the package."""
    if row.page is not None:
        with pytest.raises(FileNotFoundError, match=r"download it from https://\S+\nand call zoo\.load\("):
            row.path()
    elif row.url is None:
        assert row.path().stat().st_size == row.size
    elif "github.com" in row.url and "/releases/" not in row.url:
        assert re.search(r"/[0-9a-f]{40}/", row.url)


def test_tags_are_unique():
    keys = [(row.model, row.tag) for row in zoo.list_weights()]
    assert len(keys) == len(set(keys))


def test_list_and_get():
    rows = zoo.list_weights("wide_resnet_20_10")
    assert {"cifar10", "cifar10_matlab", "cifar100", "cifar100_matlab"} <= {row.tag for row in rows}
    assert {row.model for row in rows} == {"wide_resnet_20_10"}
    assert zoo.get_weights("wide_resnet_20_10", "cifar100").num_classes == 100
    with pytest.raises(ValueError, match=r"There is no model 'wide_resnet_20_11'\. Did you mean .*'wide_resnet_20_10'"):
        zoo.list_weights("wide_resnet_20_11")
    with pytest.raises(ValueError, match=r"no weights 'cifar1', .* Did you mean .*'cifar10'"):
        zoo.get_weights("wide_resnet_20_10", "cifar1")


def test_weights_that_do_not_exist_say_which_do():
    with pytest.raises(ValueError, match=r"no weights 'cifar10' for WideResNet\(depth=8.*for: .*wide_resnet_20_10"):
        zoo.WideResNet(depth=8, weights="cifar10")
    with pytest.raises(ValueError, match=r"wide_resnet_20_10' has no weights 'imagenet'.*There are: .*'cifar10'"):
        zoo.WideResNet(weights="imagenet")


def test_weights_that_are_no_file_are_called_that(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"pipe.* a pipe"):
        zoo.load("birealnet20", weights=str(tmp_path / "pipe"))
    (tmp_path / "cifar10").mkdir()
    assert is_tag("cifar10") and not is_tag(str(tmp_path / "pipe")) and is_tag(str(tmp_path / "cifar10"))


# --- Fetching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEBIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (address, the folder it serves, the paths asked for)."""
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/interrupted":
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT[:100])
                return
            super().do_GET()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", served, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_once(server, folder):
    address, served, asked = server
    (served / "file").write_bytes(CONTENT)
    for _ in range(2):
        path = fetch(f"{address}/file", "weights.bin", SHA256, len(CONTENT))
        assert path == folder / "weights.bin"
        assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o666 & ~UMASK, "other users of the cache can read it"
    assert asked == ["/file"]
    assert [file.name for file in folder.iterdir()] == ["weights.bin"]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b"", b"<html>sign in</html>"])
def test_wrong_content_is_not_kept(server, folder, content):
    address, served, _ = server
    (served / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"{SHA256}|{len(content)}|{len(CONTENT)}"):
        fetch(f"{address}/file", "weights.bin", SHA256, len(CONTENT))
    assert not list(folder.iterdir())


def test_wrong_size_is_refused(server, folder):
    address, served, _ = server
    (served / "file").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="7 bytes"):
        fetch(f"{address}/file", "weights.bin", SHA256, 7)


@pytest.mark.parametrize("path", ["absent", "interrupted"])
def test_what_cannot_be_fetched_leaves_nothing(server, folder, path):
    with pytest.raises((ConnectionError, ValueError)) as raised:
        fetch(f"{server[0]}/{path}", "weights.bin", SHA256, len(CONTENT))
    assert isinstance(raised.value, ConnectionError) or path == "interrupted"
    assert not folder.exists() or not list(folder.iterdir())


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("ONEBIT_CACHE_DIR", raising=False)
    for given, expected in ((str(tmp_path), tmp_path / "onebit"), ("", Path.home() / ".cache" / "onebit")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert zoo.cache_dir() == expected
    for given, expected in ((str(tmp_path), tmp_path), ("~/models", tmp_path / "models")):
        monkeypatch.setenv("ONEBIT_CACHE_DIR", given)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert zoo.cache_dir() == expected
    monkeypatch.setenv("ONEBIT_CACHE_DIR", "~nosuchuser/cache")
    with pytest.raises(ValueError, match="~nosuchuser/cache, is in nobody's home: set ONEBIT_CACHE_DIR"):
        zoo.cache_dir()


def test_no_network(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        ConnectionError, match=r"could not be fetched .* put the file at .*weights\.bin, or give its path"
    ):
        fetch(f"http://127.0.0.1:{port}/file", "weights.bin", SHA256, len(CONTENT))


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_damaged_file_in_the_cache(folder, content):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.bin has .* instead of .*: delete it"):
        fetch("http://127.0.0.1:1/file", "weights.bin", SHA256, len(CONTENT))
    assert (folder / "weights.bin").read_bytes() == content


def test_two_at_once(server, folder):
    """Each writes a file of its own and puts it into place in one step."""
    address, served, _ = server
    (served / "file").write_bytes(CONTENT)
    barrier = threading.Barrier(4)

    def one(_):
        barrier.wait()
        return fetch(f"{address}/file", "weights.bin", SHA256, len(CONTENT)).read_bytes()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [CONTENT] * 4
    assert [file.name for file in folder.iterdir()] == ["weights.bin"]


@pytest.fixture
def no_network(monkeypatch):
    def connect(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)


def test_the_one_call_offline(folder, no_network):
    folder.mkdir()
    row = zoo.get_weights("wide_resnet_20_10", "cifar10")
    (folder / row.file).symlink_to(shared("official_weights", "mcdonnell", row.file))
    model = zoo.WideResNet(depth=20, width=10, weights="cifar10")
    assert model.output_shape == (None, 10)
    with pytest.raises(ValueError, match="padding='symmetric' of WideResNet does not suit the weights"):
        zoo.load("wide_resnet_20_10", weights="cifar10", padding="symmetric")


@pytest.mark.slow
@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: row.model)
def test_what_ships_works_offline(row, folder, no_network):
    """In one call, with nothing in the cache; on 1,000 of the test images about as accurate as on all."""
    model, sample = zoo.load(row.model, weights=row.tag), zoo.sample_images()
    images = zoo.get_preprocessing(row.preprocessing)(sample.images)
    figures = zoo.evaluate(model, [(images, sample.labels)])
    assert abs(figures.top1 - row.metrics["top1"]) < 4
    assert row.size < zoo.recorded_counts()[row.model].memory + 50_000


@pytest.mark.parametrize("tag", ["cifar10", "cifar10_matlab", "cifar100", "cifar100_matlab"])
def test_rows_describe_the_authors_files(tag):
    row = zoo.get_weights("wide_resnet_20_10", tag)
    path = shared("official_weights", "mcdonnell", row.file)
    cache.verify(path, row.sha256, row.size, remedy="")


def test_folder_of_a_tags_name_does_not_hide_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(ValueError, match="no weights 'cifar10' for WideResNet"):
        zoo.WideResNet(depth=8, weights="cifar10")
