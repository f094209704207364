"""``fit`` by JAX: Keras keeps the variables and calls the callbacks, JAX runs the epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...zoo.checkpoints.variables import binary_kernels
from ..data.augmentation import Crop
from .lowering import lower
from .runner import Program, Runner, batch_seeds

Prepare = Callable[[tuple[tf.Tensor, ...], tf.Tensor], tuple[tf.Tensor, ...]]
"""Gets a batch as it is stored (images, labels and perhaps weights) and a seed (2,); returns what ``fit`` is given."""


class _GivenRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """The rate that the step is called with."""

    def __init__(self, rate: tf.Tensor) -> None:
        self.rate = rate

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.rate

    def get_config(self) -> dict[str, Any]:
        return {}


@contextlib.contextmanager
def _given_rate(optimizer: tf.keras.optimizers.Optimizer, rate: tf.Tensor) -> Iterator[None]:
    # A schedule of Keras' own is float32 in a float64 network, too.
    dtype = getattr(optimizer, "_current_learning_rate", rate).dtype
    kept, optimizer._learning_rate = optimizer._learning_rate, _GivenRate(tf.cast(rate, dtype))
    try:
        yield
    finally:
        optimizer._learning_rate = kept


def innermost(optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
    """Return the optimizer that another one scales the loss for, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def lower_training(
    trained: tf.keras.Model, parts: Sequence[tf.TensorSpec], prepare: Prepare
) -> tuple[Program, list[tf.Variable | np.ndarray]]:
    """Lower a compiled model's training step: what ``fit`` does with a batch.

    Args:
        trained: A compiled Keras model whose optimizer is built.
        parts: A batch as it is stored: images, labels and perhaps weights.
        prepare: Augmentation and normalisation.

    Returns:
        A program of these parts, a seed (2,), int64, and a learning rate, whose results are what ``train_step``
        returns, and its state, see `lower`.
    """
    optimizer = innermost(trained.optimizer)

    def step(*batch: tf.Tensor) -> dict[str, tf.Tensor]:
        *stored, seed, rate = batch
        with _given_rate(optimizer, rate):
            return trained.train_step(prepare(tuple(stored), seed))

    rest = [tf.TensorSpec([2], tf.int64), tf.TensorSpec([], tf.keras.backend.floatx())]
    return lower(step, [*parts, *rest], lambda: variable_names(trained))


