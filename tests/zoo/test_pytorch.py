"""Official PyTorch checkpoints: converted strictly, to the official computation."""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import re

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.util.download import sha256_of
from onebit.zoo.checkpoints import weights
from onebit.zoo.checkpoints.variables import named_variables

torch = pytest.importorskip("torch", reason="PyTorch checkpoints need the extra 'convert'")
pytestmark = pytest.mark.slow


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


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {"state_dict": prefixed("module.", state), "best_prec1": torch.tensor(86.0)},
    "torchvision": lambda state: {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
    },
    "tutorial": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"momentum": torch.zeros(3)}},
    "net": lambda state: {"net": state, "acc": 90.0},
    "another name": lambda state: {"student": state, "lr": 0.1},
    "nested": lambda state: {"checkpoint": {"model": state}},
    "compiled": lambda state: prefixed("module._orig_mod.", state),
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2"},
    "averaged": lambda state: {"n_averaged": torch.tensor(7), **prefixed("module.", state)},
    "with its average": lambda state: {
        "state_dict_ema": {name: value + 1 for name, value in state.items()},
        "state_dict": state,
    },
    "beside a teacher": lambda state: {"teacher": {"conv.weight": torch.zeros(3)}, "student": state},
    "half": lambda state: {name: v.half() if v.is_floating_point() else v for name, v in state.items()},
    "parameters": lambda state: {
        name: torch.nn.Parameter(v) if v.is_floating_point() else v for name, v in state.items()
    },
}


@pytest.fixture
def state(checkpoint):
    """The state dict alone, of values that 16 bits can hold."""
    state = torch.load(checkpoint("irnet_resnet20_1w1a"), weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return {name: v.half().float() if v.is_floating_point() else v for name, v in state.items()}


@pytest.mark.parametrize("wrapped", [*WRAPPED, "old format", "safetensors"])
def test_a_state_dict_is_found_in_what_people_save(wrapped, state, tmp_path):
    path = tmp_path / "saved"
    if wrapped == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path, metadata={"format": "pt"})
    elif wrapped == "old format":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(WRAPPED[wrapped](state), path)
    variables = named_variables(zoo.IRNetResNet20(weights=path))
    for name, place in zoo.IRNetResNet20.state_dicts[0].tensors().items():
        expected = place.to_keras(state[name].numpy(), variables[place.variable].shape)
        np.testing.assert_array_equal(variables[place.variable], expected)


def test_which_of_two_networks_is_read_is_said_or_asked(state, tmp_path, caplog):
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "both.pth")
    zoo.IRNetResNet20(weights=tmp_path / "both.pth")
    assert "'state_dict' is read, not 'state_dict_ema'" in caplog.text
    torch.save({"first": state, "second": state}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="'first', 'second'"):
        zoo.IRNetResNet20(weights=tmp_path / "two.pth")
    torch.save({**state, **prefixed("module.", state)}, tmp_path / "twice.pth")
    with pytest.raises(ValueError, match="twice"):
        zoo.IRNetResNet20(weights=tmp_path / "twice.pth")


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (np.float64(86.5), "numpy.core.multiarray.scalar"),
        (torch.nn.Linear(3, 3), "torch.nn.modules.linear.Linear"),
    ],
)
def test_what_is_refused_is_named_with_a_safe_remedy(beside, name, state, tmp_path):
    torch.save({"state_dict": state, "beside": beside}, tmp_path / "saved.pth")
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        zoo.IRNetResNet20(weights=tmp_path / "saved.pth")
    assert "torch.save(model.state_dict(), path)" in str(error.value) and "weights_only" not in str(error.value)


def test_a_program_is_not_a_state_dict(tmp_path):
    torch.jit.script(torch.nn.Linear(3, 3)).save(tmp_path / "program.pt")
    with pytest.raises(ValueError, match="TorchScript") as error:
        zoo.IRNetResNet20(weights=tmp_path / "program.pt")
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("form", ["checkpoint", "saved_model"])
def test_files_of_tensorflow_are_named(form, tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
    path = tmp_path / "weights"
    if form == "checkpoint":
        model.save_weights(path, save_format="tf")
    else:
        tf.saved_model.save(model, str(path))
    for given in (path, str(path)):
        with pytest.raises(ValueError, match=r"weights\.h5"):
            zoo.IRNetResNet20(weights=given)


@pytest.mark.parametrize(
    ("name", "untold"),
    [("irnet_resnet20", ["activation_bits=1", "structure='bireal'"]), ("reactnet20", ["step=2"])],
)
def test_what_a_file_cannot_tell_is_said(name, untold, tmp_path, caplog, monkeypatch, shallow):
    """Two networks of the papers have state dicts of the same names and shapes."""
    model = zoo.load(name)
    path = official_file(model, zoo.entry(name).build.state_dicts[0], tmp_path / "official.pth")
    zoo.entry(name).build(weights=path)
    zoo.load_weights(model, path)
    assert all(caplog.text.count(each) == 2 for each in untold)
    caplog.clear()
    # Where the file is known, so is its network.
    other = {"irnet_resnet20": "irnet_resnet20_1w32a", "reactnet20": "reactnet20_step1"}[name]
    row = dataclasses.replace(zoo.list_weights()[0], model=other, sha256=sha256_of(path), size=None)
    monkeypatch.setattr(weights, "registered_weights", lambda: [row])
    loaded = zoo.entry(name).build(weights=path)
    assert zoo.model_info(loaded).arguments.items() >= zoo.entry(other).arguments.items() and not caplog.text
    with pytest.raises(ValueError, match="does not suit the weights"):
        zoo.load(name, weights=path)


def official_file(model, layout, path):
    """Write a state dict of zeros of the names and shapes of an architecture's official code."""
    variables = named_variables(model)
    state = {}
    for name, place in layout.tensors().items():
        *inside, channels = variables[place.variable].shape
        state[name] = torch.zeros((channels, *inside[::-1]) if len(inside) < 2 else (channels, inside[2], *inside[:2]))
    torch.save(state, path)
    return path


class TestStrictness:
    """Whatever does not fit is named, and the model is left as it was."""

    def load(self, state, tmp_path):
        path = tmp_path / "changed.pth"
        torch.save(state, path)
        return zoo.IRNetResNet20(weights=path)

    def test_missing_tensors_are_named(self, state, tmp_path):
        del state["layer2.0.conv1.weight"]
        with pytest.raises(ValueError, match=r"missing: layer2\.0\.conv1\.weight"):
            self.load(state, tmp_path)

    def test_unexpected_tensors_are_named(self, state, tmp_path):
        state["layer4.weight"] = torch.zeros(3)
        with pytest.raises(ValueError, match=r"unexpected: layer4\.weight"):
            self.load(state, tmp_path)

    def test_misshaped_tensors_are_named(self, state, tmp_path):
        state["conv1.weight"] = torch.zeros(16, 3, 5, 5)
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
    with pytest.raises(ValueError, match=r"evil\.pth\.tar holds other things than tensors") as error:
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
    state = content["state_dict"]
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


def test_a_body_alone_takes_a_new_classifier(state, tmp_path, caplog):
    torch.save({name: v for name, v in state.items() if not name.startswith(("linear", "bn2"))}, tmp_path / "body.pth")
    with pytest.raises(ValueError, match="num_classes"):
        zoo.IRNetResNet20(weights=tmp_path / "body.pth")
    assert zoo.IRNetResNet20(weights=tmp_path / "body.pth", num_classes=3).output_shape == (None, 3)
    assert "starts anew" in caplog.text
