"""Bad input is refused by a `ValueError` that names the argument or the class, and what was given."""

from __future__ import annotations

import larq as lq
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, FPReLU, LibraPB, McDonnellSign, RPReLU, RSign
from tests.quantizers.models import FILTERWISE


@pytest.mark.parametrize(
    ("cls", "name"), [(EDE, "k"), (EDE, "t"), (LibraPB, "k"), (LibraPB, "t"), (McDonnellSign, "gain")]
)
@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf")])
def test_positive_numbers(cls, name, value):
    with pytest.raises(ValueError, match=f"{name}.*{cls.__name__}.*{value}"):
        cls(**{name: value})


@pytest.mark.parametrize("cls", FILTERWISE)
def test_channel_axis(cls):
    for channel_axis in ("last", 1.0, [], [0, None]):
        with pytest.raises(ValueError, match=rf"channel_axis.*{cls.__name__}"):
            cls(channel_axis=channel_axis)
    for channel_axis in (2, -3, [0, 1]):
        with pytest.raises(ValueError, match=r"channel_axis.*\(3, 4\)"):
            cls(channel_axis=channel_axis)(tf.ones((3, 4)))
    for inputs in (tf.ones(3), tf.keras.Input((5, 5, 4))):
        with pytest.raises(ValueError, match=cls.__name__):
            cls()(inputs)


@pytest.mark.parametrize("cls", [RSign, RPReLU, FPReLU])
def test_channels(cls):
    for axis, shape in ((3, (5,)), (-3, (5,)), (0, (5, 5)), (-1, (5, None))):
        with pytest.raises(ValueError, match=rf"{cls.__name__} \(layer\).*None"):
            cls(axis=axis, name="layer")(tf.keras.Input(shape))
    layer = cls(name="layer")
    layer(tf.ones((2, 5, 5, 4)))
    # One channel would broadcast, without an error, where the parameters are for four.
    for shape in ((2, 5, 5, 3), (2, 5, 5, 1), (2, 4)):
        with pytest.raises(ValueError, match="layer"):
            layer(tf.ones(shape))


def test_unknown_name():
    with pytest.raises(ValueError, match="rsing"):
        lq.layers.QuantDense(3, input_quantizer="rsing")
