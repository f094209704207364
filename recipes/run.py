"""One run of a recipe in its folder: its stages, one after the other, and what is saved in the end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from .. import __version__
from ..util.files import replacing
from ..util.machine import processor
from ..zoo import class_names, load_weights, save_packed
from ..zoo.checkpoints.variables import check_keras_2
from ..zoo.images.images import for_dataset, get_preprocessing
from .data.images import Images, batches, normalised
from .recipe import Recipe, Stage
from .run_folder import write_json
from .training.callbacks import EvaluateAt, FlipRatio, KeepSchedule, StopWhenDiverged, learning_rate
from .training.distiller import Distiller, check_classes
from .training.logits import teacher_logits
from .training.records import CSVHistory, EpochCheckpoint, TensorBoardLog, read_history, writing
from .training.strategies import split_batches, use_sync_batch_norm

if TYPE_CHECKING:
    from .backend.stage import LoweredStage

Change = Callable[[tf.keras.Model], tf.keras.Model]
"""Gets a network as a recipe builds it; returns the one to train in its place, with other layers or quantizers."""


@dataclasses.dataclass
class Job:
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


def build_network(
    recipe: Recipe, stage: Stage, change: Change | None, classes: int, shape: tuple[int, ...]
) -> tf.keras.Model:
    """Return a stage's untrained network."""
    try:
        network = stage.build(classes, shape)
    except TypeError as error:  # an argument that the network's function does not take
        raise ValueError(f"The recipe {recipe.name!r} is not for this network: {error}") from error
    changed = network if change is None else change(network)
    if not isinstance(changed, tf.keras.Model) or changed.output_shape != network.output_shape:
        raise ValueError(f"change must return a tf.keras model of outputs {network.output_shape}, not {changed!r}.")
    check_keras_2(changed)
    if change is None:
        return network
    # The zoo knows how the original was made, which would not build this one.
    return tf.keras.Model(changed.inputs, changed.outputs, name=changed.name)


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let what is built meanwhile compute in a precision."""
    before = tf.keras.mixed_precision.global_policy(), tf.keras.backend.floatx()
    try:
        tf.keras.backend.set_floatx("float64" if precision == "float64" else "float32")
        tf.keras.mixed_precision.set_global_policy(precision)
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before[0])
        tf.keras.backend.set_floatx(before[1])


@dataclasses.dataclass(eq=False)
class Run:
    """One run of a recipe in its folder; see `train` for what it is given.

    Attributes:
        images: Training, perhaps validation, and test images.
    """

    recipe: Recipe
    output: Path
    images: Sequence[Images]
    seed: int
    change: Change | None
    weights_of_classes: Mapping[int, float]
    callbacks: Sequence[tf.keras.callbacks.Callback]
    verbose: int | str
    backend: str
    devices: int | None
    job: Job | None

    def __post_init__(self) -> None:
        images, class_weights = self.images, self.weights_of_classes
        self.training, self.test_images = images[0], images[-1].count
        self.classes, self.shape = images[0].num_classes, images[0].shape
        table = [class_weights.get(label, 1.0) for label in range(self.classes)]
        self.class_weights = tf.constant(table) if class_weights else None
        self.preprocessing = get_preprocessing(self.recipe.preprocessing)
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
        return build_network(self.recipe, stage, self.change, self.classes, self.shape)

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
        job: Job,
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
        if self.backend == "jax":
            from .backend.runner import describe

            return describe(self.devices)
        details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
        names = [each.get("device_name", "GPU") for each in details]
        return f"{len(names)} x {names[0]}" if names else processor()

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
        with computing_in("float32"), tempfile.TemporaryDirectory() as folder:
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
            "device": self._device(),
            "history": rows,
        }
        model.trainable = True  # whoever fine-tunes the network would not know of layers that the last stage froze
        with writing(self.output / "model.keras"), replacing(self.output / "model.keras") as temporary:
            # Not compiled: the optimizer's rate has fallen to next to nothing.
            tf.keras.Model(model.inputs, model.outputs, name=model.name).save(temporary)
        with writing(self.output / "model.onebit"):
            accuracies = {name: test[name] for name in test if name in ("top1", "top5")}
            pack(self.output / "model.onebit", {**accuracies, "dataset": plan["data"]})
        write_json(self.output / "record.json", record)
        return record


class _Finish(tf.keras.callbacks.Callback):
    """Does what a stage asks for after its last epoch, before the network is evaluated and checkpointed.

    It also notes the learning rate for the history, before other callbacks see the epoch's figures.
    """

    def __init__(self, stage: Stage, model: tf.keras.Model, run: Run) -> None:
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
