"""Runs a recipe with ``model.fit``, in a folder from which a run that was interrupted goes on exactly where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from .. import __version__
from ..util.arguments import to_python
from ..util.files import replacing
from ..util.memory import custom_gradients, release_custom_gradients
from ..util.precision import fast_precision
from ..zoo import class_names, load_weights, save_packed
from ..zoo.checkpoints.variables import latent_scope
from ..zoo.images.images import for_dataset, get_preprocessing
from .data.datasets import get_dataset, load_dataset
from .data.images import Images, as_images, batches, normalised
from .recipe import Recipe, Stage, get_recipe
from .run_folder import check_folder, check_kinds, read_json, read_plan, start, structure, working_dir, write_json
from .training.callbacks import (
    CSVHistory,
    EpochCheckpoint,
    EvaluateAt,
    FlipRatio,
    KeepSchedule,
    StopWhenDiverged,
    TensorBoardLog,
    learning_rate,
    read_history,
    writing,
)
from .training.distiller import Distiller, check_classes
from .training.logits import teacher_logits
from .training.strategies import get_strategy, is_chief, split_batches, use_sync_batch_norm

if TYPE_CHECKING:
    from .backend.stage import LoweredStage

log = logging.getLogger(__name__)

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16", "float64")

Change = Callable[[tf.keras.Model], tf.keras.Model]
"""Gets a network as a recipe builds it; returns the one to train in its place, with other layers or quantizers."""


def train(
    recipe: str | Recipe,
    output: str | Path,
    *,
    data: Sequence[Any] | None = None,
    data_dir: str | Path | None = None,
    validation: int = 0,
    limit: int | None = None,
    seed: int = 1,
    precision: str = "auto",
    strategy: str = "none",
    backend: str = "tensorflow",
    devices: int | None = None,
    prepare: str | Path | None = None,
    collect: str | Path | None = None,
    class_weight: Mapping[int, float] | None = None,
    change: Change | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Train a network by a recipe; start it, or go on with it.

    A run that is stopped at any moment and started again with the same arguments continues after its last completed
    epoch. On the same processor it ends with the weights it would have had, bit for bit, if TensorFlow has as many
    threads, which it takes from the processors that it may use. For GPUs TensorFlow promises that only after
    ``tf.config.experimental.enable_op_determinism()``.

    Args:
        recipe: A name from `list_recipes`, or a `Recipe`.
        output: The run's folder, new or that of the same run. It will hold ``run.json`` (what is run, and where it was
            begun), ``history.csv``, ``checkpoints/``, ``tensorboard/`` and, at the end, ``model.keras``,
            ``model.onebit`` and ``record.json``; with validation images also ``best.weights.h5``.
        data: ``(training, test)`` or ``(training, validation, test)`` instead of the recipe's dataset, each a pair of
            arrays, images (n, h, w, c) with pixels from 0 to 255 and integer labels (n,), or a ``tf.data.Dataset`` of
            such, see `as_images`. The training images may have weights as a third part.
        data_dir: Where TensorFlow Datasets finds the dataset.
        validation: So many of the dataset's training images, the last ones, are not trained on. The network is
            evaluated on them after each epoch, as ``val_accuracy`` and so on, and on the test images only at the end.
            0: on the test images each time, as ``test_accuracy``, and none is chosen to be the best.
        limit: Use only so many training images, and as many of the others, for a trial. Larger batches shrink to it.
        seed: Decides initial weights, order and augmentation; from 0 to 2**31 - 1.
        precision: ``"float32"``, ``"mixed_bfloat16"``, ``"mixed_float16"`` or ``"float64"``; ``"auto"`` is what a run
            was started with, and for a new one `fast_precision`. The record's figures are measured in float32, of
            float64 runs in float64; the history's are those of the run.
        strategy: ``"none"``, ``"mirrored"`` or ``"multiworker"``, see `get_strategy`; for TensorFlow.
        backend: What runs the epochs: ``"tensorflow"``, by ``fit``, or ``"jax"``, with the same step, lowered by
            TensorFlow. A run's images come in the same order under both; the augmentations' random numbers differ.
        devices: How many of JAX's devices share each batch; all by default.
        prepare: Instead of training, write the next stage as a job into this new folder, for JAX on a machine without
            TensorFlow: ``python FOLDER/run.py`` trains it there.
        collect: Take what a job has done from its folder into the run's; then conclude the run, or, if there is a next
            stage, prepare it beside that folder, with the stage's name appended.
        class_weight: What the loss of each class's images is multiplied by, as in ``fit``; 1 for classes it lacks.
        change: Called with the network of each stage; returns the one to train in its place, such as that of
            `onebit.zoo.replace_layers`. The layers that stay must keep their names. The run, its record and its packed
            file then are not those of the recipe's own network.
        callbacks: More of them, for each stage: they see an epoch's figures, those of the evaluation included, before
            its checkpoint is written. They are no part of what tells two runs apart, and start anew in a continued run.
            One that stops the training ends the stage; the record is of the weights that it leaves.
        verbose: As in ``fit``.
        **settings: Settings of the recipe to change, such as ``epochs=30``.

    Returns:
        The run's record, which is also in ``record.json``; or, where a job was prepared, ``{"prepared": FOLDER}``, and
        where a collected job is not at its end, ``{"collected": EPOCHS}``.

    Raises:
        ImportError: JAX is not installed.
        MemoryError: The devices' memory does not suffice.
        ValueError: There is no such recipe or setting, a value does not suit, a callback sets the learning rate, or the
            folder holds another run or the damaged remains of this one.
        FileNotFoundError: The data is missing.
        OSError: A file cannot be read or written.
        DivergedError: The loss or a weight became infinite or NaN.
    """
    if isinstance(recipe, str):
        recipe = get_recipe(recipe, **settings)
    elif settings:
        raise ValueError(f"Settings such as {next(iter(settings))!r} are for a recipe given by its name.")
    seed, validation, limit = map(to_python, (seed, validation, limit))
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    if prepare is not None or collect is not None:
        backend = "jax"
    _check_backend(backend, strategy, devices)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise ValueError(f"seed must be an integer from 0 to {2**31 - 1}, not {seed!r}.")
    if type(validation) is not int or validation < 0 or (validation and data is not None):
        raise ValueError(
            f"validation must be a number of the dataset's training images, not {validation!r}. "
            "Images of your own are given as data=(training, validation, test)."
        )
    if limit is not None:
        if type(limit) is not int or limit < 1:
            raise ValueError(f"limit must be an integer, at least 1, not {limit!r}.")
        recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, limit))
    for callback in callbacks:
        if not isinstance(callback, tf.keras.callbacks.Callback):
            raise ValueError(
                f"callbacks must be callbacks of tf.keras, not {callback!r}. The package keras, imported by itself, is "
                "Keras 3."
            )
    if data is not None:
        _check_teacher(recipe)
    output, chief = Path(output), is_chief(strategy)
    check_kinds(output)
    if precision == "auto":
        # Of what is no precision there can be no run: `check_folder` will say so.
        found = read_plan(output).get("precision")
        precision = found if found in PRECISIONS else fast_precision()
    started = time.perf_counter()
    scope = get_strategy(strategy).scope()  # before any tensor is made
    given = _open(data, limit) if data is not None else None
    if given:
        classes, shape = _extent(given)
    else:
        classes, shape = get_dataset(recipe.dataset).num_classes, get_dataset(recipe.dataset).image_shape
    weights = _class_weights(class_weight, classes)
    registered = custom_gradients()
    try:
        with latent_scope(), _computing_in(precision):
            plan = {
                "recipe": recipe.name,
                "settings": dict(recipe.settings),
                "data": "given" if given else recipe.dataset,
                **({"given": [images.describe() for images in given]} if given else {}),
                **({"validation": validation} if validation else {}),
                **({"class_weight": {str(label): weights[label] for label in sorted(weights)}} if weights else {}),
                **({"changed": _name(change)} if change or recipe.is_changed else {}),
                "networks": [structure(_built(recipe, stage, change, classes, shape)) for stage in recipe.stages],
                "limit": limit,
                "seed": seed,
                "precision": precision,
                "strategy": strategy,
                **({} if backend == "tensorflow" else {"backend": backend}),
            }
            check_folder(output, plan, chief)
            if (output / "record.json").exists():
                return read_json(output / "record.json")
            verbose = verbose if chief else 0
            if verbose:
                print(f"{recipe.name} on {plan['data']} in {precision}, to {output}", flush=True)
            images = given or load_dataset(recipe.dataset, data_dir, limit, validation)
            _check_lengths(recipe, images[0].count)
            with working_dir(output, chief) as folder, scope:
                check_folder(output, plan, chief)  # again: until now another process may have begun a run there
                start(folder, plan)
                job = _job(plan, prepare, collect)
                run = _Run(recipe, folder, images, seed, change, weights, callbacks, verbose, backend, devices, job)
                model = run.train()
                if model is None:
                    return dict(job.outcome) if job else {}
                return run.save_results(model, plan, time.perf_counter() - started)
    finally:
        release_custom_gradients(keep=registered)


