"""What a training step keeps of each layer for its backward pass.

    python benchmarks/memory.py [irnet_resnet20] [--batch 128] [--precision float32] [--json]

Tensors of the forward pass that the step's graph reads again in its backward pass, in bytes, by the layer that makes
them; each is counted once. TensorFlow keeps no others. The peak of resident memory is in the table of `speed.py`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

from onebit import zoo

# isort: split
import tensorflow as tf
from rich.console import Console
from rich.table import Table


def kept(model: tf.keras.Model, batch: int) -> dict[str, int]:
    """Return the bytes of each layer's outputs and intermediate values that the backward pass reads."""
    model.compile(tf.keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)

    forward: set[str] = set()

    @tf.function(autograph=False)
    def step(x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        forward.update(operation.name for operation in tf.compat.v1.get_default_graph().get_operations())
        return tape.gradient(loss, model.trainable_variables)

    shape = (batch, *model.input_shape[1:])
    graph = step.get_concrete_function(tf.TensorSpec(shape), tf.TensorSpec((batch,), tf.int32)).graph
    tensors = {}
    for operation in graph.get_operations():
        if operation.name not in forward:
            for tensor in operation.inputs:
                depends_on_batch = tensor.shape.rank and tensor.shape[0] == batch
                if tensor.op.name in forward and depends_on_batch and tensor.op.type != "Placeholder":
                    tensors[tensor.name] = tensor
    layers = sorted((layer.name for layer in model.layers), key=len, reverse=True)
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        owner = next((name for name in layers if f"/{name}/" in f"/{tensor.op.name}"), "loss")
        sizes[owner] += tensor.shape.num_elements() * tensor.dtype.size
    return {name: sizes[name] for name in [*(layer.name for layer in model.layers), "loss"] if sizes[name]}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="irnet_resnet20", help="(default: irnet_resnet20)")
    parser.add_argument("--batch", type=int, default=128, help="(default: 128)")
    parser.add_argument("--precision", default="float32", help="a Keras policy (default: float32)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    tf.keras.mixed_precision.set_global_policy(options.precision)
    model = zoo.load(options.model)
    sizes = kept(model, options.batch)
    if options.json:
        print(json.dumps(sizes, indent=2))
        return
    table = Table("layer", "type", "kept, MB")
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    for name, size in [*sizes.items(), ("total", sum(sizes.values()))]:
        table.add_row(name, kinds.get(name, ""), f"{size / 1e6:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
