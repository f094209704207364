"""A stage of a recipe whose epochs JAX runs: here, or, as a job, where TensorFlow is not."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from ...zoo import Preprocessing
from ..data.augmentation import center_crop
from ..data.images import ArrayImages, Images
from ..data.order import epoch_order
from ..recipe import Stage
from . import job
from .keras import fit, lower_crop, lower_evaluation, lower_signs, lower_training
from .runner import Runner, evaluate, gather, jit

EVALUATION_BATCH = 250
FOLDERS = {"training": "train", "test": "val"}
"""What the folders of ImageNet's files are called, as torchvision has them."""


class LoweredStage:
    """A stage's compiled network, lowered.

    Args:
        stage: The stage.
        trained: What is trained, compiled with a built optimizer: the network, or a `Distiller` that has its teachers.
        network: The network.
        training: Its training images.
        batch_size: Images in a batch, over all devices.
        seed: The run's.
        preprocessing: What the images go through.
        class_weights: By which the loss of each class's images is multiplied, or ``None``.

    Attributes:
        step, state: What `lower_training` returned.

    Raises:
        ValueError: TensorFlow's XLA cannot compile the step.
    """

    def __init__(
        self,
        stage: Stage,
        trained: tf.keras.Model,
        network: tf.keras.Model,
        training: Images,
        *,
        batch_size: int,
        seed: int,
        preprocessing: Preprocessing,
        class_weights: tf.Tensor | None,
    ) -> None:
        self._stage, self._trained, self._network, self._training = stage, trained, network, training
        self._batch_size, self._seed, self._preprocessing = batch_size, seed, preprocessing
        self._steps = training.count // batch_size
        first = training.shuffled(batch_size, seed, tf.constant(0, tf.int64), stage.crop).element_spec
        specs = [tf.TensorSpec([batch_size, *spec.shape[1:]], spec.dtype) for spec in first]
        self._images = specs[0] = tf.TensorSpec([batch_size, *training.shape], specs[0].dtype)

        def prepare(parts: tuple[tf.Tensor, ...], seeds: tf.Tensor) -> tuple[tf.Tensor, ...]:
            images, labels, *weights = parts
            if stage.augment is not None:
                images = stage.augment(images, seeds)
            if class_weights is not None:
                of_class = tf.gather(class_weights, labels)
                weights = [of_class * weights[0] if weights else of_class]
            return (preprocessing(tf.cast(images, tf.float32)), labels, *weights)

        self.step, self.state = lower_training(trained, specs, prepare)

    def fit(
        self,
        devices: int | None,
        initial_epoch: int,
        callbacks: Sequence[tf.keras.callbacks.Callback],
        verbose: int | str,
    ) -> None:
        """Run the epochs from ``initial_epoch`` on by JAX, see `fit`.

        Raises:
            ValueError: There are fewer devices, or a batch cannot be split among them.
            MemoryError: The devices' memory does not suffice.
        """
        runner = Runner(self.step, devices)
        if self._batch_size % len(runner.devices):
            raise ValueError(
                f"batch_size must be a multiple of the {len(runner.devices)} devices, not {self._batch_size}."
            )
        fit(
            self._trained,
            runner,
            self.state,
            self._batches(runner),
            steps=self._steps,
            epochs=self._stage.epochs,
            initial_epoch=initial_epoch,
            seed=self._seed,
            repeats=self._stage.repeats,
            callbacks=callbacks,
            verbose=verbose,
        )

    def _batches(self, runner: Runner) -> Any:
        training = self._training
        if isinstance(training, ArrayImages):
            parts = runner.hold(training.arrays)

            def held(epoch: int) -> Iterable[tuple[Any, ...]]:
                order = epoch_order(training.count, self._seed, epoch)[: self._steps * self._batch_size]
                return runner.chunks(parts, order.reshape(self._steps, self._batch_size))

            return held
        length = runner.streamed(self._steps, self._batch_size * int(np.prod(training.shape)) * self._images.dtype.size)

        def streamed(epoch: int) -> Iterable[tuple[Any, ...]]:
            found = training.shuffled(self._batch_size, self._seed, tf.constant(epoch, tf.int64), self._stage.crop)
            # The host's pipeline works ahead.
            return gather(found.prefetch(length + 2).as_numpy_iterator(), length)

        return streamed

    @functools.cached_property
    def _evaluation(self) -> tuple[Any, list[Any]]:
        spec = tf.TensorSpec([EVALUATION_BATCH, *self._images.shape[1:]], self._images.dtype)
        return lower_evaluation(
            self._network, spec, lambda images: self._preprocessing(tf.cast(images, tf.float32)), self._stage.loss
        )

    @functools.cached_property
    def _measure(self) -> Any:
        return jit(self._evaluation[0].function())

    def evaluate(self, trained: tf.keras.Model, images: Images) -> dict[str, float]:
        """Return what ``trained.evaluate`` does, loss and accuracies over the images, of the network as it is now."""
        state = [v.numpy() if isinstance(v, tf.Variable) else v for v in self._evaluation[1]]
        batches = images.in_order(EVALUATION_BATCH).as_numpy_iterator()
        return evaluate(self._measure, jax.device_put(state), batches, EVALUATION_BATCH)

    def prepare(
        self, folder: Path, about: Mapping[str, Any], initial_epoch: int, measured: Mapping[str, Images]
    ) -> None:
        """Write the stage as a job, see `job.write_job`.

        Args:
            folder: New or empty.
            about: What the job is made from.
            initial_epoch: How many epochs are done.
            measured: The images that are measured after epochs, by the prefix of their figures.

        Raises:
            ValueError: The folder is not empty, or the images are neither arrays nor a dataset of image files.
        """
        programs = {"step": self.step, "evaluation": self._evaluation[0]}
        if (signs := lower_signs(self._network)) is not None:
            programs["signs"] = signs
        arrays, described = {}, {}
        for name, images in {"training": self._training, **measured}.items():
            described[name] = {"shape": [images.count, *images.shape], "dtype": self._images.dtype.name}
            if isinstance(images, ArrayImages):
                arrays[name] = images.arrays
            elif images.encoded and name in FOLDERS:
                described[name] |= {"folder": FOLDERS[name], "classes": images.num_classes}
                crop = self._stage.crop if name == "training" else center_crop
                programs[f"{name}_crop"] = lower_crop(crop, images.shape)
            else:
                raise ValueError(
                    f"prepare cannot bring the {name} images: a job has them as arrays, which they are not, or takes "
                    f"the recipe's ImageNet from folders of files, {' and '.join(FOLDERS.values())}."
                )
        schedule = job.schedule_of(
            self._trained,
            self.step,
            self.state,
            self._stage.callbacks(self._network),
            epochs=self._stage.epochs,
            steps=self._steps,
        )
        milestones = None if self._stage.milestones is None else list(self._stage.milestones)
        job.write_job(
            folder,
            {
                "about": dict(about),
                "initial_epoch": initial_epoch,
                "epochs": self._stage.epochs,
                "steps": self._steps,
                "batch": self._batch_size,
                "evaluation_batch": EVALUATION_BATCH,
                "seed": self._seed,
                "repeats": self._stage.repeats,
                "milestones": milestones,
                "measured": sorted(measured),
                "images": described,
            },
            programs,
            self.state,
            schedule,
            arrays,
        )

    def collect(self, folder: Path, about: Mapping[str, Any], initial_epoch: int) -> list[dict[str, Any]]:
        """Set the variables to what a job has made of them, and return the figures of its epochs.

        Raises:
            ValueError: It is another job's folder, is damaged, or holds no epoch beyond ``initial_epoch``.
        """
        state, history = job.read_job(folder, about, self.step)
        if not history or history[-1]["epoch"] <= initial_epoch:
            raise ValueError(f"{folder} holds no epoch beyond epoch {initial_epoch}, which the run has already.")
        for variable, value in zip(self.state, state, strict=True):
            if isinstance(variable, tf.Variable):
                if (variable.shape, variable.dtype) != (value.shape, value.dtype):
                    raise ValueError(
                        f"{folder} is a job of another network: a variable is of {value.dtype} {value.shape}."
                    )
                variable.assign(value)
        return [row for row in history if row["epoch"] > initial_epoch]
