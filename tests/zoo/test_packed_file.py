"""Hostile packed files: each is refused with a message that names it, and leaves model, file and memory alone."""

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
from safetensors.numpy import load_file, save_file

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


def refused(path, model, message="", readers=("load_packed", "function", "load_weights")):
    """Assert that every way to read the file raises a `ValueError` that names it and matches ``message``."""
    before = model.get_weights()
    calls = {
        "load_packed": lambda: zoo.load_packed(path),
        "function": lambda: zoo.WideResNet(weights=path),
        "load_weights": lambda: zoo.load_weights(model, path),
    }
    for reader in readers:
        with pytest.raises(ValueError, match=rf"(?s)hostile\.onebit.*{message}"):
            calls[reader]()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def str_of(value):
    return str(value)[:30]


def test_the_file_is_sound_before_it_is_tampered_with(valid, write, zoo_model):
    path = write(join(*parts(valid)))
    zoo.load_weights(zoo_model, path)
    assert zoo.model_info(zoo.load_packed(path)) == zoo.model_info(zoo_model)


@pytest.mark.parametrize("low", [0x80, 0x50, 0x89, 0x4D])
def test_header_lengths_that_look_like_other_formats(low, valid, write, zoo_model):
    outer, header, data = parts(valid)
    (length,) = struct.unpack("<Q", join(outer, header, data)[:8])
    header["source"] = "x" * ((low - length) % 256)  # in place of null
    content = join(outer, header, data)
    assert content[0] == low
    zoo.load_weights(zoo_model, write(content))


# --- The container ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
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
    ids=range(13),
)
def test_other_content(content, write, zoo_model):
    refused(write(content), zoo_model)


@pytest.mark.parametrize("where", ["start", "length", "header", "header's end", "first tensor", "middle", "end"])
def test_truncated(where, valid, write, zoo_model):
    (length,) = struct.unpack("<Q", valid[:8])
    ends = {
        "start": 1,
        "length": 8,
        "header": 8 + length // 2,
        "header's end": 8 + length,
        "first tensor": 9 + length,
        "middle": (8 + length + len(valid)) // 2,
        "end": len(valid) - 1,
    }
    refused(write(valid[: ends[where]]), zoo_model)


def test_trailing_bytes(valid, write, zoo_model):
    refused(write(valid + b"\0"), zoo_model)


@pytest.mark.parametrize("lie", [0, 1, -1, 7, 10**6, 10**12, 2**63])
def test_header_length_lies(lie, valid, write, zoo_model):
    (length,) = struct.unpack("<Q", valid[:8])
    refused(write(struct.pack("<Q", length + lie if abs(lie) == 1 else lie) + valid[8:]), zoo_model)


@pytest.mark.parametrize(
    "offsets", [[0, 0], [0, 1], [-8, 0], [8, 0], [10**12, 2 * 10**12], ["0", "16"], [0.5, 1.5], [], None]
)
def test_offsets_lie(offsets, valid, write, zoo_model):
    outer, header, data = parts(valid)
    outer["stem_conv/kernel"]["data_offsets"] = offsets
    refused(write(join(outer, header, data)), zoo_model)


@pytest.mark.parametrize("shape", [[10**9], [10**6, 10**6], [2**62, 4], [-1], [1.5], ["3"], None])
def test_container_shapes_lie(shape, valid, write, zoo_model):
    outer, header, data = parts(valid)
    outer["stem_conv/kernel"]["shape"] = shape
    refused(write(join(outer, header, data)), zoo_model)


@pytest.mark.parametrize("dtype", ["F99", "F64", "BF16", 7])
def test_container_types_lie(dtype, valid, write, zoo_model):
    outer, header, data = parts(valid)
    outer["stem_conv/kernel"]["dtype"] = dtype
    refused(write(join(outer, header, data)), zoo_model)


# --- Our header -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "",
        "not JSON",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[]",
        "3",
        "null",
        '"format"',
        "{}",
        '{"format": ' + "9" * 5000 + "}",
    ],
    ids=range(11),
)
def test_no_header(header, valid, write, zoo_model):
    outer, _, data = parts(valid)
    refused(write(join(outer, header, data)), zoo_model, "no 'onebit' header|format")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"onebit": 1}, {"onebit": {}}, []])
def test_no_metadata(metadata, valid, write, zoo_model):
    outer, _, data = parts(valid)
    outer["__metadata__"] = metadata
    if metadata is None:
        del outer["__metadata__"]
    refused(write(join(outer, None, data)), zoo_model)


