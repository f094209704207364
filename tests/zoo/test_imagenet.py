"""The names of ImageNet's classes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo


def test_the_most_probable_classes_come_first(monkeypatch):
    """The names come from Keras Applications, which would fetch them: here they are made up."""
    names = {str(i): (f"n{i:08d}", f"class {i}") for i in range(1000)}
    monkeypatch.setattr("tf_keras.src.applications.imagenet_utils.CLASS_INDEX", names)
    probabilities = np.zeros((2, 1000), np.float32)
    probabilities[0, [3, 7]] = 0.6, 0.4
    probabilities[1, 999] = 1
    first, second = zoo.decode_predictions(probabilities, top=2)
    assert [name for _, name, _ in first] == ["class 3", "class 7"]
    assert first[0] == ("n00000003", "class 3", pytest.approx(0.6))
    assert second[0][1] == "class 999"


@pytest.mark.parametrize(
    ("shape", "top", "message"), [((2, 10), 5, r"\(n, 1000\), not \(2, 10\)"), ((1, 1000), 0, "top")]
)
def test_bad_input_is_named(shape, top, message):
    with pytest.raises(ValueError, match=message):
        zoo.decode_predictions(tf.zeros(shape), top=top)
