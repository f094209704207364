"""Hostile packed files: each is refused in one line that names it, and leaves model, file and memory alone."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import sys
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save

from onebit import zoo
from onebit.quantizers import KernelQuantizer
from onebit.zoo.checkpoints.packed_file import PackedFile


@pytest.fixture(scope="module")
def zoo_model():
    return zoo.WideResNet(depth=8, width=1)


@pytest.fixture(scope="module")
def valid(zoo_model, tmp_path_factory):
    """The content of a sound file of `zoo_model`."""
    return zoo.save_packed(zoo_model, tmp_path_factory.mktemp("valid") / "model.onebit").read_bytes()


@pytest.fixture
def write(tmp_path):
    """Write a file; afterwards check that it is what it was, and that reading it took little memory."""
    written = {}

    def write(content):
        path = tmp_path / "hostile.onebit"
        path.write_bytes(content)
        written[path] = content
        return path

    before = peak_memory(reset=True)
    yield write
    for path, content in written.items():
        assert path.read_bytes() == content
    assert peak_memory() - before < 200e6


RESETTABLE = os.access("/proc/self/clear_refs", os.W_OK)  # only on Linux


def peak_memory(reset: bool = False) -> float:
    """Return the most bytes that this process has held, since the last reset where there are such, or ever."""
    if not RESETTABLE:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not RESETTABLE, reason="needs Linux")
def test_peak_memory_is_seen():
    """Whatever larger tests came before in this process."""
    large = np.ones(400_000_000, np.uint8)
    del large
    before = peak_memory(reset=True)
    large = np.ones(300_000_000, np.uint8)
    assert peak_memory() - before > 250e6
    assert large[-1]


def parts(content):
    """Split a file into safetensors' header, ours, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["onebit"]), content[8 + length :]


def join(outer, header, data):
    """Put a file together, with the digest that belongs to it where its header has one."""
    if isinstance(header, dict) and "sha256" in header:
        header["sha256"] = "0" * 64
    if header is not None:
        outer["__metadata__"] = {"onebit": header if isinstance(header, str) else json.dumps(header)}
    text = json.dumps(outer).encode()
    content = struct.pack("<Q", len(text)) + text + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def rewritten(valid, tmp_path, change):
    """Return a sound container whose tensors ``change`` has had its way with."""
    source = tmp_path / "source"
    source.write_bytes(valid)
    tensors = load_file(source)
    change(tensors)
    return join(*parts(save(tensors, parts(valid)[0]["__metadata__"])))


def refused(path, model, names=(), readers=("load_packed", "load_weights")):
    """Assert that each way to read the file raises a `ValueError` of one line, with the file and these names in it."""
    before = model.get_weights()
    calls = {
        "load_packed": lambda: zoo.load_packed(path),
        "function": lambda: zoo.WideResNet(weights=path),
        "load_weights": lambda: zoo.load_weights(model, path),
    }
    for reader in readers:
        with pytest.raises(ValueError) as caught:
            calls[reader]()
        message = str(caught.value)
        assert message.isprintable()
        assert all(name in message for name in (path.name, *names)), message
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def short(value):
    return str(value)[:30]


def test_the_file_is_sound_before_it_is_tampered_with(valid, write, zoo_model):
    path = write(join(*parts(valid)))
    zoo.load_weights(zoo_model, path)
    assert zoo.model_info(zoo.load_packed(path)).arguments == zoo.model_info(zoo_model).arguments


@pytest.mark.parametrize("low", [0x80, 0x50, 0x89, 0x4D])
def test_header_lengths_that_look_like_other_formats(low, valid, write, zoo_model):
    outer, header, data = parts(valid)
    (length,) = struct.unpack("<Q", join(outer, header, data)[:8])
    header["source"] = "x" * ((low - length) % 256)  # in place of null
    content = join(outer, header, data)
    assert content[0] == low
    zoo.load_weights(zoo_model, write(content))


def test_files_of_the_first_format_are_read(valid, write, zoo_model):
    """They have no digest."""
    outer, header, data = parts(valid)
    del header["sha256"]
    zoo.load_weights(zoo_model, write(join(outer, header | {"format": 1}, data)))


