"""Runs a recipe with ``model.fit``, in a folder from which a run that was interrupted goes on exactly where it was."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .. import __version__
from ..util.files import replacing
from ..util.precision import fast_precision
from ..zoo import class_names, save_packed
from ..zoo.images.images import for_dataset, get_preprocessing
from .data.datasets import load_dataset
from .data.images import Images, as_images, batches, normalised
from .recipe import Recipe, Stage, get_recipe
from .run_folder import check_folder, read_json, read_plan, start, working_dir, write_json
from .training.callbacks import CSVHistory, EpochCheckpoint, EvaluateAt, FlipRatio, StopWhenDiverged, read_history
from .training.distiller import Distiller, check_classes
from .training.logits import teacher_logits
from .training.strategies import get_strategy, is_chief, split_batches, use_sync_batch_norm

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16", "float64")


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
            begun), ``history.csv``, ``checkpoints/``, ``tensorboard/``, ``best.weights.h5`` and, at the end,
            ``model.keras``, ``model.onebit`` and ``record.json``.
        data: ``(training, test)`` or ``(training, validation, test)`` instead of the recipe's dataset, each a pair of
            arrays, images (n, h, w, c) with pixels from 0 to 255 and integer labels (n,), or a ``tf.data.Dataset`` of
            such, see `as_images`.
        data_dir: Where TensorFlow Datasets finds the dataset.
        validation: So many of the dataset's training images, the last ones, are not trained on. The network is
            evaluated on them after each epoch, and on the test images only at the end. 0: on the test images each time.
        limit: Use only so many training images, and as many of the others, for a trial. Larger batches shrink to it.
        seed: Decides initial weights, order and augmentation; from 0 to 2**31 - 1.
        precision: ``"float32"``, ``"mixed_bfloat16"``, ``"mixed_float16"`` or ``"float64"``; ``"auto"`` is what a run
            was started with, and for a new one `fast_precision`.
        strategy: ``"none"``, ``"mirrored"`` or ``"multiworker"``, see `get_strategy`.
        callbacks: More of them, for each stage: they see an epoch's figures, those of the test images included, before
            its checkpoint is written. They are no part of what tells two runs apart.
        verbose: As in ``fit``.
        **settings: Settings of the recipe to change, such as ``epochs=30``.

    Returns:
        The run's record, which is also in ``record.json``.

    Raises:
        ValueError: There is no such recipe or setting, a value does not suit, or the folder holds another run or
            the damaged remains of this one.
        FileNotFoundError: The data is missing.
        DivergedError: The loss or a weight became infinite or NaN.
    """
    if isinstance(recipe, str):
        recipe = get_recipe(recipe, **settings)
    elif settings:
        raise ValueError(f"Settings such as {next(iter(settings))!r} are for a recipe given by its name.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"seed must be an integer from 0 to {2**31 - 1}, not {seed!r}.")
    if not isinstance(validation, int) or validation < 0 or (validation and data is not None):
        raise ValueError(
            f"validation must be a number of the dataset's training images, not {validation!r}. "
            "Images of your own are given as data=(training, validation, test)."
        )
    if limit is not None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}.")
        recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, limit))
    output, chief = Path(output), is_chief(strategy)
    if precision == "auto":
        # Of what is no precision there can be no run: `check_folder` will say so.
        found = read_plan(output).get("precision")
        precision = found if found in PRECISIONS else fast_precision()
    started = time.perf_counter()
    scope = get_strategy(strategy).scope()  # before any tensor is made
    given = _open(data, limit) if data is not None else None
    plan = {
        "recipe": recipe.name,
        "settings": dict(recipe.settings),
        "data": "given" if given else recipe.dataset,
        **({"given": [images.describe() for images in given]} if given else {}),
        **({"validation": validation} if validation else {}),
        "limit": limit,
        "seed": seed,
        "precision": precision,
        "strategy": strategy,
    }
    check_folder(output, plan, chief)
    if (output / "record.json").exists():
        return read_json(output / "record.json")
    if verbose and chief:
        print(f"{recipe.name} on {plan['data']} in {precision}, to {output}", flush=True)
    images = given or load_dataset(recipe.dataset, data_dir, limit, validation)
    _check_lengths(recipe, images[0].count)
    before = tf.keras.mixed_precision.global_policy(), tf.keras.backend.floatx()
    with working_dir(output, chief) as folder, scope:
        check_folder(output, plan, chief)  # again: until now another process may have begun a run there
        start(folder, plan)
        try:
            if precision == "float64":
                tf.keras.backend.set_floatx("float64")
            tf.keras.mixed_precision.set_global_policy(precision)
            run = _Run(recipe, folder, images, seed, callbacks, verbose if chief else 0)
            model = run.train()
            return run.save_results(model, plan, time.perf_counter() - started)
        finally:
            tf.keras.mixed_precision.set_global_policy(before[0])
            tf.keras.backend.set_floatx(before[1])


