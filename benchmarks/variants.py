"""The variants that `ablations.py` compares: a recipe each, with one thing changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

Change = Callable[[Any], Any]
"""Returns the layer to use instead of a layer, or ``None`` to keep it."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A recipe with a change.

    Attributes:
        study: What is compared, the table's first column.
        name: What this one has.
        recipe: Name of the recipe.
        settings: Of the recipe.
        change: What becomes of the network's layers: a name in `changes`.
    """

    study: str
    name: str
    recipe: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    change: str | None = None


IRNET, SIGN, REACT, FTBNN = (
    "IR-Net ResNet-20: what is retained",
    "IR-Net ResNet-20: gradient of the activations' sign",
    "ReActNet-20: from Bi-Real Net with PReLU, step by step",
    "FTBNN-20: non-linearity",
)
# The papers' larger batches are ImageNet's: of CIFAR-10 they would leave a short schedule too few steps.
BATCH = {"batch_size": 128}
VARIANTS = [
    Variant(IRNET, "neither", "irnet", change="ste_ste"),
    Variant(IRNET, "Libra-PB", "irnet", change="libra_ste"),
    Variant(IRNET, "EDE", "irnet", change="ede_ede"),
    Variant(IRNET, "both", "irnet"),
    Variant(SIGN, "straight-through", "irnet", change="ste"),
    Variant(SIGN, "ApproxSign", "irnet", change="approx"),
    Variant(SIGN, "EDE", "irnet"),
    Variant(REACT, "PReLU", "reactnet", {"teacher": "labels", **BATCH}, change="no_rsign_no_rprelu"),
    Variant(REACT, "RSign and PReLU", "reactnet", {"teacher": "labels", **BATCH}, change="no_rprelu"),
    Variant(REACT, "RSign and RPReLU", "reactnet", {"teacher": "labels", **BATCH}),
    Variant(REACT, "and distillation", "reactnet", BATCH),
    *(Variant(FTBNN, name, "ftbnn", {"nonlinearity": name, **BATCH}) for name in ("none", "relu", "prelu", "fprelu")),
]


def changes() -> dict[str, Change]:
    """Return the changes by name."""
    import larq as lq
    import tensorflow as tf

    from onebit.quantizers import EDE, ApproxSign, LibraPB, RPReLU, RSign

    @lq.utils.register_keras_custom_object
    class LibraSTE(LibraPB):
        """Libra-PB whose sign has the straight-through gradient, clipped at 1."""

        def sign(self, x: tf.Tensor) -> tf.Tensor:
            return lq.quantizers.ste_sign(x)

    def rebuilt(layer: Any, **new: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), **new})

    def quantizers(kernel: Callable[[], Any] | None, activation: Callable[[], Any]) -> Change:
        def change(layer: Any) -> Any:
            if not isinstance(layer, lq.layers.QuantConv2D) or layer.input_quantizer is None:
                return None
            new = {"kernel_quantizer": kernel()} if kernel else {}
            return rebuilt(layer, input_quantizer=activation(), **new)

        return change

    def without_rprelu(layer: Any) -> Any:
        if not isinstance(layer, RPReLU):
            return None
        start = tf.keras.initializers.Constant(0.25)
        return tf.keras.layers.PReLU(start, shared_axes=[1, 2], name=layer.name)

    def without_both(layer: Any) -> Any:
        if isinstance(getattr(layer, "input_quantizer", None), RSign):
            return rebuilt(layer, input_quantizer=ApproxSign())
        return without_rprelu(layer)

    ste = lq.quantizers.SteSign
    return {
        "ste_ste": quantizers(ste, ste),
        "libra_ste": quantizers(LibraSTE, ste),
        "ede_ede": quantizers(EDE, EDE),
        "ste": quantizers(None, ste),
        "approx": quantizers(None, ApproxSign),
        "no_rsign_no_rprelu": without_both,
        "no_rprelu": without_rprelu,
    }


def changed(recipe: Any, name: str) -> Any:
    """Return a recipe whose networks have another quantizer or activation."""
    import tensorflow as tf

    change = changes()[name]

    def stage_of(stage: Any) -> Any:
        def build(classes: int, shape: tuple[int, ...]) -> tf.keras.Model:
            model = stage.build(classes, shape)
            return tf.keras.models.clone_model(
                model, clone_function=lambda layer: change(layer) or type(layer).from_config(layer.get_config())
            )

        return dataclasses.replace(stage, build=build)

    return dataclasses.replace(
        recipe, stages=[stage_of(each) for each in recipe.stages], settings={**recipe.settings, "change": name}
    )
