"""Official PyTorch checkpoints: converted strictly, to the official computation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo

torch = pytest.importorskip("torch", reason="PyTorch checkpoints need the extra 'convert'")


@pytest.fixture
def checkpoint(tmp_path, goldens, reference):
    """Return a function that writes a golden model's official checkpoint, as the papers' training scripts do."""

    def write(golden: str):
        path = tmp_path / f"{golden}.pth.tar"
        reference.save_checkpoint(path, goldens / f"{golden}.json", 1)
        return path

    return write


def test_conversion_to_a_packed_file_keeps_every_prediction(checkpoint, tmp_path):
    source = checkpoint("irnet_resnet20_1w1a")
    packed = zoo.convert(source, "irnet_resnet20", tmp_path / "irnet.packed")
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    official = zoo.IRNetResNet20(weights=source).predict(images, verbose=0)
    np.testing.assert_array_equal(zoo.load_packed(packed).predict(images, verbose=0), official)
    assert packed.stat().st_size < 70_000


def test_a_new_classifier_keeps_the_body(checkpoint, caplog):
    source = checkpoint("irnet_resnet20_1w1a")
    body = zoo.IRNetResNet20(weights=source, include_top=False, pooling="avg")
    five = zoo.IRNetResNet20(weights=source, num_classes=5)
    assert five.output_shape == (None, 5)
    assert "starts anew" in caplog.text
    kernel = "stage2_block1_conv1"
    np.testing.assert_array_equal(body.get_layer(kernel).get_weights()[0], five.get_layer(kernel).get_weights()[0])


class TestStrictness:
    """Whatever does not fit is named, and the model is left as it was."""

    @pytest.fixture
    def state(self, checkpoint):
        return torch.load(checkpoint("irnet_resnet20_1w1a"), weights_only=True)

    def load(self, state, tmp_path):
        path = tmp_path / "changed.pth"
        torch.save(state, path)
        return zoo.IRNetResNet20(weights=path)

    def test_optimizer_state_and_a_missing_prefix_do_not_matter(self, state, tmp_path):
        bare = {name.removeprefix("module."): value for name, value in state["state_dict"].items()}
        full = self.load({**state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, tmp_path)
        images = tf.zeros((1, 32, 32, 3))
        np.testing.assert_array_equal(self.load(bare, tmp_path)(images), full(images))

    def test_missing_tensors_are_named(self, state, tmp_path):
        del state["state_dict"]["module.layer2.0.conv1.weight"]
        with pytest.raises(ValueError, match=r"missing: layer2\.0\.conv1\.weight"):
            self.load(state, tmp_path)

    def test_unexpected_tensors_are_named(self, state, tmp_path):
        state["state_dict"]["module.layer4.weight"] = torch.zeros(3)
        with pytest.raises(ValueError, match=r"unexpected: layer4\.weight"):
            self.load(state, tmp_path)

    def test_misshaped_tensors_are_named(self, state, tmp_path):
        state["state_dict"]["module.conv1.weight"] = torch.zeros(16, 3, 5, 5)
        with pytest.raises(ValueError, match=r"misshaped: conv1\.weight \(16, 3, 5, 5\) for stem_conv/kernel"):
            self.load(state, tmp_path)

    def test_another_network_s_checkpoint_is_refused(self, checkpoint):
        with pytest.raises(ValueError, match="does not fit"):
            zoo.IRNetVGGSmall(weights=checkpoint("irnet_resnet20_1w1a"))

    def test_a_network_without_official_pytorch_code_says_so(self, checkpoint):
        with pytest.raises(ValueError, match="no official PyTorch code"):
            zoo.WideResNet(weights=checkpoint("irnet_resnet20_1w1a"))


class Bomb:
    """An object whose pickle would run a command."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("how", ["zip", "pickle"])
def test_a_malicious_pickle_does_not_run(how, tmp_path):
    path, target = tmp_path / "evil.pth.tar", tmp_path / "ran"
    if how == "zip":
        torch.save({"state_dict": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Bomb(target)}))
    with pytest.raises(
        ValueError, match=r"evil\.pth\.tar holds other things than tensors, which may run code"
    ) as error:
        zoo.IRNetResNet20(weights=path)
    assert not target.exists()
    assert "weights_only" not in str(error.value)  # PyTorch's own text advises to switch it off


def test_an_old_pytorch_is_refused(checkpoint, monkeypatch):
    """Before 2.6 its reader of tensors could be made to run code."""
    path = checkpoint("irnet_resnet20_1w1a")
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1"))
    with pytest.raises(ImportError, match=r"needs PyTorch 2\.10 or newer, and this is 2\.5\.1"):
        zoo.IRNetResNet20(weights=path)


def test_a_truncated_checkpoint_is_an_error(checkpoint, tmp_path):
    whole = checkpoint("irnet_resnet20_1w1a").read_bytes()
    for size in (10, 1000, len(whole) // 2):
        path = tmp_path / "cut.pth"
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            zoo.IRNetResNet20(weights=path)


@pytest.mark.parametrize("claimed", ["linear.weight", "linear.bias"])
def test_a_file_cannot_claim_a_larger_classifier_than_it_holds(claimed, checkpoint):
    path = checkpoint("irnet_resnet20_1w1a")
    content = torch.load(path, weights_only=True)
    state = content.get("state_dict", content)
    name = next(name for name in state if name.endswith(claimed))
    classes = 2_000_000_000
    state[name] = torch.zeros(1).expand((classes, *state[name].shape[1:]))
    torch.save(content, path)
    assert path.stat().st_size < 10**8
    with pytest.raises(ValueError, match=r"claims? more values than the file holds"):
        zoo.IRNetResNet20(weights=path)
    state[name] = torch.zeros((7, *state[name].shape[1:]))
    torch.save(content, path)
    with pytest.raises(ValueError, match="classes, but no kernel for as many"):
        zoo.IRNetResNet20(weights=path)


def test_an_error_without_a_message_is_one(tmp_path):
    """As PyTorch's reader of its old format raises where a file ends too early."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pth").read_bytes()
    for size in (2, 60, 100):
        (tmp_path / "old.pth").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"old\.pth"):
            zoo.IRNetResNet20(weights=tmp_path / "old.pth")
