"""Bad input is refused with the argument's name, what was given and what is allowed."""

from __future__ import annotations

import larq as lq
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, FPReLU, LibraPB, McDonnellSign, RPReLU, RSign, ScaledSign

KERNEL_QUANTIZERS = [ScaledSign, McDonnellSign, LibraPB]


@pytest.mark.parametrize("cls", [EDE, LibraPB])
@pytest.mark.parametrize("name", ["k", "t"])
@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf")])
def test_ede_state(cls, name, value):
    with pytest.raises(ValueError, match=f"{name} of {cls.__name__} must be a positive number, not {value}"):
        cls(**{name: value})


@pytest.mark.parametrize("gain", [0, -1, float("nan"), float("inf")])
def test_gain(gain):
    with pytest.raises(ValueError, match=f"gain of McDonnellSign must be a positive number, not {gain}"):
        McDonnellSign(gain=gain)


@pytest.mark.parametrize("cls", KERNEL_QUANTIZERS)
@pytest.mark.parametrize("channel_axis", ["last", 1.0, [], [0, None]])
def test_channel_axis_is_no_axis(cls, channel_axis):
    with pytest.raises(ValueError, match=rf"channel_axis of {cls.__name__} must be None, an axis or several, not "):
        cls(channel_axis=channel_axis)


@pytest.mark.parametrize("cls", KERNEL_QUANTIZERS)
@pytest.mark.parametrize("channel_axis", [2, -3, [0, 1]])
def test_channel_axis_does_not_fit(cls, channel_axis):
    with pytest.raises(ValueError, match=rf"channel_axis=.* of {cls.__name__} does not fit a kernel of shape \(3, 4\)"):
        cls(channel_axis=channel_axis)(tf.ones((3, 4)))


@pytest.mark.parametrize("cls", KERNEL_QUANTIZERS)
def test_no_kernel(cls):
    message = f"{cls.__name__} quantizes kernels: its input must have at least 2 axes, all of known length"
    for inputs in (tf.ones(3), tf.keras.Input((5, 5, 4))):
        with pytest.raises(ValueError, match=message):
            cls()(inputs)


@pytest.mark.parametrize("cls", [RSign, RPReLU, FPReLU])
@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (3, (5,), r"axis=3 of \w+ \(layer\) is not a channel axis of an input of shape \(None, 5\)"),
        (-3, (5,), r"axis=-3 of \w+ \(layer\) is not a channel axis of an input of shape \(None, 5\)"),
        (0, (5, 5), r"axis=0 of \w+ \(layer\) is not a channel axis of an input of shape \(None, 5, 5\)"),
        (
            -1,
            (5, None),
            r"\w+ \(layer\) needs a known channel count, but axis -1 of its input is None in \(None, 5, No",
        ),
    ],
)
def test_channels(cls, axis, shape, message):
    with pytest.raises(ValueError, match=message):
        cls(axis=axis, name="layer")(tf.keras.Input(shape))


@pytest.mark.parametrize("cls", [RSign, RPReLU, FPReLU])
@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 5, 5, 3), "expected axis"), ((2, 5, 5, 1), "expected axis"), ((2, 4), "expected ndim=4")],
)
def test_channels_change(cls, shape, message):
    """One channel would broadcast, without an error, where the parameters are for four."""
    layer = cls(name="layer")
    layer(tf.ones((2, 5, 5, 4)))
    with pytest.raises(ValueError, match=message):
        layer(tf.ones(shape))


def test_unknown_name():
    with pytest.raises(ValueError, match="rsing"):
        lq.layers.QuantDense(3, input_quantizer="rsing")
