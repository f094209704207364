"""Layers that compute what PyTorch's do, where Keras' differ."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from ...quantizers.base import NoAutoGraph
from ...quantizers.elementwise import at_least_float32
from ...util.graph import GraphBuilder, Node
from ...util.operations import MaxPool


@lq.utils.register_keras_custom_object
class ExactBatchNormalization(NoAutoGraph, tf.keras.layers.BatchNormalization):
    """Keras' batch normalisation over the last axis, whose moving statistics are as exact as its dtype.

    Where TensorFlow's fused kernel does not serve (vectors, float64), Keras rounds 1 - momentum to float32. Where that
    kernel runs eagerly, all layers share one with state of its own (oneDNN's, in TensorFlow 2.19), and calls from
    several threads would write where they must not: at inference this layer then does without.
    """

    _unbiased = False

    @property
    def _remembers_unbiased(self) -> bool:
        # As the fused kernel does, which one replica of several would have used were it alone.
        return self._unbiased or (self.synchronized and self.input_spec.ndim == 4 and self.dtype == "float32")

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        training = self._get_training_value(training)
        if self.fused and tf.executing_eagerly() and not training:
            x = at_least_float32(inputs)
            # Not rsqrt, which some processors only estimate.
            scale = (1 if self.gamma is None else self.gamma) / tf.sqrt(self.moving_variance + self.epsilon)
            y = (x - self.moving_mean) * scale + (0 if self.beta is None else self.beta)
            return tf.cast(y, inputs.dtype)
        if self.fused or tf.get_static_value(training) is False:
            return super().call(inputs, training=training, mask=mask)
        x = tf.cast(inputs, self.moving_mean.dtype)
        mean, variance, count = self._moments(x)
        remembered = variance * count / tf.maximum(count - 1, 1) if self._remembers_unbiased else variance
        # Keras builds its graphs with a symbolic `training`.
        training = tf.cast(training, tf.bool)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, remembered)):
            moving.assign(tf.where(training, moving * self.momentum + value * (1 - self.momentum), moving))
        mean = tf.where(training, mean, self.moving_mean)
        variance = tf.where(training, variance, self.moving_variance)
        y = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(y, inputs.dtype)

    def _moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return mean, variance and number of a batch's values in each channel, of all replicas' if ``synchronized``.

        Replicas have equally large parts of a batch.
        """
        mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
        count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
        replica = tf.distribute.get_replica_context()
        if not self.synchronized or replica is None or replica.num_replicas_in_sync == 1:
            return mean, variance, count
        whole = replica.all_reduce(tf.distribute.ReduceOp.MEAN, mean)
        variance = replica.all_reduce(tf.distribute.ReduceOp.MEAN, variance + tf.square(mean - whole))
        return whole, variance, count * replica.num_replicas_in_sync


@lq.utils.register_keras_custom_object
class UnbiasedBatchNormalization(ExactBatchNormalization):
    r"""Batch normalisation over the last axis, whose moving variance is of the unbiased estimate.

    It normalises with the batch's own variance \(\sigma^2\), of \(n\) values for each channel, and remembers
    \(\frac{n}{n - 1} \sigma^2\), as ``torch.nn.BatchNorm1d`` and ``BatchNorm2d`` do. Keras does so only where it can
    use TensorFlow's fused kernel: not for vectors, and not in float64.
    """

    _unbiased = True


@lq.utils.register_keras_custom_object
class SymmetricMaxPool2D(NoAutoGraph, tf.keras.layers.MaxPooling2D):
    """Max pooling of a window of odd size, padded with minus infinity by half of it on each side.

    (b, h, w, c) becomes (b, ceil(h / s), ceil(w / s), c), as with ``same``, which at stride 2 pads even sizes at the
    bottom and right only. Where values tie, the gradient goes to the first in row-major order.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        edges = [(size // 2,) * 2 for size in self.pool_size]
        padded = tf.pad(inputs, [(0, 0), *edges, (0, 0)], constant_values=float("-inf"))
        return tf.nn.max_pool2d(padded, self.pool_size, self.strides, "VALID")

    def lower(self, graph: GraphBuilder, x: Node) -> Node:
        """Add what it computes to a graph."""
        vertical, horizontal = ((size // 2, size // 2) for size in self.pool_size)
        return graph.add(MaxPool(tuple(self.strides), (vertical, horizontal), window=tuple(self.pool_size)), x)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        batch, *pixels, channels = tf.TensorShape(input_shape).as_list()
        pixels = [None if n is None else -(-n // stride) for n, stride in zip(pixels, self.strides, strict=True)]
        return tf.TensorShape([batch, *pixels, channels])
