"""Models on the Hugging Face Hub: its own client, with a server of its protocol on the loopback."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.util.hub import download
from onebit.zoo import registry
from onebit.zoo.checkpoints import weights
from tests.hub_server import TOKEN, Hub
from tests.onebit.commands import run, run_json

client = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install '.[hub]'")
constants = pytest.importorskip("huggingface_hub.constants")

NAME = "tiny"
REPO = "ann/net"
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with nothing on it, whose client is logged in, and has an empty cache."""
    server = Hub()
    settings = {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub_cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "stored_tokens"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    """A small network of the zoo that is not registered."""
    return small()


@pytest.fixture(scope="module")
def packed(model: tf.keras.Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its packed file."""
    return zoo.save_packed(model, tmp_path_factory.mktemp("packed") / "small.onebit").read_bytes()


@pytest.fixture
def row(packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.Weights:
    """A small network that is registered with weights, which have a paper and a licence of their own."""
    (tmp_path / "tiny.onebit").write_bytes(packed)
    (tmp_path / "tiny.md").write_text("# Attribution\n\nPermission is granted.\n")
    paper = zoo.entry("wide_resnet_20_1").paper
    entry = zoo.Entry(NAME, zoo.WideResNet, dataclasses.replace(paper, top1={NAME: 88.1}), {"depth": 8, "width": 1})
    row = dataclasses.replace(
        zoo.get_weights("wide_resnet_20_1", "cifar10"),
        model=NAME,
        file="tiny.onebit",
        size=len(packed),
        sha256=hashlib.sha256(packed).hexdigest(),
        published={"top1": 88.2, "where": "its page"},
        licence="MIT",
        source="a stranger",
        recipe=None,
    )
    monkeypatch.setitem(registry._ENTRIES, NAME, entry)
    monkeypatch.setattr(registry, "registered_weights", lambda: (row,))
    monkeypatch.setattr(weights, "DATA", tmp_path)
    return row


def small() -> tf.keras.Model:
    return zoo.WideResNet(depth=8, width=1)


def assert_same(one: tf.keras.Model, other: tf.keras.Model) -> None:
    np.testing.assert_array_equal(one(IMAGES, training=False), other(IMAGES, training=False))


def test_registered_weights_go_there_and_back(hub: Hub, row: zoo.Weights):
    model = zoo.load(NAME, weights="cifar10")
    url = zoo.push_to_hub(model, REPO)
    assert url.startswith(f"{hub.endpoint}/{REPO}/commit/")
    assert hub.files(REPO).keys() == {".gitattributes", "README.md", "model.onebit"}
    assert len(hub.repositories[REPO].commits) == 2, "file and page in one commit"
    again = zoo.load(f"hf://{REPO}")
    assert_same(again, model)
    page = client.ModelCard(hub.files(REPO)["README.md"].decode())
    assert (page.data.license, page.data.library_name) == ("mit", "onebit")
    assert page.data.pipeline_tag == "image-classification" and NAME in page.data.tags
    assert page.data.datasets == ["uoft-cs/cifar10"] and page.data.metrics == ["accuracy"]
    figures = {result.metric_name: result.metric_value for result in page.data.eval_results}
    assert figures["top-1 accuracy"] == pytest.approx(row.metrics["top1"] / 100)
    told = (zoo.entry(NAME).paper.title, f'zoo.load("hf://{REPO}")', "85.13 %", "88.20 %", "88.1 %", "a stranger")
    assert all(words in page.text for words in (*told, "Permission is granted."))
    assert zoo.model_card(again).weights == row, "from there it is the registered network still"


def test_weights_from_there(hub: Hub, model: tf.keras.Model, packed: bytes):
    hub.add(REPO, {"model.onebit": packed})
    other = zoo.WideResNet(weights=f"hf://{REPO}", num_classes=3)
    assert other.output_shape == zoo.load(f"hf://{REPO}", num_classes=3).output_shape == (None, 3)
    other = small()
    zoo.load_weights(other, f"hf://{REPO}")
    assert_same(other, model)
    with pytest.raises(ValueError, match="depth"):
        zoo.load("wide_resnet_20_1", weights=f"hf://{REPO}")


@pytest.mark.slow
def test_revisions(hub: Hub, model: tf.keras.Model):
    tf.keras.utils.set_random_seed(2)
    second = small()
    zoo.push_to_hub(model, REPO, private=True)
    old = hub.repositories[REPO].branches["main"]
    zoo.push_to_hub(second, REPO, revision="v2/b", commit_message="Better")
    assert hub.repositories[REPO].access == "token"
    assert b"@v2%2Fb" in hub.files(REPO, "v2/b")["README.md"]
    assert_same(zoo.load(f"hf://models/{REPO}@v2%2Fb/model.onebit"), second)
    assert zoo.push_to_hub(second, REPO, create_pr=True).endswith("/discussions/1")
    contents = {name: hub.files(REPO, name)["model.onebit"] for name in ("main", "v2/b")}
    assert contents["main"] != contents["v2/b"] == hub.files(REPO, "refs/pr/1")["model.onebit"]
    for address in (f"hf://{REPO}", f"hf://{REPO}@{old}", f"hf://{REPO}@main"):
        assert download(address).read_bytes() == contents["main"]
    hub.add(REPO, {"model.onebit": contents["v2/b"]})
    assert download(f"hf://{REPO}").read_bytes() == contents["v2/b"]
    assert download(f"hf://{REPO}@{old}").read_bytes() == contents["main"]


def test_the_cache_serves_when_the_hub_does_not(hub: Hub, model, packed: bytes, monkeypatch: pytest.MonkeyPatch):
    hub.add(REPO, {"weights/a.onebit": packed})
    path = download(f"hf://{REPO}")
    hub.close()
    assert download(f"hf://{REPO}") == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(zoo.load(f"hf://{REPO}"), model)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        zoo.load("hf://ann/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ConnectionError, match=hub.endpoint):
        zoo.load("hf://ann/other")


@pytest.mark.slow
def test_the_environment_s_settings(hub: Hub, packed: bytes, tmp_path: Path):
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, as its users set them."""
    hub.add(REPO, {"model.onebit": packed}, access="token")
    code = f"from onebit.util.hub import download; print(download('hf://{REPO}'))"
    base = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    base |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    def fetch(**settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], env={**base, **settings}, capture_output=True, text=True)

    assert "HF_TOKEN" in fetch().stderr.splitlines()[-1]
    hub.tokens.clear()
    path = Path(fetch(HF_TOKEN=TOKEN).stdout.strip())
    assert path.is_relative_to(tmp_path / "home" / "hub") and path.read_bytes() == packed and TOKEN in hub.tokens
    hub.close()
    assert Path(fetch(HF_HUB_OFFLINE="1").stdout.strip()) == path


@pytest.mark.parametrize("damage", ["a flipped bit", "a pickle", "half"])
def test_what_is_damaged_or_something_else_is_refused(damage: str, hub: Hub, packed: bytes):
    flipped = packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]
    contents = {"a flipped bit": flipped, "half": packed[:9000], "a pickle": pickle.dumps(_Evil())}
    hub.add(REPO, {"model.onebit": contents[damage]})
    for load in (lambda: zoo.load(f"hf://{REPO}"), lambda: zoo.WideResNet(weights=f"hf://{REPO}")):
        with pytest.raises(ValueError, match=r"model\.onebit"):
            load()