def _check_backend(backend: str, strategy: str, devices: int | None) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, not {backend!r}.")
    if backend == "tensorflow":
        if devices is not None:
            raise ValueError(f"devices={devices} is for backend='jax'; TensorFlow has strategy='mirrored'.")
        return
    if strategy != "none":
        raise ValueError(f"strategy must be 'none' with backend='jax', which has devices, not {strategy!r}.")
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise ImportError("backend='jax' needs JAX: install onebit-zoo[jax].") from error


@dataclasses.dataclass
class _Job:
    """What a run is to do with stages that are trained elsewhere.

    Attributes:
        plan: The run's.
        prepare, collect: The folders of jobs to write and to read, if any.
        outcome: What was done.
    """

    plan: Mapping[str, Any]
    prepare: Path | None
    collect: Path | None
    outcome: dict[str, Any] = dataclasses.field(default_factory=dict)


def _job(plan: Mapping[str, Any], prepare: str | Path | None, collect: str | Path | None) -> _Job | None:
    if prepare is None and collect is None:
        return None
    if prepare is not None and collect is not None:
        raise ValueError("prepare and collect must not both be given: collect prepares the next stage by itself.")
    return _Job(plan, None if prepare is None else Path(prepare), None if collect is None else Path(collect))


def _check_teacher(recipe: Recipe) -> None:
    """Raise `ValueError` where a teacher of other classes would teach: that which the recipe has for its dataset."""
    teacher = recipe.settings.get("teacher")
    if teacher is not None and "teacher" not in recipe.given and any(stage.teachers for stage in recipe.stages):
        raise ValueError(
            f"teacher must be given with data: the recipe's own, {teacher!r}, was trained for the classes of "
            f"{recipe.dataset}. If these are the classes of your images, in the same order, say teacher={teacher!r}."
        )


