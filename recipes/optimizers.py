"""Optimizers with weight decay as the papers' code has it: L2 added to the gradient, for chosen variables only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import larq as lq
import tensorflow as tf


class _CoupledL2(tf.keras.optimizers.Optimizer):
    """Adds ``l2 * w`` to the gradient of every variable ``w`` that ``decays`` names, before momentum or Adam see it.

    Keras' own ``weight_decay`` is decoupled (AdamW); PyTorch's, MATLAB's and an L2 regularizer of ``l2 / 2`` are this.
    """

    def __init__(self, *args: Any, l2: float = 0.0, decays: Callable[[str], bool] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2
        self.decays = decays or is_kernel

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]], *args: Any, **kwargs: Any
    ) -> Any:
        if self.l2:
            # The gradients of all replicas are added up, unless that is done (LossScaleOptimizer does it before).
            added = kwargs.get("skip_gradients_aggregation", False)
            l2 = self.l2 / (1 if added else tf.distribute.get_strategy().num_replicas_in_sync)
            grads_and_vars = [
                (g + tf.cast(l2, g.dtype) * v if g is not None and self.decays(v.name) else g, v)
                for g, v in grads_and_vars
            ]
        return super().apply_gradients(grads_and_vars, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


def is_kernel(name: str) -> bool:
    """Return whether a variable's name is that of a convolution's or a dense layer's kernel."""
    return name.split("/")[-1].split(":")[0].endswith("kernel")


@lq.utils.register_alias("L2SGD")
class SGD(_CoupledL2, tf.keras.optimizers.SGD):
    """Keras' SGD with coupled L2 on the kernels."""


@lq.utils.register_alias("L2Adam")
class Adam(_CoupledL2, tf.keras.optimizers.Adam):
    """PyTorch's Adam with ``weight_decay`` on chosen variables: coupled L2, not AdamW.

    Args:
        epsilon: 1e-8 by default, as in PyTorch; Keras has 1e-7.
    """

    def __init__(self, *args: Any, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(*args, epsilon=epsilon, **kwargs)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Move a variable; Keras adds epsilon before the bias of the second moment is corrected, PyTorch after."""
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step))
        with lq.utils.patch_object(self, "epsilon", self.epsilon * correction):
            super().update_step(gradient, variable)


def every(name: str) -> bool:
    """Return True: all variables decay, normalisations included (IR-Net)."""
    return True