class _Evil:
    def __reduce__(self) -> tuple:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://net", "hf://ann/", "hf:///net", "hf://ann/net@", "hf://datasets/ann/net", "hf://an n/net"],
)
def test_malformed_addresses(address: str, hub: Hub):
    with pytest.raises(ValueError, match="hf://USER/REPO"):
        zoo.load(address)
    assert not hub.tokens, "nothing was asked"


@pytest.mark.parametrize(
    ("address", "error", "named"),
    [
        ("hf://ann/none", FileNotFoundError, "ann/none"),
        ("hf://ann/gated", PermissionError, "ann/gated"),
        ("hf://ann/net@v9", FileNotFoundError, "revision"),
        ("hf://ann/net/c.onebit", FileNotFoundError, r"c\.onebit"),
        ("hf://ann/net/../../../../../../../../../etc/passwd", FileNotFoundError, "passwd"),
        ("hf://ann/net//etc/passwd", FileNotFoundError, "passwd"),
        ("hf://ann/net", ValueError, r"a\.onebit, sub/b\.onebit"),
        ("hf://ann/bare", FileNotFoundError, "packed file"),
    ],
)
def test_what_is_not_there(address: str, error: type[Exception], named: str, hub: Hub, packed: bytes):
    hub.add("ann/net", {"a.onebit": packed, "sub/b.onebit": packed})
    hub.add("ann/bare", {"README.md": b""})
    hub.add("ann/gated", {"model.onebit": packed}, access="gated")
    with pytest.raises(error, match=named):
        zoo.load(address)


def test_a_file_of_several(hub: Hub, packed: bytes):
    hub.add(REPO, {"a.onebit": packed, "model.onebit": b"", "[b].onebit": packed})
    for name in ("a.onebit", "[b].onebit"):
        assert download(f"hf://{REPO}/{name}").read_bytes() == packed
    with pytest.raises(ValueError, match=r"model\.onebit"):
        zoo.load(f"hf://{REPO}")


def test_weights_beside_an_address(hub: Hub):
    with pytest.raises(ValueError, match="weights"):
        zoo.load(f"hf://{REPO}", weights="cifar10")


def test_nothing_is_uploaded_by_halves(hub: Hub, model: tf.keras.Model):
    hub.refused = (f"/api/models/{REPO}/commit",)
    with pytest.raises(PermissionError, match=REPO):
        zoo.push_to_hub(model, REPO)
    assert hub.files(REPO).keys() == {".gitattributes"}


