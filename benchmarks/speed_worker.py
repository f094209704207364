"""A process that runs one case of `speed.py`, as often as it is told to.

It gets the case as JSON, its only argument. To each line of its input, the seconds that a turn shall last at least, it
answers with a line of JSON: the images per second of the turn, and the process' peak of resident memory in bytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Step = Callable[[], Any]


def torch_step(case: dict[str, Any]) -> Step:
    """Return a training step of plain PyTorch."""
    import torch
    from torch_networks import NETWORKS

    height, width, channels = case["shape"]
    x = torch.randn(case["batch"], channels, height, width)
    y = torch.zeros(case["batch"], dtype=torch.long)
    state: dict[str, torch.Tensor] = {}

    def logits() -> torch.Tensor:
        return NETWORKS[case["model"]](state, x, training=True, classes=case["classes"])

    logits()  # draws the state
    optimizer = torch.optim.SGD([tensor for tensor in state.values() if tensor.requires_grad], 0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(), y).backward()
        optimizer.step()

    return step


def keras_step(case: dict[str, Any]) -> Step:
    """Return a training step, or a prediction, of a Keras model."""
    if case["source"] == "larq_zoo":
        # As its users have it: without what importing onebit selects besides Keras 2.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    else:
        from onebit import zoo
        from onebit.util.malloc import keep_freed_memory

        if case["source"] == "onebit" and case["task"] == "train":
            keep_freed_memory()  # as `onebit train` does
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy(case["precision"])
    if case["source"] == "larq_zoo":
        import larq_zoo

        model = getattr(larq_zoo.literature, case["model"])(weights=None, input_shape=tuple(case["shape"]))
    else:
        model = zoo.load(case["model"], num_classes=case["classes"], input_shape=tuple(case["shape"]))
    if case["source"] in ("real", "stock"):
        model = changed(model, case["source"])
    x = tf.random.normal([case["batch"], *case["shape"]])
    y = tf.zeros([case["batch"]], tf.int32)
    if case["task"] == "predict":
        return lambda: model.predict_on_batch(x)
    model.compile(tf.keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    return lambda: model.train_on_batch(x, y)


def changed(model: Any, source: str) -> Any:
    """Return the same architecture without quantizers, or with Larq's own layers and quantizers."""
    import larq as lq
    import tensorflow as tf

    def change(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        config = layer.get_config()
        if not isinstance(layer, lq.layers.QuantConv2D) or not config["kernel_quantizer"]:
            return type(layer).from_config(config)
        if source == "real":
            return type(layer).from_config({**config, "input_quantizer": None, "kernel_quantizer": None})
        del config["symmetric"]
        quantizers = {"input_quantizer": "approx_sign", "kernel_quantizer": "magnitude_aware_sign"}
        return lq.layers.QuantConv2D.from_config({**config, **quantizers})

    return tf.keras.models.clone_model(model, clone_function=change)


def main() -> None:
    """Build the case, warm up, and run a turn for each line."""
    case = json.loads(sys.argv[1])
    step = torch_step(case) if case["source"] == "torch" else keras_step(case)
    for _ in range(2):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        count, start = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - start < float(line):
            step()
            count += 1
        speed = count * case["batch"] / (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"images_per_second": speed, "peak_memory": peak}), flush=True)


if __name__ == "__main__":
    main()