def _open(data: Sequence[Any], limit: int | None) -> tuple[Images, ...]:
    """Return the training, perhaps validation, and test images of a run that was given some."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError("data must be (training, test) or (training, validation, test).")
    images = tuple(as_images(part, limit) for part in data)
    if len({part.shape for part in images}) > 1:
        shapes = " and ".join(str(part.shape) for part in images)
        raise ValueError(f"Training and test images must have the same shape, not {shapes}.")
    training = images[0]
    labels, expected = training.labels or set(), set(range(training.num_classes))
    if len(labels) == 1:
        raise ValueError(f"The training images must be of two classes or more, but all their labels are {min(labels)}.")
    if 0 not in labels:
        raise ValueError(
            f"Labels count from 0, but those of the training images are from {min(labels)} to {max(labels)}: take "
            f"{min(labels)} off each."
        )
    if limit is None and (missing := sorted(expected - labels)):
        log.warning("No training image has a label among %s: the network has classes that it cannot learn.", missing)
    if (largest := max(part.num_classes for part in images)) > training.num_classes:
        raise ValueError(
            f"A label of the other images is {largest - 1}, but those of the training images end at "
            f"{training.num_classes - 1}."
        )
    return images


def _extent(images: Sequence[Images]) -> tuple[int, tuple[int, ...]]:
    return images[0].num_classes, images[0].shape


def _class_weights(given: Mapping[int, float] | None, classes: int) -> dict[int, float]:
    weights = {to_python(label): to_python(weight) for label, weight in (given or {}).items()}
    for label, weight in weights.items():
        if label not in range(classes) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(
                f"class_weight must map labels from 0 to {classes - 1} to numbers from 0 on, not {label!r} to "
                f"{weight!r}."
            )
    return {int(label): float(weight) for label, weight in weights.items()}


def _check_lengths(recipe: Recipe, images: int) -> None:
    if not 1 <= recipe.batch_size <= images:
        raise ValueError(
            f"batch_size must be at least 1, and at most the {images} training images, not {recipe.batch_size}."
        )
    for stage in recipe.stages:
        if stage.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {stage.epochs} (stage {stage.name!r}).")


def _name(change: Change | None) -> str:
    return "stages" if change is None else getattr(change, "__qualname__", type(change).__qualname__)


def _built(recipe: Recipe, stage: Stage, change: Change | None, classes: int, shape: tuple[int, ...]) -> tf.keras.Model:
    """Return a stage's untrained network."""
    try:
        network = stage.build(classes, shape)
    except TypeError as error:  # an argument that the network's function does not take
        raise ValueError(f"The recipe {recipe.name!r} is not for this network: {error}") from error
    if change is None:
        return network
    changed = change(network)
    if not isinstance(changed, tf.keras.Model) or changed.output_shape != network.output_shape:
        raise ValueError(f"change must return a tf.keras model of outputs {network.output_shape}, not {changed!r}.")
    # The zoo knows how the original was made, which would not build this one.
    return tf.keras.Model(changed.inputs, changed.outputs, name=changed.name)


