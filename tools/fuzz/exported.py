"""Exported networks: files of TensorFlow Lite, ONNX and OpenVINO."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .mutations import EVIL

WILD = (-1, 0, 1, 3, 64, 2000, 2**16, 2**31 - 1)


def _network() -> Any:
    from onebit import zoo

    return zoo.load("birealnet20", input_shape=(12, 12, 3))


def save_tflite(path: Path) -> None:
    """Write a network of whole numbers."""
    from onebit import zoo

    path.write_bytes(zoo.convert_to_tflite(_network(), "int8"))


def save_exported(path: Path) -> None:
    """Write a network in the format of the ending."""
    from onebit import zoo

    zoo.export(_network(), path, strict=False)


def save_openvino(folder: Path) -> None:
    """Write a network's two files."""
    folder.mkdir()
    save_exported(folder / "network.xml")


def tflite_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield networks without outputs, of wild shapes, with operations of others' or none, and in circles."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    def change(model: Any, graph: Any, number: int) -> None:
        image, operation = graph.tensors[graph.inputs[0]], rng.choice(graph.operators)
        if number == 0:
            graph.outputs = []
        elif number == 1:
            graph.inputs = []
        elif number in (2, 3, 4, 5):
            image.shape = [[1] * 64, [0] * 4, [1, 2000, 2000, 3], [1, 2**15, 2**15, 3]][number - 2]
            image.shapeSignature = None
        elif number in (6, 7):
            code = model.operatorCodes[0]
            code.builtinCode = code.deprecatedBuiltinCode = 32
            code.customCode = ("FlexWriteFile", EVIL)[number - 6]
        elif number == 8:
            model.subgraphs = [graph, graph]
        elif number == 9:
            operation.inputs = [2**31 - 1]
        elif number % 4 == 0:
            tensor = rng.choice(graph.tensors)
            tensor.shape = [rng.choice(WILD) for _ in range(rng.randrange(6))]
        elif number % 4 == 1:
            operation.inputs = [rng.choice([-1, 0, len(graph.tensors) - 1]) for _ in operation.inputs]
        elif number % 4 == 2:
            for name in vars(operation.builtinOptions) if operation.builtinOptions else ():
                setattr(operation.builtinOptions, name, rng.choice([-1, 0, 1, 100]))
        else:
            model.buffers[rng.randrange(len(model.buffers))].data = list(rng.randbytes(rng.choice([0, 1, 64])))

    for number in range(2**31):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        change(model, model.subgraphs[0], number)
        builder = flatbuffers.Builder(1024)
        with contextlib.suppress(Exception):  # what cannot be written
            builder.Finish(model.Pack(builder), b"TFL3")
            yield bytes(builder.Output())


def onnx_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield networks of wild shapes and attributes, of other operators, and with numbers in other files."""
    import onnx

    def change(graph: Any, number: int) -> None:
        node, constant = rng.choice(graph.node), rng.choice(graph.initializer)
        if number < 4:
            sizes = [(1, 2**15, 2**15, 3), (1, 0, 0, 3), (2**31, 2**31, 2**31, 3), (1, 4000, 4000, 3)][number]
            for dimension, size in zip(graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
                dimension.dim_value = size
        elif number < 7:
            constant.data_location = onnx.TensorProto.EXTERNAL
            constant.ClearField("raw_data")
            place = ("/dev/zero", "../../../../../etc/passwd", "/dev/stdin")[number - 4]
            constant.external_data.add(key="location", value=place)
        elif number == 7:
            del graph.output[:]
        elif number == 8:
            shape = graph.initializer.add(name="shape", data_type=7, dims=[1], int64_data=[2**34])
            graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", [shape.name], ["large"]))
            graph.node.append(onnx.helper.make_node("ReduceSum", ["large"], ["sum"]))
            graph.output[0].name = "sum"
        elif number == 9:
            node.domain = node.op_type = EVIL
        elif number == 10:
            graph.node[-1].output[0] = graph.node[0].input[0]
        elif number == 11:
            _add_endless_loop(graph)
        elif number % 5 == 0:
            constant.dims[:] = [rng.choice(WILD) for _ in range(rng.randrange(5))]
        elif number % 5 == 1 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = rng.choice(WILD)
            attribute.ints[:] = [rng.choice(WILD) for _ in attribute.ints]
        elif number % 5 == 2:
            node.op_type = rng.choice(["Expand", "Tile", "Loop", "Reshape", "Pad", "MaxPool", "Gather", "Resize"])
        elif number % 5 == 3 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(graph.node).output[0]
        else:
            constant.raw_data = rng.randbytes(rng.choice([0, 1, 64]))

    for number in range(2**31):
        model = onnx.load_from_string(data)
        change(model.graph, number)
        yield model.SerializeToString()


def _add_endless_loop(graph: Any) -> None:
    """Let an ONNX graph return its result after 2^62 rounds."""
    from onnx import helper

    def value(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, None)

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("round", 7, []), helper.make_tensor_value_info("go", 9, []), value("x", 1)],
        [value("on", 9), value("y", 1)],
    )
    graph.initializer.append(helper.make_tensor("rounds", 7, [], [2**62]))
    graph.initializer.append(helper.make_tensor("true", 9, [], [True]))
    graph.node.append(helper.make_node("Loop", ["rounds", "true", graph.output[0].name], ["end"], body=body))
    graph.output[0].name = "end"


def xml_lie(data: bytes, rng: random.Random) -> bytes:
    """Return OpenVINO's description of a network with another number, name or kind of operation in it."""
    words = re.split(rb'(")', data)
    place = rng.choice([i for i, word in enumerate(words) if i % 4 == 2])
    kinds = [b"Broadcast", b"Tile", b"Loop", b"If", b"Reshape", b"ReadValue", b"f64", b"string", b"Parameter"]
    is_number = re.fullmatch(rb"[-\d., ]+", words[place]) is not None
    numbers = b",".join(b"%d" % rng.choice((*WILD, 2**40)) for _ in words[place].split(b","))
    words[place] = numbers if is_number else rng.choice([*kinds, EVIL.encode(), b"A" * 5000])
    return b"".join(words)