def lower_evaluation(
    model: tf.keras.Model,
    images: tf.TensorSpec,
    prepare: Callable[[tf.Tensor], tf.Tensor],
    loss: tf.keras.losses.Loss | str,
) -> tuple[Program, list[tf.Variable | np.ndarray]]:
    """Lower what ``evaluate`` does with a batch.

    Returns:
        A program of (images, labels (b,) int64, weights (b,) float32: 0 for images that do not count), whose results
        are sums over the batch: ``loss``, ``accuracy`` and, beyond ten classes, ``top5``; and its state.
    """
    each = tf.keras.losses.get(loss)
    each = each.call if isinstance(each, tf.keras.losses.Loss) else each
    more = model.output_shape[-1] > 10

    def step(pixels: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.cast(model(prepare(pixels), training=False), tf.float32)
        figures = {"loss": tf.cast(each(labels, scores), tf.float32)}
        figures["accuracy"] = tf.keras.metrics.sparse_categorical_accuracy(labels, scores)
        if more:
            figures["top5"] = tf.keras.metrics.sparse_top_k_categorical_accuracy(labels, scores, 5)
        return {name: tf.reduce_sum(tf.where(weights > 0, value, 0)) for name, value in figures.items()}

    batch = [
        images,
        tf.TensorSpec(images.shape[:1], tf.int64),
        tf.TensorSpec(images.shape[:1], tf.float32),
    ]
    return lower(step, batch, lambda: variable_names(model))


def lower_signs(model: tf.keras.Model) -> Program | None:
    """Lower what `FlipRatio` compares from epoch to epoch, the signs of each binary kernel, where there are any."""
    kernels = binary_kernels(model)
    if not kernels:
        return None

    def signs() -> dict[str, tf.Tensor]:
        return {name: kernel.signs(kernel.variable) for name, kernel in kernels.items()}

    return lower(signs, [], lambda: variable_names(model))[0]


def lower_crop(crop: Crop, shape: Sequence[int]) -> Program:
    """Lower a crop to ``shape`` (height, width, ...), as `ImageFolder` takes it."""
    size = (shape[0], shape[1])

    def box(pixels: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        (top, left), (height, width) = map(tf.unstack, crop(pixels, size, seed))
        return {"top": top, "left": left, "height": height, "width": width}

    return lower(box, [tf.TensorSpec([2], tf.int32), tf.TensorSpec([2], tf.int64)], dict)[0]


def variable_names(trained: tf.keras.Model) -> dict[int, str]:
    """Return a name for each variable of a model, its optimizer and its metrics, by the ``id`` of its handle."""
    optimizer = getattr(trained, "optimizer", None)
    metrics = [variable for metric in getattr(trained, "metrics", []) for variable in metric.variables]
    # A metric may be among a model's weights: it is a metric's.
    groups = {"network": trained.weights, "optimizer": optimizer.variables if optimizer else [], "metrics": metrics}
    return {id(v.handle): f"{group}/{i}" for group, variables in groups.items() for i, v in enumerate(variables)}


def learning_rates(optimizer: tf.keras.optimizers.Optimizer, steps: int) -> Callable[[], np.ndarray]:
    """Return a function that returns the rates of the optimizer's next steps, (steps,), whenever it is called."""
    inner, dtype = innermost(optimizer), tf.keras.backend.floatx()

    @tf.function
    def scheduled(first: tf.Tensor) -> tf.Tensor:
        # One by one: a schedule need not take vectors.
        numbers = first + tf.range(steps, dtype=first.dtype)
        return tf.map_fn(lambda step: tf.cast(inner._learning_rate(step), dtype), numbers, fn_output_signature=dtype)

    def following() -> np.ndarray:
        if isinstance(inner._learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
            return scheduled(tf.convert_to_tensor(inner.iterations)).numpy()
        return np.full(steps, float(inner._learning_rate), dtype)

    return following


def fit(
    trained: tf.keras.Model,
    runner: Runner,
    state: Sequence[tf.Variable | np.ndarray],
    batches: Callable[[int], Iterable[tuple[Any, ...]]],
    *,
    steps: int,
    epochs: int,
    initial_epoch: int = 0,
    seed: int = 0,
    repeats: bool = False,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> None:
    """Do what ``trained.fit`` does, with the same callbacks, the epochs being run by JAX.

    Between epochs Keras' variables hold everything, so that whatever callbacks read, set or save is the state.
    Callbacks of batches see every batch on CPUs, and elsewhere the last one of every call.

    Args:
        trained: See `lower_training`, whose program the runner runs.
        runner, state: What runs the step, and its variables.
        batches: Called with an epoch's number; yields its batches, see `Runner.epoch`.
        steps: Batches in an epoch.
        epochs, initial_epoch: The range of epochs, counted from 0.
        seed: The run's; a batch is augmented by (seed, -1 - number), the batches being numbered through the training.
        repeats: Whether every epoch is the first one's batches again.
        callbacks, verbose: As in ``fit``.
    """
    shown = 1 if verbose == "auto" else int(verbose)
    calls = tf.keras.callbacks.CallbackList(
        list(callbacks), add_progbar=shown != 0, model=trained, verbose=shown, epochs=epochs, steps=steps
    )

    def progress(done: int, results: Mapping[str, Any]) -> None:
        calls.on_train_batch_begin(done - 1)  # Keras times the callbacks
        calls.on_train_batch_end(done - 1, {name: float(value) for name, value in results.items()})

    rates = learning_rates(trained.optimizer, steps)
    trained.stop_training = False
    calls.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        trained.reset_metrics()
        calls.on_epoch_begin(epoch)
        first = 0 if repeats else epoch
        values, logs = runner.epoch(
            runner.put([v.numpy() if isinstance(v, tf.Variable) else v for v in state]),
            batches(first),
            batch_seeds(seed, first, steps),
            rates(),
            progress,
        )
        for variable, value in zip(state, runner.get(values), strict=True):
            if isinstance(variable, tf.Variable):
                variable.assign(value)
        calls.on_epoch_end(epoch, logs)
        if trained.stop_training:
            break
    calls.on_train_end()