@pytest.mark.parametrize("version", [0, 3, -1, 1.0, True, "1", None, [1]])
def test_unknown_version(version, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["format"] = version
    refused(write(join(outer, header, data)), zoo_model, "packed format")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("function", 3),
        ("function", ["WideResNet"]),
        ("arguments", []),
        ("arguments", "depth=20"),
        ("kernels", []),
        ("kernels", None),
        ("kernels", 5),
        ("source", 5),
        ("source", {}),
        ("metrics", []),
        ("metrics", "96.25"),
        ("preprocessing", 5),
        ("preprocessing", "rwa"),
        ("preprocessing", {"mean": [0, 0, 0]}),
    ],
)
def test_header_fields_of_the_wrong_type(field, value, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header[field] = value
    refused(write(join(outer, header, data)), zoo_model, field)


@pytest.mark.parametrize("field", ["format", "function", "arguments", "kernels"])
def test_header_fields_missing(field, valid, write, zoo_model):
    outer, header, data = parts(valid)
    del header[field]
    refused(write(join(outer, header, data)), zoo_model)


@pytest.mark.parametrize("function", ["WideResnet", "os.system", "__class__", "", "Paper"])
def test_unknown_function(function, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["function"] = function
    path = write(join(outer, header, data))
    refused(path, zoo_model, f"{function}.*WideResNet", ["function"])
    with pytest.raises(ValueError, match=f"zoo has no function '{function}'"):
        zoo.load_packed(path)


def test_another_function(valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["function"] = "WideResNetImageNet"
    refused(write(join(outer, header, data)), zoo_model, "", ["function", "load_packed"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("width", 100_000),
        ("width", 10**400),
        ("width", float("nan")),
        ("width", None),
        ("width", [1]),
        ("depth", 6 * 10**6 + 2),
        ("depth", 6 * 10**400 + 2),
        ("depth", "8"),
        ("depth", {}),
        ("depth", None),
        ("activation", []),
        ("activation", "softmax"),
        ("padding", {}),
        ("quantized", 0),
        ("learned_norm", "yes"),
        ("temperature", "hot"),
        ("num_classes", 10**9),
        ("num_classes", 0),
        ("num_classes", -1),
        ("num_classes", True),
        ("num_classes", None),
        ("num_classes", "10"),
        ("input_shape", [32, 32]),
        ("input_shape", [32, 32, 10**9]),
        ("input_shape", [10**400, 32, 3]),
        ("input_shape", [0, 0, 3]),
        ("input_shape", [[], [], []]),
        ("input_shape", "abc"),
        ("input_shape", {"a": 1}),
        ("include_top", "yes"),
        ("include_top", None),
        ("include_top", 1),
        ("pooling", 3),
        ("evil", 1),
        ("weights", "other.onebit"),
        ("input_tensor", 5),
    ],
    ids=str_of,
)
def test_arguments_that_lie(argument, value, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["arguments"][argument] = value
    refused(write(join(outer, header, data)), zoo_model, "", ["function", "load_packed"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("pooling", "avg"),
        ("pooling", "sum"),
        ("classifier_activation", "no such thing"),
        ("classifier_activation", {"class_name": "Lambda", "config": {}}),
        ("classifier_activation", ["softmax"]),
        ("classifier_activation", 5),
    ],
)
def test_options_of_the_top_that_lie(argument, value, valid, write, zoo_model):
    """They matter where the file decides what is built."""
    outer, header, data = parts(valid)
    header["arguments"][argument] = value
    refused(write(join(outer, header, data)), zoo_model, "", ["load_packed", "function"])


@pytest.mark.parametrize("names", ["ab", [1, 2], [["a"]], {"a": 1}, ["a"] * 11, 5])
def test_class_names_that_lie(names, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["class_names"] = names
    refused(write(join(outer, header, data)), zoo_model, "header.*(class_names|names 11 classes)")


def test_hidden_growth_behind_a_new_top(valid, write, zoo_model):
    """That the caller asks for another head does not open the limit for the body."""
    outer, header, data = parts(valid)
    header["arguments"]["width"] = 100_000
    path = write(join(outer, header, data))
    with pytest.raises(ValueError, match="larger than what the file holds"):
        zoo.WideResNet(weights=path, num_classes=7)


@pytest.mark.parametrize(
    "described",
    [
        5,
        None,
        {},
        {"shape": [3, 3, 3, 16]},
        {"shape": [3, 3, 3, 17], "filter_axes": [0, 1, 2]},
        {"shape": [10**6, 10**6, 10**6], "filter_axes": [0, 1]},
        {"shape": [3, -3, -3, 16], "filter_axes": [0, 1, 2]},
        {"shape": [3, 3, 3.0, 16], "filter_axes": [0, 1, 2]},
        {"shape": "333F", "filter_axes": [0, 1, 2]},
        {"shape": {"3": 3}, "filter_axes": [0, 1, 2]},
        {"shape": [3, 3, 3, 16], "filter_axes": [0, 1, 4]},
        {"shape": [3, 3, 3, 16], "filter_axes": [0, 0, 1]},
        {"shape": [3, 3, 3, 16], "filter_axes": [-1]},
        {"shape": [3, 3, 3, 16], "filter_axes": [True, 2]},
        {"shape": [3, 3, 3, 16], "filter_axes": "012"},
        {"shape": [3, 3, 3, 16], "filter_axes": 1},
        {"shape": [0, 3, 3, 16], "filter_axes": [0]},
    ],
)
def test_kernels_that_lie(described, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["kernels"]["stem_conv/kernel"] = described
    refused(write(join(outer, header, data)), zoo_model, "damaged.*stem_conv/kernel")


@pytest.mark.parametrize("shape", [[3, 3, 16, 3], [432], [432, 1, 1, 1], [1, 27, 16], [27, 16, 1, 1]])
def test_kernel_shapes_of_the_right_size(shape, valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["kernels"]["stem_conv/kernel"] = {"shape": shape, "filter_axes": [0]}
    refused(write(join(outer, header, data)), zoo_model, "misshaped: stem_conv/kernel")


def test_kernel_of_no_tensor(valid, write, zoo_model):
    outer, header, data = parts(valid)
    header["kernels"]["nothing/kernel"] = {"shape": [8], "filter_axes": [0]}
    refused(write(join(outer, header, data)), zoo_model, "nothing/kernel")


def test_bits_that_are_not_described(valid, write, zoo_model):
    outer, header, data = parts(valid)
    del header["kernels"]["stem_conv/kernel"]
    path = write(join(outer, header, data))
    refused(path, zoo_model, "misshaped: stem_conv/kernel", ["load_weights"])
    refused(path, zoo_model, "", ["function", "load_packed"])


# --- Tensors ----------------------------------------------------------------------------------------------------------


def rewritten(valid, tmp_path, change):
    """Return a sound container whose tensors ``change`` has had its way with."""
    source = tmp_path / "source"
    source.write_bytes(valid)
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, source, parts(valid)[0]["__metadata__"])
    return join(*parts(source.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("input_bn/gamma"), "missing: input_bn/gamma"),
        (lambda t: t.pop("stem_conv/kernel"), "stem_conv/kernel"),
        (lambda t: t.update({"a/b": np.ones(3)}), "unexpected: a/b"),
        (lambda t: t.update({"stem_conv/kernel:scale": np.ones(3, np.float32)}), "stem_conv/kernel"),
        (lambda t: t.update({"stem_conv/kernel:scale": np.ones(16, np.int32)}), "stem_conv/kernel"),
        (lambda t: t.update({"input_bn/gamma:scale": np.ones(3, np.float32)}), "unexpected: input_bn/gamma:scale"),
        (
            lambda t: t.update({"input_bn/gamma": np.ones(4, np.float32)}),
            r"misshaped: input_bn/gamma \(4,\) for \(3,\)",
        ),
        (lambda t: t.update({"input_bn/gamma": np.array(1, np.float32)}), "misshaped: input_bn/gamma"),
        *[
            (lambda t, d=d: t.update({"input_bn/gamma": np.ones(3, d)}), f"wrong type: input_bn/gamma {np.dtype(d)}")
            for d in (np.uint8, np.int64, bool)
        ],
    ],
)
def test_tensors_that_do_not_fit(change, message, valid, write, zoo_model, tmp_path):
    refused(write(rewritten(valid, tmp_path, change)), zoo_model, message, ["load_weights", "load_packed"])


def test_sixteen_bits_that_numpy_does_not_know(valid, write, zoo_model, tmp_path):
    """Half the precision is no lie, but NumPy has no bfloat16."""
    content = rewritten(valid, tmp_path, lambda t: t.update({"input_bn/gamma": np.ones(3, np.float16)}))
    zoo.load_weights(zoo_model, write(content))
    outer, header, data = parts(content)
    outer["input_bn/gamma"]["dtype"] = "BF16"
    refused(write(join(outer, header, data)), zoo_model, "input_bn/gamma.*BF16")


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
    model = tf.keras.Sequential(
        [tf.keras.layers.Input((4, 4, 5)), lq.layers.QuantConv2D(3, 2, kernel_quantizer=quantizer, name="conv")]
    )
    content = zoo.save_packed(model, tmp_path / "source.onebit").read_bytes()

    def change(tensors):
        scales = tensors.setdefault("conv/kernel:scale", np.ones(3, np.float32))
        scales[1] = bad

    path = write(rewritten(content, tmp_path, change))
    refused(path, model, "conv/kernel", ["load_weights"])
    refused(path, model, "", ["function", "load_packed"])


def test_two_values_for_each_filter(write, tmp_path):
    """Of a quantizer with a scale and an offset; half of a pair is damage."""

    class Ends(KernelQuantizer):
        def call(self, inputs):
            axes = self.filter_axes(inputs.shape)
            low, high = (f(inputs, axes, keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
            return tf.where(inputs >= (low + high) / 2, high, low)

    def build():
        conv = lq.layers.QuantConv2D(3, 2, kernel_quantizer=Ends(), name="conv")
        return tf.keras.Sequential([tf.keras.layers.Input((4, 4, 5)), conv])

    model, loaded = build(), build()
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
        refused(write(rewritten(path.read_bytes(), tmp_path, change)), model, "conv/kernel", ["load_weights"])


# --- One flipped bit --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("digest", [None, "", "0" * 64, 5, ["a"]])
def test_no_digest(digest, valid, write, zoo_model):
    text = json.dumps(parts(valid)[1] | {"sha256": digest})
    outer, _, data = parts(valid)
    content = join(outer, text.replace("0" * 64, "1" * 64), data)
    refused(write(content), zoo_model, "sha256")


def test_a_key_twice(valid, write, zoo_model):
    outer, header, data = parts(valid)
    text = json.dumps(header)
    refused(write(join(outer, text[:-1] + ', "kernels": {}}', data)), zoo_model, "'kernels' twice")
    content = join(outer, header, data)
    (length,) = struct.unpack("<Q", content[:8])
    start = content[8 : 8 + length].replace(b'"__metadata__"', b'"stem_conv/kernel": {}, "__metadata__"', 1)
    refused(write(struct.pack("<Q", len(start)) + start + content[8 + length :]), zoo_model, "twice")


def test_files_of_the_first_format_are_read(valid, write, zoo_model):
    """They have no digest."""
    outer, header, data = parts(valid)
    del header["sha256"]
    zoo.load_weights(zoo_model, write(join(outer, header | {"format": 1}, data)))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        PackedFile(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda h: h.update(function="Wide\x1b[31m\nResNet"), ""),
        (lambda h: h["arguments"].update({"a\x1b[31m\nb": 1}), ""),
        (lambda h: h.update(preprocessing="ima\x07ge\nnet"), ""),
        (lambda h: h["arguments"].update(classifier_activation="soft\x1b\nmax"), ""),
        (lambda h: h.update(class_names=["a\nb"] * 10), ""),
        (lambda h: h["kernels"].update({"a\x1b\nb": {}}), ""),
        (lambda h: h.update(preprocessing="inception"), "inception"),
        (lambda h: h["arguments"].update(classifier_activation="LeakyReLU"), "LeakyReLU"),
        (lambda h: h["arguments"].update(classifier_activation="deserialize"), "deserialize"),
    ],
)
def test_names_that_are_not_in_the_list(change, name, valid, write, zoo_model):
    """They are refused in one line, without control characters."""
    outer, header, data = parts(valid)
    change(header)
    path = write(join(outer, header, data))
    for read in (zoo.load_packed, lambda path: zoo.WideResNet(weights=path), PackedFile):
        if read is PackedFile and "Wide" in header["function"][:4] and header["function"] != "WideResNet":
            continue  # that there is no such function is for those who build
        with pytest.raises(ValueError, match=name or None) as caught:
            read(path)
        assert str(caught.value).isprintable()


def test_tensors_of_odd_names(valid, write, zoo_model, tmp_path):
    content = rewritten(valid, tmp_path, lambda t: t.update({"a\x1b[31m\nb": np.ones(1)}))
    with pytest.raises(ValueError) as caught:
        zoo.load_weights(zoo_model, write(content))
    assert str(caught.value).isprintable()


def test_a_gigabyte_claimed_by_a_kilobyte(write, zoo_model):
    header = {
        "format": 2,
        "sha256": "",
        "function": "WideResNet",
        "arguments": {"width": 10_000},
        "source": None,
        "metrics": None,
    }
    header["kernels"] = {"stem_conv/kernel": {"shape": [3, 3, 3, 160_000], "filter_axes": [0, 1, 2]}}
    for tensors in ({}, {"stem_conv/kernel": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}):
        refused(write(join(dict(tensors), header, b"")), zoo_model, "damaged.*stem_conv/kernel")
    header["kernels"] = {}
    refused(write(join({}, header, b"")), zoo_model, "larger than what the file holds", ["function", "load_packed"])


def test_missing_file_and_folder(tmp_path):
    for read in (PackedFile, zoo.load_packed, lambda path: zoo.WideResNet(weights=path)):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent")
        with pytest.raises((ValueError, IsADirectoryError)):
            read(tmp_path)
