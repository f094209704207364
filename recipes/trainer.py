"""Runs a recipe with ``model.fit``, in a folder from which a run that was interrupted goes on exactly where it was."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..util.arguments import to_python
from ..util.memory import custom_gradients, release_custom_gradients
from ..util.precision import fast_precision
from ..zoo.checkpoints.variables import latent_scope
from ..zoo.model_info import structure
from .data.datasets import get_dataset, load_dataset
from .data.images import Images, as_images
from .data.tfds import naming_damage
from .recipe import Recipe, get_recipe
from .run import Change, Job, Run, build_network, computing_in
from .run_folder import check_folder, check_kinds, read_json, read_plan, start, working_dir
from .training.strategies import get_strategy, is_chief

log = logging.getLogger(__name__)

BACKENDS = ("tensorflow", "jax")
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
    output, chief = Path(output).expanduser(), is_chief(strategy)
    check_kinds(output)
    if precision == "auto":
        # Of what is no precision there can be no run: `check_folder` will say so.
        found = read_plan(output).get("precision")
        precision = found if found in PRECISIONS else fast_precision()
    started = time.perf_counter()
    scope = get_strategy(strategy).scope()  # before any tensor is made
    given = _open(data, limit) if data is not None else None
    if given:
        classes, shape = given[0].num_classes, given[0].shape
    else:
        classes, shape = get_dataset(recipe.dataset).num_classes, get_dataset(recipe.dataset).image_shape
    weights = _class_weights(class_weight, classes)
    registered = custom_gradients()
    try:
        with latent_scope(), computing_in(precision):
            plan = {
                "recipe": recipe.name,
                "settings": dict(recipe.settings),
                "data": "given" if given else recipe.dataset,
                **({"given": [images.describe() for images in given]} if given else {}),
                **({"validation": validation} if validation else {}),
                **({"class_weight": {str(label): weights[label] for label in sorted(weights)}} if weights else {}),
                **({"changed": _name(change)} if change or recipe.is_changed else {}),
                "networks": [
                    structure(build_network(recipe, stage, change, classes, shape)) for stage in recipe.stages
                ],
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
                run = Run(recipe, folder, images, seed, change, weights, callbacks, verbose, backend, devices, job)
                with naming_damage(str(plan["data"])):
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
        raise ImportError("backend='jax' needs JAX: pip install '.[jax]'") from error


def _job(plan: Mapping[str, Any], prepare: str | Path | None, collect: str | Path | None) -> Job | None:
    if prepare is None and collect is None:
        return None
    if prepare is not None and collect is not None:
        raise ValueError("prepare and collect must not both be given: collect prepares the next stage by itself.")
    return Job(plan, None if prepare is None else Path(prepare), None if collect is None else Path(collect))


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