# --- The container ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"hello, world",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
        b"MATLAB 5.0 MAT-file" + b"\0" * 200,
        b"\x80\x02}q\0.",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{" + b" " * 1000,
        struct.pack("<Q", 100_000) + b"{" * 100_000,
        struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995,
    ],
    ids=range(12),
)
def test_other_content(content, write, zoo_model):
    refused(write(content), zoo_model)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.99])
def test_truncated_and_continued(share, valid, write, zoo_model):
    refused(write(valid[: int(share * len(valid))]), zoo_model)
    refused(write(valid + b"\0" * (1 + int(1000 * share))), zoo_model)


@pytest.mark.parametrize("length", [0, 7, 10**6, 10**12, 2**63])
def test_header_length_lies(length, valid, write, zoo_model):
    refused(write(struct.pack("<Q", length) + valid[8:]), zoo_model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("data_offsets", each) for each in ([0, 0], [8, 0], [10**12, 2 * 10**12], ["0", "16"], [0.5, 1.5], None)],
        *[("shape", each) for each in ([10**9], [10**6, 10**6], [2**62, 4], [-1], [1.5], ["3"], None)],
        *[("dtype", each) for each in ("F99", "F64", "BF16", 7)],
    ],
)
def test_tensors_described_wrongly(field, value, valid, write, zoo_model):
    outer, header, data = parts(valid)
    outer["stem_conv/kernel"][field] = value
    refused(write(join(outer, header, data)), zoo_model)


def test_one_flipped_bit(valid, zoo_model, tmp_path):
    """Wherever it is: a few hundred places of the header and of the tensors."""
    path = tmp_path / "hostile.onebit"
    (length,) = struct.unpack("<Q", valid[:8])
    rng = np.random.default_rng(0)
    places = {*range(8), *rng.integers(8, 8 + length, 300), *rng.integers(8 + length, len(valid), 100), len(valid) - 1}
    before = zoo_model.get_weights()
    for place in sorted(places):
        content = bytearray(valid)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with pytest.raises(ValueError):
            zoo.load_weights(zoo_model, path)
    for old, new in zip(before, zoo_model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (PackedFile, zoo.load_packed, lambda path: zoo.WideResNet(weights=path)):
        for name, error in (("pipe", (OSError, ValueError)), ("absent", FileNotFoundError)):
            with pytest.raises(error, match=name):
                read(tmp_path / name)
        with pytest.raises((ValueError, IsADirectoryError)):
            read(tmp_path)


# --- Our header -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["", "not JSON", "{", "[" * 100_000, "[]", "3", "null", '"format"', "{}", '{"format": ' + "9" * 5000 + "}"],
    ids=range(10),
)
def test_no_header(header, valid, write, zoo_model):
    outer, _, data = parts(valid)
    refused(write(join(outer, header, data)), zoo_model)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"onebit": 1}, {"onebit": {}}, []])
def test_no_metadata(metadata, valid, write, zoo_model):
    outer, _, data = parts(valid)
    outer["__metadata__"] = metadata
    refused(write(join(outer, None, data)), zoo_model)


@pytest.mark.parametrize("digest", [None, "", "1" * 64, 5, ["a"]])
def test_no_digest(digest, valid, write, zoo_model):
    outer, header, data = parts(valid)
    refused(write(join(outer, json.dumps(header | {"sha256": digest}), data)), zoo_model, ["sha256"])


def test_a_key_twice(valid, write, zoo_model):
    outer, header, data = parts(valid)
    refused(write(join(outer, json.dumps(header)[:-1] + ', "kernels": {}}', data)), zoo_model, ["'kernels'"])
    content = join(outer, header, data)
    (length,) = struct.unpack("<Q", content[:8])
    start = content[8 : 8 + length].replace(b'"__metadata__"', b'"stem_conv/kernel": {}, "__metadata__"', 1)
    refused(write(struct.pack("<Q", len(start)) + start + content[8 + length :]), zoo_model, ["'stem_conv/kernel'"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("format", each) for each in (0, 3, -1, 1.0, True, "1", None, [1])],
        *[("function", each) for each in (3, ["WideResNet"], "Wide\x1b[31m\nResNet")],
        *[("arguments", each) for each in ([], "depth=20", {"a\x1b[31m\nb": 1})],
        *[("kernels", each) for each in ([], None, 5, {"a\x1b\nb": {}}, {"a/b": {"shape": [8], "filter_axes": [0]}})],
        *[("source", each) for each in (5, {})],
        *[("metrics", each) for each in ([], "96.25")],
        *[("class_names", each) for each in ("ab", [1, 2], [["a"]], {"a": 1}, ["a"] * 11, 5, ["a\x1b\nb"] * 10)],
        *[("preprocessing", each) for each in ("inception", "ima\x07ge\nnet", 5, {"mean": [0]})],
    ],
    ids=short,
)
def test_header_fields_that_lie(field, value, valid, write, zoo_model):
    outer, header, data = parts(valid)
    refused(write(join(outer, header | {field: value}, data)), zoo_model)


