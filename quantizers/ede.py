"""EDE: IR-Net's error decay estimator, whose backward pass narrows while the network trains."""

from __future__ import annotations

import math
from typing import Any

import larq as lq
import tensorflow as tf

from .base import BinaryQuantizer
from .elementwise import at_least_float32, fused, sign

__all__ = ["EDE", "EDESchedule", "ede_schedule"]


@fused
def _gradient(x: tf.Tensor, k: tf.Tensor, t: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy * (k * t * (1 - tf.square(tf.tanh(t * x))))


class EDEState(BinaryQuantizer):
    """A quantizer with EDE's two state variables, ``k`` and ``t``: saved with the model, moved by `EDESchedule`."""

    def __init__(self, k: float = 10.0, t: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("k", k), ("t", t)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of {type(self).__name__} must be a positive number, not {value!r}.")
        self.initial_k, self.initial_t = k, t
        # An .h5 file needs names that differ within the layer that holds this quantizer.
        self.k, self.t = (
            self.add_weight(
                f"{self.name}/{name}_bias",
                shape=(),
                initializer=tf.keras.initializers.Constant(value),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for name, value in (("k", k), ("t", t))
        )

    def sign(self, x: tf.Tensor, training: Any = None) -> tf.Tensor:
        """Return the sign of ``x`` with the present estimator's gradient."""
        k, t = (tf.cast(each, at_least_float32(x).dtype) for each in (self.k, self.t))

        @tf.custom_gradient
        def ede_sign(x: tf.Tensor, k: tf.Tensor, t: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return sign(x, training=training), lambda dy: (_gradient(x, k, t, dy), None, None)

        return ede_sign(x, k, t)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.initial_k, "t": self.initial_t}


@lq.utils.register_alias("ede")
@lq.utils.register_keras_custom_object
class EDE(EDEState):
    r"""The sign, with a gradient that changes from a wide to a narrow one in the course of training.

    Forward:
    \[ q(x) = \mathrm{sign}(x), \qquad \mathrm{sign}(0) = +1 \]
    Backward, with the state \((k, t)\) of `ede_schedule`, and not zero outside [-1, 1]:
    \[ \partial q / \partial x = k t \, (1 - \tanh^2(t x)) \]

    Input and output: activations or kernels of any shape and float dtype.

    `k` and `t` are scalar, non-trainable variables, part of the model's weights. `EDESchedule` moves them once an epoch
    during `fit`; without it they keep their values. The official code's `sign(0)` is 0; its slope there is \(k t\) too.

    Args:
        k, t: The state to start with, positive numbers. The defaults are those of the official layers.

    Raises:
        ValueError: `k` or `t` is not positive and finite.

    References:
        - [Forward and Backward Information Retention for Accurate Binary Neural
            Networks](https://arxiv.org/abs/1909.10788), section 3.3
        - `BinaryQuantize` in `htqin/IR-Net`
    """

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return super().call(self.sign(inputs, training))


def ede_schedule(epoch: float, *, epochs: int, t_min: float = 1e-1, t_max: float = 1e1) -> tuple[float, float]:
    r"""Return EDE's \((k, t)\) at an epoch counted from 0.

    \[ t = T_{min} \cdot 10^{\frac{i}{N} \log_{10} (T_{max} / T_{min})}, \qquad k = \max(1 / t, 1) \]

    Published settings: ``t_min=1e-1`` in the paper, for VGG-Small and for ResNet-20 with real activations, and
    ``t_min=1e-3`` for ResNet-20 with 1-bit activations, all with ``t_max=1e1``. The last epoch, ``epochs - 1``, stays
    a little below ``t_max``.

    Args:
        epoch: \(i\), from 0 up to ``epochs``.
        epochs: \(N\), the length of the whole training in epochs, at least 1.
        t_min, t_max: Positive numbers.

    Raises:
        ValueError: An argument is outside its range.
    """
    if not epochs >= 1:
        raise ValueError(f"epochs must be at least 1, not {epochs!r}.")
    if not 0 <= epoch <= epochs:
        raise ValueError(f"epoch must lie between 0 and epochs={epochs}, not {epoch!r}.")
    if not (0 < t_min < math.inf and 0 < t_max < math.inf):
        raise ValueError(f"t_min and t_max must be positive numbers, not {t_min!r} and {t_max!r}.")
    t = 10 ** (math.log10(t_min) + (math.log10(t_max) - math.log10(t_min)) * epoch / epochs)
    return max(1 / t, 1.0), t


def ede_quantizers(model: tf.keras.Model) -> list[EDEState]:
    """Return every `EDE` and `LibraPB` in a model."""
    return [module for module in model.submodules if isinstance(module, EDEState)]


class EDESchedule(tf.keras.callbacks.Callback):
    """Moves (k, t) of every `EDE` and `LibraPB` in the model at the start of each epoch, by `ede_schedule`.

    The epoch number is the one that ``fit`` counts, so a run continued with ``initial_epoch`` goes on where it was.
    Past the end of the schedule the final values stay.

    Args:
        epochs: Length of the whole training in epochs.
        t_min, t_max: See `ede_schedule`, which names the published settings.

    Raises:
        ValueError: An argument is outside its range, or (when training starts) the model has no such quantizer.
    """

    def __init__(self, epochs: int, t_min: float = 1e-1, t_max: float = 1e1) -> None:
        super().__init__()
        ede_schedule(0, epochs=epochs, t_min=t_min, t_max=t_max)
        self.epochs, self.t_min, self.t_max = epochs, t_min, t_max

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._quantizers = ede_quantizers(self.model)
        if not self._quantizers:
            raise ValueError(f"EDESchedule found no EDE or LibraPB quantizer in the model {self.model.name!r}.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        k, t = ede_schedule(min(epoch, self.epochs), epochs=self.epochs, t_min=self.t_min, t_max=self.t_max)
        for quantizer in self._quantizers:
            quantizer.k.assign(k)
            quantizer.t.assign(t)