def _open(data: Sequence[Any], limit: int | None) -> tuple[Images, ...]:
    """Return the training, perhaps validation, and test images of a run that was given some."""
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(
            "data must be (training, test) or (training, validation, test), of which each is (images, labels) or a "
            "tf.data.Dataset."
        )
    images = tuple(as_images(part, limit) for part in data)
    if len({part.shape for part in images}) > 1:
        shapes = " and ".join(str(part.shape) for part in images)
        raise ValueError(f"Training and test images must have the same shape, not {shapes}.")
    return images


def _check_lengths(recipe: Recipe, images: int) -> None:
    if not 1 <= recipe.batch_size <= images:
        raise ValueError(
            f"batch_size must be at least 1, and at most the {images} training images, not {recipe.batch_size}."
        )
    for stage in recipe.stages:
        if stage.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {stage.epochs} (stage {stage.name!r}).")


class _Run:
    """One run of a recipe in its folder."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        images: Sequence[Images],
        seed: int,
        callbacks: Sequence[tf.keras.callbacks.Callback],
        verbose: int | str,
    ) -> None:
        self.recipe, self.output, self.seed, self.callbacks, self.verbose = recipe, output, seed, callbacks, verbose
        self.training, self.test_images = images[0], images[-1].count
        self.classes = max(part.num_classes for part in images)
        self.shape = self.training.shape
        preprocessing = get_preprocessing(recipe.preprocessing)
        self.normalise = lambda dataset: normalised(dataset, preprocessing)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        measured = [self.normalise(part.in_order(250)).prefetch(2).with_options(options) for part in images[1:]]
        # Every epoch is measured on the validation images, which without any of their own are the test images.
        self.validation, self.test = measured[0], measured[-1]

    def train(self) -> tf.keras.Model:
        """Run the stages that are not complete, and return the last one's network."""
        model = None
        for index, stage in enumerate(self.recipe.stages):
            # Not only fit must be deterministic, but also what a stage that is already complete leaves behind.
            tf.keras.utils.set_random_seed(self.seed + index)
            try:
                previous, model = model, stage.build(self.classes, self.shape)
            except TypeError as error:  # an argument that the network's function does not take
                raise ValueError(f"The recipe {self.recipe.name!r} is not for this network: {error}") from error
            self._run(stage, index, model, previous)
        return model

    def _run(self, stage: Stage, index: int, model: tf.keras.Model, previous: tf.keras.Model | None) -> None:
        use_sync_batch_norm(model)
        steps = self.training.count // self.recipe.batch_size
        optimizer = stage.optimizer(steps)
        if tf.keras.mixed_precision.global_policy().name == "mixed_float16":
            # Keras would do so, but then only itself know of the loss' scale, which belongs into the checkpoints.
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        history = CSVHistory(self.output / "history.csv", stage.name)
        folder = self.output / "checkpoints" / f"{index + 1}-{stage.name}"
        checkpoint = EpochCheckpoint(folder, model, optimizer, history, self.output / "best.weights.h5")
        done = checkpoint.restore()
        if not done and stage.init_from is not None and previous is not None:
            stage.init_from(previous, model)
        if done >= stage.epochs:
            return
        history.start_at(done)
        trained, training = model, self._batches(stage, done)
        if stage.teachers:
            teachers = [build(self.classes, self.shape) for build in stage.teachers]
            for teacher in teachers:
                check_classes(model, teacher)
            if stage.repeats:
                training = teacher_logits(teachers, self._batches(stage, 0, 1)).repeat()
            trained = Distiller(
                model,
                None if stage.repeats else teachers,
                teacher_weights=stage.teacher_weights,
                distillation_loss=stage.distillation_loss,
                temperature=stage.temperature,
                label_weight=stage.label_weight,
                features=stage.features,
                feature_loss=stage.feature_loss,
                feature_weight=stage.feature_weight,
            )
            use_sync_batch_norm(trained)
        trained.compile(optimizer, stage.loss, metrics=self._metrics())
        trained.fit(
            split_batches(training, self.recipe.batch_size),
            epochs=stage.epochs,
            initial_epoch=done,
            steps_per_epoch=steps,
            verbose=self.verbose,
            callbacks=[
                *stage.callbacks(model),
                FlipRatio(),
                _Finish(stage, model, self),
                EvaluateAt(self.validation, stage.milestones),
                StopWhenDiverged(),
                *self.callbacks,
                history,
                checkpoint,
                tf.keras.callbacks.TensorBoard(str(self.output / "tensorboard" / stage.name), write_graph=False),
            ],
        )

    def _metrics(self) -> list[tf.keras.metrics.Metric]:
        """Return what is reported besides the loss; the five best classes where there are more than CIFAR-10's ten."""
        # An object, not "accuracy", which would make variables in the first batch and have all of it traced twice.
        metrics = [tf.keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if self.classes > 10:
            metrics.append(tf.keras.metrics.SparseTopKCategoricalAccuracy(5, "top5"))
        return metrics

    def _batches(self, stage: Stage, first_epoch: int, epochs: int | None = None) -> tf.data.Dataset:
        return self.normalise(
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

    def _measured(self, model: tf.keras.Model, images: tf.data.Dataset) -> dict[str, float]:
        model.compile(loss=self.recipe.stages[-1].loss, metrics=self._metrics())
        return model.evaluate(images, verbose=0, return_dict=True)

    def save_results(self, model: tf.keras.Model, plan: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Save the trained network, and write the record."""
        rows = read_history(self.output / "history.csv")
        if not rows:
            raise ValueError(f"{self.output / 'history.csv'} is missing or empty. Choose another output folder.")
        if not {"val_loss", "val_accuracy"} <= rows[-1].keys():
            rows[-1] |= {f"val_{name}": value for name, value in self._measured(model, self.validation).items()}
        if self.validation is self.test:
            last = {name.removeprefix("val_"): value for name, value in rows[-1].items() if name.startswith("val_")}
        else:
            last = self._measured(model, self.test)
        top5 = {"top5": 100 * last["top5"]} if "top5" in last else {}
        test = {"top1": 100 * last["accuracy"], **top5, "loss": last["loss"], "images": self.test_images}
        record = {
            **plan,
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
            "history": rows,
        }
        model.trainable = True  # whoever fine-tunes the network would not know of layers that the last stage froze
        with replacing(self.output / "model.keras") as temporary:
            # Not compiled: the optimizer's rate has fallen to next to nothing.
            tf.keras.Model(model.inputs, model.outputs, name=model.name).save(temporary)
        save_packed(
            model,
            self.output / "model.onebit",
            source=f"onebit train {plan['recipe']}",
            metrics={"top1": test["top1"], **top5, "dataset": plan["data"]},
            preprocessing=for_dataset(self.recipe.preprocessing, plan["data"]),
            class_names=class_names(plan["data"]),
        )
        write_json(self.output / "record.json", record)
        return record


class _Finish(tf.keras.callbacks.Callback):
    """Does what a stage asks for after its last epoch, before the network is evaluated and checkpointed."""

    def __init__(self, stage: Stage, model: tf.keras.Model, run: _Run) -> None:
        super().__init__()
        self.stage, self.network, self.run = stage, model, run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 == self.stage.epochs and self.stage.finish is not None:
            # An epoch beyond the training's: other images than those of the last one.
            self.stage.finish(self.network, self.run._batches(self.stage, self.stage.epochs, self.stage.epochs + 1))