@pytest.mark.parametrize("field", ["format", "sha256", "function", "arguments", "kernels"])
def test_header_fields_missing(field, valid, write, zoo_model):
    outer, header, data = parts(valid)
    del header[field]
    refused(write(join(outer, header, data)), zoo_model)


@pytest.mark.parametrize("function", ["WideResnet", "os.system", "__class__", "", "Paper", "WideResNetImageNet"])
def test_another_function(function, valid, write, zoo_model):
    outer, header, data = parts(valid)
    path = write(join(outer, header | {"function": function}, data))
    refused(path, zoo_model, [function], ["function"])
    with pytest.raises(ValueError):
        zoo.load_packed(path)


LIES = {
    "width": [100_000, 10**400, float("nan"), None, [1]],
    "depth": [6 * 10**6 + 2, 6 * 10**400 + 2, "8", {}, None],
    "activation": [[], "softmax"],
    "padding": [{}],
    "quantized": [0],
    "learned_norm": ["yes"],
    "temperature": ["hot"],
    "num_classes": [10**9, 0, -1, True, None, "10"],
    "input_shape": [[32, 32], [32, 32, 10**9], [10**400, 32, 3], [0, 0, 3], [[], [], []], "abc", {"a": 1}],
    "include_top": ["yes", None, 1],
    "pooling": [3, "avg", "sum"],
    "classifier_activation": ["no such thing", {"class_name": "Lambda"}, ["softmax"], 5, "LeakyReLU", "deserialize"],
    "evil": [1],
    "weights": ["other.onebit"],
    "input_tensor": [5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, all_ in LIES.items() for value in all_], ids=short)
def test_arguments_that_lie(name, value, valid, write, zoo_model):
    """Where the file decides what is built."""
    outer, header, data = parts(valid)
    header["arguments"][name] = value
    refused(write(join(outer, header, data)), zoo_model, readers=["function", "load_packed"])


def test_hidden_growth_behind_a_new_top(valid, write, zoo_model):
    """That the caller asks for another head does not open the limit for the body."""
    outer, header, data = parts(valid)
    header["arguments"]["width"] = 100_000
    path = write(join(outer, header, data))
    with pytest.raises(ValueError):
        zoo.WideResNet(weights=path, num_classes=7)


@pytest.mark.parametrize(
    "described",
    [
        *[5, None, {}],
        *[{"shape": shape, "filter_axes": [0]} for shape in ([3, 3, 16, 3], [432], [432, 1, 1, 1], [1, 27, 16])],
        *[{"shape": shape, "filter_axes": [0, 1, 2]} for shape in (None, [3, 3, 3, 17], [10**6] * 3, [3, -3, -3, 16])],
        *[{"shape": shape, "filter_axes": [0]} for shape in ([3, 3, 3.0, 16], "333F", {"3": 3}, [0, 3, 3, 16])],
        *[{"shape": [3, 3, 3, 16], "filter_axes": axes} for axes in (None, [0, 1, 4], [0, 0], [-1], [True], "012", 1)],
    ],
)
def test_kernels_that_lie(described, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["kernels"]["stem_conv/kernel"] = described
    refused(write(join(outer, header, data)), zoo_model, ["stem_conv/kernel"])


def test_bits_that_are_not_described(valid, write, zoo_model):
    outer, header, data = parts(valid)
    del header["kernels"]["stem_conv/kernel"]
    refused(write(join(outer, header, data)), zoo_model)


def test_a_gigabyte_claimed_by_a_kilobyte(write, zoo_model):
    header = {"format": 2, "sha256": "", "function": "WideResNet", "arguments": {"width": 10_000}}
    header["kernels"] = {"stem_conv/kernel": {"shape": [3, 3, 3, 160_000], "filter_axes": [0, 1, 2]}}
    for tensors in ({}, {"stem_conv/kernel": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}):
        refused(write(join(dict(tensors), header, b"")), zoo_model, ["stem_conv/kernel"])
    header["kernels"] = {}
    refused(write(join({}, header, b"")), zoo_model, readers=["function", "load_packed"])


# --- Tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, None) for name in ("input_bn/gamma", "stem_conv/kernel")],
        *[("stem_conv/kernel:scale", np.ones(n, kind)) for n, kind in ((3, np.float32), (16, np.int32))],
        *[(name, np.ones(3)) for name in ("a/b", "input_bn/gamma:scale", "a\x1b[31m\nb")],
        *[("input_bn/gamma", np.ones(shape, np.float32)) for shape in ((4,), ())],
        *[("input_bn/gamma", np.ones(3, kind)) for kind in (np.uint8, np.int64, bool)],
    ],
    ids=short,
)
def test_tensors_that_do_not_fit(name, value, valid, write, zoo_model, tmp_path):
    def change(tensors):
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value

    content = rewritten(valid, tmp_path, change)
    named = [name.removesuffix(":scale")] if name.isprintable() else []
    refused(write(content), zoo_model, named, ["load_weights", "load_packed"])