@contextlib.contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Let what is built meanwhile compute in a precision."""
    before = tf.keras.mixed_precision.global_policy(), tf.keras.backend.floatx()
    try:
        tf.keras.backend.set_floatx("float64" if precision == "float64" else "float32")
        tf.keras.mixed_precision.set_global_policy(precision)
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before[0])
        tf.keras.backend.set_floatx(before[1])


class _Run:
    """One run of a recipe in its folder."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        images: Sequence[Images],
        seed: int,
        change: Change | None,
        class_weights: Mapping[int, float],
        callbacks: Sequence[tf.keras.callbacks.Callback],
        verbose: int | str,
        backend: str,
        devices: int | None,
        job: _Job | None,
    ) -> None:
        self.backend, self.devices, self.job = backend, devices, job
        self.recipe, self.output, self.seed, self.change = recipe, output, seed, change
        self.callbacks, self.verbose = callbacks, verbose
        self.training, self.test_images = images[0], images[-1].count
        self.classes, self.shape = _extent(images)
        table = [class_weights.get(label, 1.0) for label in range(self.classes)]
        self.class_weights = tf.constant(table) if class_weights else None
        self.preprocessing = get_preprocessing(recipe.preprocessing)
        self.normalise = lambda dataset: normalised(dataset, self.preprocessing)
        self.measured_images = images[1]
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        measured = [self.normalise(part.in_order(250)).prefetch(2).with_options(options) for part in images[1:]]
        self.validation, self.test = (measured[0] if len(measured) > 1 else None), measured[-1]

    def train(self) -> tf.keras.Model | None:
        """Run the stages that are not complete, and return the last one's network; none if a stage is left to a job."""
        names = [stage.name for stage in self.recipe.stages]
        found = [row["stage"] for row in read_history(self.output / "history.csv")]
        if not set(found) <= set(names) or found != sorted(found, key=names.index):
            raise ValueError(
                f"{self.output / 'history.csv'} must have the stages {', '.join(names)} in this order. Choose another "
                "output folder."
            )
        model = None
        for index, stage in enumerate(self.recipe.stages):
            # Not only fit must be deterministic, but also what a stage that is already complete leaves behind.
            tf.keras.utils.set_random_seed(self.seed + index)
            previous, model = model, self._build(stage)
            if not self._run(stage, index, model, previous):
                return None
        return model

    def _build(self, stage: Stage) -> tf.keras.Model:
        return _built(self.recipe, stage, self.change, self.classes, self.shape)

    def _run(self, stage: Stage, index: int, model: tf.keras.Model, previous: tf.keras.Model | None) -> bool:
        """Run a stage, and return whether it has come to its end."""
        use_sync_batch_norm(model)
        steps = self.training.count // self.recipe.batch_size
        optimizer = stage.optimizer(steps)
        self._check_callbacks(optimizer)
        if tf.keras.mixed_precision.global_policy().name == "mixed_float16":
            # Keras would do so, but then only itself know of the loss' scale, which belongs into the checkpoints.
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        history = CSVHistory(self.output / "history.csv", stage.name)
        folder = self.output / "checkpoints" / f"{index + 1}-{stage.name}"
        checkpoint = EpochCheckpoint(folder, model, optimizer, history, self.output / "best.weights.h5")
        checkpoint.restore()
        done = checkpoint.epoch
        if not done and stage.init_from is not None and previous is not None:
            stage.init_from(previous, model)
        if checkpoint.ended or done >= stage.epochs:
            return True
        if self.verbose and (done or len(self.recipe.stages) > 1):
            print(f"Stage {stage.name}: epochs {done + 1} to {stage.epochs}", flush=True)
        trained, training = model, self._batches(stage, done)
        if stage.teachers:
            trained, training = self._distiller(stage, model, training)
        trained.compile(optimizer, stage.loss, metrics=self._metrics())
        finish = _Finish(stage, model, self)
        prefix = "test" if self.validation is None else "val"
        log = TensorBoardLog(str(self.output / "tensorboard" / stage.name), write_graph=False)
        if self.backend == "tensorflow":
            measured = self.test if self.validation is None else self.validation
            evaluate = functools.partial(tf.keras.Model.evaluate, x=measured, verbose=0, return_dict=True)
            fit = functools.partial(
                trained.fit,
                split_batches(training, self.recipe.batch_size),
                epochs=stage.epochs,
                initial_epoch=done,
                steps_per_epoch=steps,
                verbose=self.verbose,
            )
        else:
            lowered = self._lowered(stage, trained, model)
            if self.job is not None:
                return self._by_job(self.job, stage, lowered, trained, done, prefix, [finish, history, checkpoint, log])
            evaluate = functools.partial(lowered.evaluate, images=self.measured_images)
            fit = functools.partial(lowered.fit, self.devices, done, verbose=self.verbose)
        fit(
            callbacks=[
                *stage.callbacks(model),
                FlipRatio(),
                finish,
                EvaluateAt(evaluate, stage.milestones, prefix),
                StopWhenDiverged(),
                *self.callbacks,
                KeepSchedule(),
                history,
                checkpoint,
                log,
            ]
        )
        if self.callbacks:  # which may have stopped the training, and changed the weights since the last checkpoint
            finish.run()
            checkpoint.end()
        return True

    def _lowered(self, stage: Stage, trained: tf.keras.Model, model: tf.keras.Model) -> LoweredStage:
        from .backend.stage import LoweredStage

        return LoweredStage(
            stage,
            trained,
            model,
            self.training,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            preprocessing=self.preprocessing,
            class_weights=self.class_weights,
        )

    def _by_job(
        self,
        job: _Job,
        stage: Stage,
        lowered: LoweredStage,
        trained: tf.keras.Model,
        done: int,
        prefix: str,
        callbacks: Sequence[tf.keras.callbacks.Callback],
    ) -> bool:
        """Collect a stage's job or prepare one, and return whether the stage has come to its end."""
        about = {**job.plan, "stage": stage.name}
        if job.collect is None:
            assert job.prepare is not None
            lowered.prepare(job.prepare, about, done, {prefix: self.measured_images})
            job.outcome.update(prepared=str(job.prepare))
            return False
        rows = lowered.collect(job.collect, about, done)
        finish, history, checkpoint, log = callbacks
        calls = tf.keras.callbacks.CallbackList([finish, history, log], model=trained)
        checkpoint.set_model(trained)
        trained.stop_training = False
        calls.on_train_begin()
        for row in rows:
            epoch = row.pop("epoch") - 1
            calls.on_epoch_begin(epoch)
            calls.on_epoch_end(epoch, row)
        checkpoint.on_epoch_end(epoch, row)
        calls.on_train_end()
        if epoch + 1 < stage.epochs:
            job.outcome.update(collected=epoch + 1)
            return False
        # The next stage, if there is one, is a job as well.
        job.prepare, job.collect = job.collect.with_name(f"{job.collect.name}-{self._after(stage)}"), None
        return True

    def _after(self, stage: Stage) -> str:
        names = [each.name for each in self.recipe.stages]
        return names[min(names.index(stage.name) + 1, len(names) - 1)]

    def _device(self) -> str:
        from .backend.runner import describe

        return describe(self.devices)

    def _check_callbacks(self, optimizer: tf.keras.optimizers.Optimizer) -> None:
        """Raise `ValueError` where Keras' callbacks would set a learning rate in vain."""
        kinds = (tf.keras.callbacks.LearningRateScheduler, tf.keras.callbacks.ReduceLROnPlateau)
        scheduled = isinstance(optimizer._learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule)
        for callback in self.callbacks:
            if scheduled and isinstance(callback, kinds):
                raise ValueError(
                    f"callbacks must not set the learning rate, as {type(callback).__name__} does: the recipe's "
                    "schedule decides it, batch by batch. Change the recipe's settings, such as lr, or its stages' "
                    "optimizer."
                )

    def _distiller(
        self, stage: Stage, model: tf.keras.Model, training: tf.data.Dataset
    ) -> tuple[Distiller, tf.data.Dataset]:
        """Return a network with its teachers, and the batches to train it on."""
        teachers = [build(self.classes, self.shape) for build in stage.teachers]
        for teacher in teachers:
            check_classes(model, teacher)
        cached = stage.repeats and self.backend == "tensorflow"  # JAX's step has the teachers in it
        if cached:
            training = teacher_logits(teachers, self._batches(stage, 0, 1)).repeat()
        distiller = Distiller(
            model,
            None if cached else teachers,
            teacher_weights=stage.teacher_weights,
            distillation_loss=stage.distillation_loss,
            temperature=stage.temperature,
            label_weight=stage.label_weight,
            features=stage.features,
            feature_loss=stage.feature_loss,
            feature_weight=stage.feature_weight,
        )
        use_sync_batch_norm(distiller)
        return distiller, training

    def _metrics(self) -> list[tf.keras.metrics.Metric]:
        """Return what is reported besides the loss; the five best classes where there are more than CIFAR-10's ten."""
        # An object, not "accuracy", which would make variables in the first batch and have all of it traced twice.
        metrics = [tf.keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if self.classes > 10:
            metrics.append(tf.keras.metrics.SparseTopKCategoricalAccuracy(5, "top5"))
        return metrics

    def _batches(self, stage: Stage, first_epoch: int, epochs: int | None = None) -> tf.data.Dataset:
        found = self.normalise(
            batches(
                self.training,
                batch_size=self.recipe.batch_size,
                epochs=stage.epochs if epochs is None else epochs,
                initial_epoch=first_epoch,
                seed=self.seed,
                augment=stage.augment,
                crop=stage.crop,
            )
        )
        if self.class_weights is None:
            return found

        def weighted(images: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_class = tf.gather(self.class_weights, labels)
            return images, labels, of_class * weights[0] if weights else of_class

        return found.map(weighted)

    def _measured(self, model: tf.keras.Model, images: tf.data.Dataset) -> dict[str, float]:
        model.compile(loss=self.recipe.stages[-1].loss, metrics=self._metrics())
        found = model.evaluate(images, verbose=0, return_dict=True)
        top5 = {"top5": 100 * found["top5"]} if "top5" in found else {}
        return {"top1": 100 * found["accuracy"], **top5, "loss": found["loss"]}

    @contextlib.contextmanager
    def _as_saved(self, model: tf.keras.Model, pack: Callable[[Path], Any]) -> Iterator[tf.keras.Model]:
        """Yield the network as its packed file computes in float32, or in float64 as it is."""
        if tf.keras.mixed_precision.global_policy().name in ("float32", "float64"):
            yield model
            return
        with _computing_in("float32"), tempfile.TemporaryDirectory() as folder:
            network = self._build(self.recipe.stages[-1])
            pack(Path(folder) / "model.onebit")
            try:
                load_weights(network, Path(folder) / "model.onebit")
            except ValueError:  # its layers are named anew whenever it is built
                network.set_weights(model.get_weights())
            yield network

    def save_results(self, model: tf.keras.Model, plan: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Save the trained network, and write the record."""
        rows = read_history(self.output / "history.csv")
        source = f"onebit train {plan['recipe']}" + (f", changed by {plan['changed']}" if "changed" in plan else "")

        def pack(path: Path, metrics: Mapping[str, Any] | None = None) -> None:
            save_packed(
                model,
                path,
                source=source,
                metrics=metrics and dict(metrics),
                preprocessing=for_dataset(self.recipe.preprocessing, plan["data"]),
                class_names=class_names(plan["data"]),
            )

        with self._as_saved(model, pack) as network:
            test = {**self._measured(network, self.test), "images": self.test_images}
            validation = {} if self.validation is None else {"val": self._measured(network, self.validation)}
        top5 = {"top5": test["top5"]} if "top5" in test else {}
        record = {
            **plan,
            **validation,
            "test": test,
            "parameters": model.count_params(),
            "training_images": self.training.count,
            "seconds": round(sum(row["seconds"] for row in rows), 1),
            "seconds_of_last_session": round(seconds, 1),
            "versions": {
                "onebit": __version__,
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "numpy": np.__version__,
            },
            **({} if self.backend == "tensorflow" else {"device": self._device()}),
            "history": rows,
        }
        model.trainable = True  # whoever fine-tunes the network would not know of layers that the last stage froze
        with writing(self.output / "model.keras"), replacing(self.output / "model.keras") as temporary:
            # Not compiled: the optimizer's rate has fallen to next to nothing.
            tf.keras.Model(model.inputs, model.outputs, name=model.name).save(temporary)
        with writing(self.output / "model.onebit"):
            pack(self.output / "model.onebit", {"top1": test["top1"], **top5, "dataset": plan["data"]})
        write_json(self.output / "record.json", record)
        return record


class _Finish(tf.keras.callbacks.Callback):
    """Does what a stage asks for after its last epoch, before the network is evaluated and checkpointed.

    It also notes the learning rate for the history, before other callbacks see the epoch's figures.
    """

    def __init__(self, stage: Stage, model: tf.keras.Model, run: _Run) -> None:
        super().__init__()
        self.stage, self.network, self._run, self._done = stage, model, run, False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.setdefault("learning_rate", learning_rate(self.model))  # a job's epochs bring their own
        if epoch + 1 == self.stage.epochs:
            self.run()

    def run(self) -> None:
        """Do it, unless it is done: a callback may have stopped the training before the last epoch."""
        if self.stage.finish is not None and not self._done:
            # An epoch beyond the training's: other images than those of the last one.
            self.stage.finish(self.network, self._run._batches(self.stage, self.stage.epochs, self.stage.epochs + 1))
        self._done = True
