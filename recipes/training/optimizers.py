"""Optimizers with weight decay as the papers' code has it: L2 added to the gradient, for chosen variables only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from ...zoo.checkpoints.variables import latent_variable

Decays = Callable[[str], bool]


class _CoupledL2(tf.keras.optimizers.Optimizer):
    """Adds ``l2 * w`` to the gradient of every variable ``w`` that ``decays`` names, before momentum or Adam see it.

    Keras' own ``weight_decay`` is decoupled (AdamW); PyTorch's, MATLAB's and an L2 regularizer of ``l2 / 2`` are this.

    Args:
        l2: The factor.
        decays: Gets a variable's name and returns whether it decays, or the name that such a function is registered
            under. Default: `decay_kernels`.
        decaying: The places of the variables that decay, among those that the optimizer is built for. Default: what
            ``decays`` says. A saved model has them, because a ``.keras`` file loses the layers' part of the names.

    Raises:
        ValueError: No function is registered under this name.
    """

    def __init__(
        self,
        *args: Any,
        l2: float = 0.0,
        decays: Decays | str | None = None,
        decaying: Iterable[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2
        self.decays: Decays = _registered(decays) if isinstance(decays, str) else decays or decay_kernels
        # No list, which would become part of the checkpoints.
        self._decaying = None if decaying is None else frozenset(decaying)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        super().build(var_list)
        # Places of another model's variables, as in the configuration of its optimizer, do not count where names tell.
        if self._decaying is None or all("/" in variable.name for variable in var_list):
            self._decaying = frozenset(i for i, variable in enumerate(var_list) if self.decays(variable.name))

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]], *args: Any, **kwargs: Any
    ) -> Any:
        grads_and_vars = list(grads_and_vars)
        if self.l2:
            with tf.init_scope():
                self.build([v for _, v in grads_and_vars])
            # The gradients of all replicas are added up, unless that is done (LossScaleOptimizer does it before).
            added = kwargs.get("skip_gradients_aggregation", False)
            l2 = self.l2 / (1 if added else tf.distribute.get_strategy().num_replicas_in_sync)
            grads_and_vars = [
                (g if g is None or not self._decays(v) else g + tf.cast(l2, g.dtype) * latent_variable(v), v)
                for g, v in grads_and_vars
            ]
        return super().apply_gradients(grads_and_vars, *args, **kwargs)

    def _decays(self, variable: tf.Variable) -> bool:
        return self._index_dict[self._var_key(variable)] in (self._decaying or ())

    def get_config(self) -> dict[str, Any]:
        decays = tf.keras.utils.get_registered_name(self.decays)
        decaying = None if self._decaying is None else sorted(self._decaying)
        return {**super().get_config(), "l2": self.l2, "decays": decays, "decaying": decaying}


def _registered(name: str) -> Decays:
    function = tf.keras.utils.get_registered_object(name)
    if function is None:
        raise ValueError(
            f"decays={name!r} is not a registered function: import what defines it, and have it registered with "
            "larq.utils.register_keras_custom_object."
        )
    return function


@lq.utils.register_keras_custom_object
def decay_kernels(name: str) -> bool:
    """Return whether a variable's name is that of a convolution's or a dense layer's kernel."""
    return name.split("/")[-1].split(":")[0].endswith("kernel")


@lq.utils.register_keras_custom_object
def decay_all(name: str) -> bool:
    """Return True: all variables decay, normalisations included (IR-Net)."""
    return True


# Keras finds its own classes first, whatever is registered under their names.
@lq.utils.register_keras_custom_object
class L2SGD(_CoupledL2, tf.keras.optimizers.SGD):
    """Keras' SGD with coupled L2 on the kernels."""


@lq.utils.register_keras_custom_object
class L2Adam(_CoupledL2, tf.keras.optimizers.Adam):
    r"""PyTorch's Adam with ``weight_decay`` on chosen variables: coupled L2, not AdamW.

    \[ m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
    w \leftarrow w - lr \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} \]

    Args:
        epsilon: 1e-8 by default, as in PyTorch; Keras has 1e-7, and adds it before the bias of \(v\) is corrected.

    Raises:
        ValueError: ``amsgrad`` is asked for, which is not implemented.
    """

    def __init__(self, *args: Any, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(*args, epsilon=epsilon, **kwargs)
        if self.amsgrad:
            raise ValueError("amsgrad is not implemented.")

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        place = self._index_dict[self._var_key(variable)]
        m, v = self._momentums[place], self._velocities[place]
        gradient = tf.convert_to_tensor(gradient)
        m.assign_add((gradient - m) * (1 - self.beta_1))
        v.assign_add((tf.square(gradient) - v) * (1 - self.beta_2))
        step = tf.cast(self.iterations + 1, variable.dtype)
        bias, root = (
            1 - tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            tf.sqrt(1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step)),
        )
        rate = tf.cast(self.learning_rate, variable.dtype) * root / bias
        variable.assign_sub(m * rate / (tf.sqrt(v) + self.epsilon * root))