def test_sixteen_bits_that_numpy_does_not_know(valid, write, zoo_model, tmp_path):
    """Half the precision is no lie, but NumPy has no bfloat16."""
    content = rewritten(valid, tmp_path, lambda t: t.update({"input_bn/gamma": np.ones(3, np.float16)}))
    zoo.load_weights(zoo_model, write(content))
    outer, header, data = parts(content)
    outer["input_bn/gamma"]["dtype"] = "BF16"
    refused(write(join(outer, header, data)), zoo_model, ["input_bn/gamma"])


class Ends(KernelQuantizer):
    """Each filter's smallest and largest weight: a scale and an offset."""

    def call(self, inputs):
        axes = self.filter_axes(inputs.shape)
        low, high = (f(inputs, axes, keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
        return tf.where(inputs >= (low + high) / 2, high, low)


def one_layer(quantizer):
    conv = lq.layers.QuantConv2D(3, 2, kernel_quantizer=quantizer, name="conv")
    return tf.keras.Sequential([tf.keras.layers.Input((4, 4, 5)), conv])


@pytest.mark.parametrize(
    ("quantizer", "bad"),
    [
        *[("scaled_sign", bad) for bad in (np.nan, np.inf, -np.inf, -1.0, 3e38, 1e-45)],
        *[("libra_pb", bad) for bad in (0.3, 0.0, -0.0, 1e-30, 3e38, 4.0)],
        *[("mcdonnell_sign", bad) for bad in (0.0, 0.5, 1e-3)],
        ("ste_sign", 2.0),
    ],
)
def test_scales_that_the_quantizer_cannot_produce(quantizer, bad, write, tmp_path):
    model = one_layer(quantizer)
    content = zoo.save_packed(model, tmp_path / "source.onebit").read_bytes()

    def change(tensors):
        tensors.setdefault("conv/kernel:scale", np.ones(3, np.float32))[1] = bad

    refused(write(rewritten(content, tmp_path, change)), model, ["conv/kernel"], ["load_weights"])


def test_two_values_for_each_filter(write, tmp_path):
    """Which a quantizer with an offset has; half of a pair is damage."""
    model, loaded = one_layer(Ends()), one_layer(Ends())
    path = zoo.save_packed(model, tmp_path / "source.onebit")
    zoo.load_weights(loaded, path)
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert set(load_file(path)) == {"conv/kernel", "conv/kernel:low", "conv/kernel:high", "conv/bias"}
    for change in (
        lambda t: t.pop("conv/kernel:low"),
        lambda t: t.update({"conv/kernel:scale": np.ones(3, np.float32)}),
        lambda t: t.update({"conv/kernel:low": np.zeros(3, np.float64)}),
        lambda t: t.update({"conv/kernel:low": np.full(3, 2, np.float32)}),
        lambda t: t.update({"conv/kernel:high": np.full(3, np.nan, np.float32)}),
    ):
        content = rewritten(path.read_bytes(), tmp_path, change)
        refused(write(content), model, ["conv/kernel"], ["load_weights"])
