"""Each of Keras' formats keeps the quantizers and their state: predictions are equal bit for bit."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, LibraPB, RSign
from tests.quantizers.models import every_quantizer, move_state

X = np.random.default_rng(0).standard_normal((3, 5, 5, 4)).astype("float32")


@pytest.fixture(scope="module")
def model():
    model = every_quantizer()
    move_state(model)
    return model


def _file(model, path):
    model.save(path)
    return tf.keras.models.load_model(path)


def _clone(model, path):
    clone = tf.keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def _weights(model, path):
    model.save_weights(path)
    copy = every_quantizer()
    copy.load_weights(path)
    return copy


COPIES = {
    ".keras": (_file, "model.keras"),
    ".h5": (_file, "model.h5"),
    "SavedModel": (_file, "model"),
    "clone_model": (_clone, ""),
    ".weights.h5": (_weights, "model.weights.h5"),
    "checkpoint": (_weights, "checkpoint"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow if how == "SavedModel" else ()) for how in COPIES]
)
def test_copies_are_equal(model, how, tmp_path):
    copy, name = COPIES[how]
    copy = copy(model, str(tmp_path / name))
    for variable, ours, theirs in zip(model.weights, model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=variable.name)
    np.testing.assert_array_equal(copy(X), model(X))
    if how == "SavedModel":
        _check_serving(model, str(tmp_path / name))

    # The state is in the right place, not merely in the list of weights: the gradients are equal as well.
    gradients = []
    for each in (model, copy):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(each(X)))
        gradients.append(tape.gradient(loss, each.trainable_weights))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _check_serving(model, path):
    """The graph in the file needs none of our classes."""
    served = tf.saved_model.load(path).signatures["serving_default"]
    (output,) = served(tf.constant(X)).values()
    np.testing.assert_array_equal(output, model(X))


def test_arguments_survive():
    """Also those that are no weights, in the legacy format of .h5 as well as in the present one."""
    quantizer = RSign(axis=1, alpha_initializer="ones", alpha_regularizer="l2", alpha_constraint="non_neg")
    layer = lq.layers.QuantConv2D(
        3, 2, data_format="channels_first", input_quantizer=quantizer, kernel_quantizer=LibraPB(k=2.0, t=3.0)
    )
    for legacy in (False, True):
        utils = tf.keras.utils.legacy if legacy else tf.keras.utils
        copy = utils.deserialize_keras_object(utils.serialize_keras_object(layer))
        rsign, libra = copy.input_quantizer, copy.kernel_quantizer
        assert (rsign.axis, libra.initial_k, libra.initial_t) == (1, 2.0, 3.0)
        assert isinstance(rsign.alpha_initializer, tf.keras.initializers.Ones)
        assert isinstance(rsign.alpha_regularizer, tf.keras.regularizers.L2)
        assert isinstance(rsign.alpha_constraint, tf.keras.constraints.NonNeg)


@pytest.mark.parametrize("make", [EDE, RSign])
def test_shared_object_is_no_silent_loss(make, tmp_path):
    """The .keras format cannot restore one object that two layers hold: loading says so."""
    one = make()
    model = tf.keras.Sequential(
        [lq.layers.QuantDense(4, input_quantizer=one, input_shape=(4,)), lq.layers.QuantDense(4, input_quantizer=one)]
    )
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=one.name):
        tf.keras.models.load_model(tmp_path / "model.keras")
