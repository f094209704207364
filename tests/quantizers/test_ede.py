"""EDE's schedule, and the callback that moves every (k, t) of a model by it."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from onebit.quantizers import EDE, EDESchedule, LibraPB, ede_schedule


def test_ends_of_the_published_schedules():
    assert ede_schedule(0, epochs=400, t_min=1e-3) == pytest.approx((1000.0, 1e-3))
    assert ede_schedule(0, epochs=300) == pytest.approx((10.0, 0.1))
    assert ede_schedule(300, epochs=400, t_min=1e-3) == pytest.approx((1.0, 1.0))
    assert ede_schedule(400, epochs=400, t_min=1e-3) == pytest.approx((1.0, 10.0))


@pytest.mark.parametrize(
    "arguments",
    [{"epochs": 0}, {"epochs": float("nan")}, {"epoch": -1}, {"epoch": 6}, {"t_min": 0.0}, {"t_max": float("inf")}],
)
def test_schedule_errors(arguments):
    [(name, value)] = arguments.items()
    with pytest.raises(ValueError, match=rf"{name}.*{value}"):
        ede_schedule(**{"epoch": 0, "epochs": 5, **arguments})
    if name != "epoch":
        with pytest.raises(ValueError, match=name):
            EDESchedule(**{"epochs": 5, **arguments})


def _model():
    """Return a subclassed model, which Keras builds in the first batch only, around a nested one."""

    class Model(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = tf.keras.Sequential(
                [tf.keras.Sequential([lq.layers.QuantDense(3, input_quantizer="ede", input_shape=(3,))])]
            )
            self.outer = [lq.layers.QuantDense(3, kernel_quantizer=LibraPB(), input_quantizer=EDE(k=1, t=2))]

        def call(self, inputs):
            return self.outer[0](self.inner(inputs))

    model = Model()
    model.compile("sgd", "mse", run_eagerly=True)
    inner = model.inner.layers[0].layers[0]
    return model, [inner.input_quantizer, model.outer[0].input_quantizer, model.outer[0].kernel_quantizer]


def _fit(model, quantizers, schedule, **kwargs):
    """Return the (k, t) of each quantizer while each epoch trains."""
    seen = []
    record = tf.keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: seen.append([(float(q.k), float(q.t)) for q in quantizers])
    )
    x = np.ones((2, 3))
    model.fit(x, x, verbose=0, callbacks=[schedule, record], **kwargs)
    return seen


@pytest.mark.slow
def test_moves_every_quantizer():
    model, quantizers = _model()
    seen = _fit(model, quantizers, EDESchedule(4, t_min=1e-2, t_max=1e2), epochs=6)
    expected = [(100, 0.01), (10, 0.1), (1, 1), (1, 10), (1, 100), (1, 100)]
    np.testing.assert_allclose(seen, [[e] * 3 for e in expected], rtol=1e-6)


@pytest.mark.slow
def test_resumes():
    model, quantizers = _model()
    whole = _fit(model, quantizers, EDESchedule(5), epochs=5)
    model, quantizers = _model()
    parts = _fit(model, quantizers, EDESchedule(5), epochs=2)
    parts += _fit(model, quantizers, EDESchedule(5), epochs=5, initial_epoch=2)
    assert parts == whole and len(whole) == 5


@pytest.mark.slow
def test_state_stays_without_the_callback():
    model, quantizers = _model()
    for q in quantizers:
        q.k.assign(5.0)
    x = np.ones((2, 3))
    model.fit(x, x, verbose=0)
    assert [float(q.k) for q in quantizers] == [5.0] * 3
    assert all(not q.trainable_weights and len(q.non_trainable_weights) == 2 for q in quantizers)


def test_a_model_without_such_quantizers():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))], name="plain")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="plain"):
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0, callbacks=[EDESchedule(5)])