def test_who_may_not_upload(hub: Hub, model: tf.keras.Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "")
    for token in ("hf_wrong", None):
        with pytest.raises((PermissionError, FileNotFoundError), match="HF_TOKEN"):
            zoo.push_to_hub(model, REPO, token=token)
    hub.close()
    with pytest.raises(ConnectionError, match=hub.endpoint):
        zoo.push_to_hub(model, REPO)
    assert not hub.repositories


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"repo_id": "a/b/c"}, "a/b/c"),
        ({"metrics": {"top1": 90.0}}, "dataset"),
        ({"metrics": {"top1": 900.0}, "dataset": "cifar10"}, "900"),
        ({"metrics": {"loss": 1.0}, "dataset": "cifar10"}, "loss"),
    ],
)
def test_bad_arguments(options: dict, named: str, hub: Hub, model: tf.keras.Model):
    with pytest.raises(ValueError, match=named):
        zoo.push_to_hub(model, **{"repo_id": REPO, **options})
    assert not hub.repositories


def _trained(model: tf.keras.Model) -> tf.keras.Model:
    model.get_layer("logits_bn").moving_mean.assign_add([0.5] * 10)
    return model


def _replaced(model: tf.keras.Model) -> tf.keras.Model:
    return zoo.replace_layers(
        model, lambda layer: tf.keras.layers.ReLU(6.0) if isinstance(layer, tf.keras.layers.ReLU) else None
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", [_trained, _replaced])
def test_what_was_changed_does_not_pass_for_the_original(change, hub: Hub, row: zoo.Weights):
    model = change(zoo.load(NAME, weights="cifar10"))
    zoo.push_to_hub(model, REPO, license="apache-2.0", dataset="animals", metrics={"top1": 61.5}, source="our lab")
    text = hub.files(REPO)["README.md"].decode()
    data = client.ModelCard(text).data
    assert not any(figure in text for figure in ("85.13", "88.1", "88.2")) and "61.50 %" in text and "our lab" in text
    assert data.license == "apache-2.0" and data.datasets == ["animals"]
    assert [result.metric_value for result in data.eval_results] == [0.615]
    assert zoo.model_card(model).weights is None
    if change is _trained:
        assert "`cifar10` of `tiny`" in text and "Permission is granted." in text, "what it began with is told"
        assert_same(zoo.load(f"hf://{REPO}"), model)
    else:
        assert zoo.entry(NAME).paper.title not in text
        with pytest.raises(ValueError, match="load_weights"):
            zoo.load(f"hf://{REPO}")
        again = _replaced(zoo.load(NAME))
        zoo.load_weights(again, f"hf://{REPO}")
        assert_same(again, model)


def test_what_was_changed_in_place_is_refused(hub: Hub):
    model = small()
    layer = next(layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D))
    layer.activation = tf.keras.activations.softplus
    with pytest.raises(ValueError, match="replace_layers"):
        zoo.push_to_hub(model, REPO)
    assert not hub.repositories


def test_registered_weights_have_their_own_licence(hub: Hub, row: zoo.Weights):
    with pytest.raises(ValueError, match="license"):
        zoo.push_to_hub(zoo.load(NAME, weights="cifar10"), REPO, license="apache-2.0")
    assert not hub.repositories


def test_names_of_strangers_are_no_markup(model: tf.keras.Model, tmp_path: Path):
    path = tmp_path / "model.onebit"
    zoo.save_packed(model, path, class_names=["<script>", "a|b", "[x](y)", *"3456789"])
    text = zoo.model_card(zoo.load_packed(path))._repr_markdown_()
    assert "<script>" not in text and "a\\|b" in text and "[x](" not in text


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in zoo.list_weights() if row.shipped], ids=lambda row: row.model)
def test_what_ships_is_recognised(row: zoo.Weights):
    page = zoo.model_card(zoo.load(row.model, weights=row.tag))
    assert page.weights == row and f"{row.metrics['top1']:.2f} %" in page.text and row.licence in page.text
    assert row.source == "onebit" or "Permission is hereby granted" in page.text


@pytest.mark.slow
def test_on_the_command_line(hub: Hub, packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.onebit"
    path.write_bytes(packed)
    told = ("--license", "mit", "--dataset", "cifar10", "--top1", 12.5)
    assert run_json("push", path, REPO, "--private", *told)["url"].startswith(hub.endpoint)
    assert hub.repositories[REPO].access == "token"
    assert run_json("info", f"hf://{REPO}")["function"] == "WideResNet"
    tf.io.write_file(str(tmp_path / "image.png"), tf.io.encode_png(IMAGES[0].astype(np.uint8)))
    predict = ("predict", f"hf://{REPO}", tmp_path / "image.png", "--engine", "keras")
    [there], [here] = run_json(*predict), run_json("predict", path, *predict[2:])
    assert there == here
    other = ("predict", "wide_resnet_20_1", *predict[2:], "--weights", f"hf://{REPO}")
    assert "depth" in run(*other, code=1).stderr, "it is another network's"
    assert "ann/none" in run("predict", "hf://ann/none", *predict[2:], code=1).stderr
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (predict, ("push", path, REPO)):
        assert ".[hub]" in run(*arguments, code=1).stderr
