"""JAX in TensorFlow's place: the same steps and the same run folder."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes
from onebit.recipes.data.augmentation import cutout, flip, shift
from onebit.recipes.data.order import epoch_order
from onebit.recipes.recipe import quick_settings
from onebit.zoo.checkpoints.variables import named_variables
from tests.recipes.models import DATA, plain_recipe, recipe, striped_images

pytest.importorskip("jax", reason="JAX is not installed (the extra 'jax')")
from onebit.recipes.backend.lowering import lower
from onebit.recipes.backend.runner import Runner, batch_seeds, gather, jit

SMALL = striped_images(16, 0), striped_images(8, 1)
RUNS = {"data": DATA, "verbose": 0, "precision": "float32"}


def stages():
    for name in recipes.list_recipes():
        for stage in recipes.get_recipe(name, epochs=2, **quick_settings(name)).stages:
            yield pytest.param(name, stage.name, id=f"{name}-{stage.name}")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage_name"), stages())
def test_every_stage_is_what_fit_makes_of_it(name, stage_name, tmp_path, shallow):
    """In float64, without augmentation: network, optimizer and figures agree to 1e-12 after four batches.

    Adam has an epsilon of 0.1 here. Its own, 1e-8, magnifies what rounding leaves of a gradient: of FTBNN's first ones
    two are 7e-9, backends differ by 2e-17 in them, and then by 4e-12 in weights of 0.006.
    """
    settings = quick_settings(name)
    if "teacher" in recipes.get_recipe(name).settings:
        teacher = tf.keras.Sequential(
            [
                tf.keras.layers.Flatten(input_shape=(16, 16, 3), dtype="float64"),
                tf.keras.layers.Dense(2, dtype="float64"),
            ]
        )
        teacher.save(tmp_path / "teacher.keras")
        settings["teacher"] = str(tmp_path / "teacher.keras")
    whole = recipes.get_recipe(name, epochs=2, batch_size=4, **settings)
    found = next(stage for stage in whole.stages if stage.name == stage_name)

    def optimizer(steps):
        made = found.optimizer(steps)
        if isinstance(made, tf.keras.optimizers.Adam):
            made.epsilon = 0.1
        return made

    # Pixels as they are: TensorFlow and JAX round a normalisation in float32 differently.
    alone = dataclasses.replace(
        whole,
        preprocessing="0_255",
        stages=[
            dataclasses.replace(found, optimizer=optimizer, augment=None, init_from=None, finish=None, milestones=None)
        ],
    )
    images, labels = striped_images(8, 0)
    data = (images[:, ::2, ::2], labels), (images[:4, ::2, ::2], labels[:4])
    kept = {}
    for backend in ("tensorflow", "jax"):

        class Keep(tf.keras.callbacks.Callback):
            def on_train_end(self, logs=None, backend=backend):
                network = getattr(self.model, "student", self.model)
                variables = {key: v.numpy() for key, v in named_variables(network).items()}
                slots = {str(i): v.numpy() for i, v in enumerate(self.model.optimizer.variables)}
                kept[backend] = {**variables, **slots}

        record = recipes.train(
            alone, tmp_path / backend, data=data, backend=backend, precision="float64", callbacks=[Keep()], verbose=0
        )
        kept[backend] |= {f"loss {row['epoch']}": np.array(row["loss"]) for row in record["history"]}
    assert kept["jax"].keys() == kept["tensorflow"].keys()
    differences = {}
    for key, value in kept["tensorflow"].items():
        scale = max(np.abs(value).max(initial=0), 1e-2)  # a small scalar may be a sum of terms that nearly cancel
        differences[key] = np.abs(kept["jax"][key] - value).max(initial=0) / scale
    assert not {key: difference for key, difference in differences.items() if not difference < 1e-12}


@pytest.mark.slow
def test_a_run_by_jax_is_a_run_like_any_other(by_jax):
    output, record = by_jax
    for name in ("run.json", "history.csv", "record.json", "model.keras", "model.onebit"):
        assert (output / name).is_file()
    assert record["backend"] == "jax"
    assert [(row["stage"], row["epoch"]) for row in record["history"]] == [
        ("step1", 1),
        ("step1", 2),
        ("step2", 1),
        ("step2", 2),
    ]
    assert {"loss", "accuracy", "test_loss", "test_accuracy", "flip_ratio", "learning_rate"} <= record["history"][
        0
    ].keys()
    assert record["history"][-1]["test_accuracy"] * 100 == pytest.approx(record["test"]["top1"])
    assert record["history"][-1]["test_loss"] == pytest.approx(record["test"]["loss"], rel=1e-4)
    with pytest.raises(ValueError, match="backend"):  # rounding would differ
        recipes.train(recipe(2), output, **RUNS)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(by_jax, tmp_path):
    """Killed three times, at moments of chance after its first epoch."""
    code = (
        "from onebit import recipes\nfrom tests.recipes.models import DATA, recipe\n"
        f"recipes.train(recipe(2), {str(tmp_path / 'run')!r}, data=DATA, verbose=0, precision='float32', backend='jax')"
    )
    root, draw = Path(__file__).resolve().parents[2], np.random.default_rng(1)
    for _ in range(3):
        before = set((tmp_path / "run").glob("checkpoints/*/*.index"))
        process = subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
        while process.poll() is None and set((tmp_path / "run").glob("checkpoints/*/*.index")) == before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    recipes.train(recipe(2), tmp_path / "run", backend="jax", **RUNS)
    assert (tmp_path / "run" / "model.onebit").read_bytes() == (by_jax[0] / "model.onebit").read_bytes()


def test_without_jax(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"pip install .*\[jax\]"):
        recipes.train(plain_recipe(), tmp_path / "run", backend="jax", **RUNS)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def runner():
    """A runner of a step that adds a batch's mean to its state, and does not mind the seed."""
    specs = [tf.TensorSpec([2, 1, 1, 1], tf.uint8), tf.TensorSpec([2], tf.int64)]
    total = tf.Variable(0.0)

    def step(images, labels, seed, rate):
        total.assign_add(tf.reduce_mean(tf.cast(images, tf.float32)))
        return {"loss": total + rate}

    program, _ = lower(step, [*specs, tf.TensorSpec([2], tf.int64), tf.TensorSpec([], tf.float32)], dict)
    return Runner(program, 1)


def epoch(runner):
    """Run two steps of it, and return its results."""
    parts = [np.full((4, 1, 1, 1), 3, np.uint8), np.zeros(4, np.int64)]
    order = np.arange(4).reshape(2, 2)
    rates = np.zeros(2, np.float32)
    return runner.epoch(runner.put([np.float32(0)]), runner.chunks(parts, order), batch_seeds(1, 0, 2), rates)[1]


def test_a_step_that_jax_cannot_read(runner):
    damaged = dataclasses.replace(runner.step, module=runner.step.module[:100])
    with pytest.raises(ValueError, match=r"jax [\d.]+ cannot read"):
        Runner(damaged)


@pytest.mark.slow
def test_a_residual_stage_in_bfloat16_is_compiled_rightly():
    """jax 0.11.2 fuses the beginning of a ResNet's stage on CPUs so that it reads memory that nothing has written."""
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(0)
    images, *kernels = (
        jnp.asarray(draw.normal(size=shape), jnp.bfloat16)
        for shape in ((1, 32, 32, 16), (3, 3, 16, 32), (3, 3, 32, 32))
    )

    def convolution(x, kernel, stride):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def stage(x):
        pooled = jax.lax.reduce_window(
            x.astype(jnp.float32), 0.0, jax.lax.add, (1, 1, 1, 1), (1, 2, 2, 1), "VALID"
        ).astype(x.dtype)
        shortcut = jnp.pad(pooled, ((0, 0), (0, 0), (0, 0), (8, 8)))
        inner = jnp.maximum(convolution(x, kernels[0], 2), 0)
        return jnp.maximum(convolution(inner, kernels[1], 1) + shortcut, 0)

    found = np.asarray(jit(stage)(images), np.float32)
    with jax.disable_jit():  # operation by operation: nothing is fused
        expected = np.asarray(stage(images), np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * expected.max())


def test_a_device_without_memory(runner, monkeypatch):
    import jax

    assert epoch(runner) == {"loss": 6}

    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore")

    monkeypatch.setattr(runner, "_run", full)
    with pytest.raises(MemoryError, match=r"99 bytes\.$"):
        epoch(runner)


def test_images_that_do_not_fit_stay_on_the_host(runner, monkeypatch):
    """A device is lent half of its free memory, and what does not fit comes batch by batch."""

    class Device:
        def memory_stats(self):
            return {"bytes_limit": 300, "bytes_in_use": 100}

    monkeypatch.setattr(runner, "devices", [Device()])
    monkeypatch.setattr(runner, "_loops", False)
    fits, large = [np.zeros(100, np.uint8)], [np.zeros(101, np.uint8)]
    assert runner.hold(large)[0] is large[0]
    assert runner.hold(fits)[0] is not fits[0]
    assert runner.streamed(12, 2**26) == 4
    assert [len(part) for [part] in gather(((np.zeros(1),) for _ in range(9)), 4)] == [4, 4, 1]


@pytest.mark.slow
def test_bad_arguments(tmp_path):
    for arguments in (
        {"backend": "torch"},
        {"backend": "jax", "strategy": "mirrored"},
        {"devices": 1},
        {"backend": "jax", "devices": 99},
    ):
        with pytest.raises(ValueError, match=r"backend|devices"):
            recipes.train(plain_recipe(), tmp_path / "run", **{**RUNS, **arguments})


@pytest.mark.slow
def test_devices_share_a_batch(tmp_path):
    """Four of them give what one gives, statistics of the whole batch included."""
    code = (
        "import sys, numpy as np\nfrom onebit import recipes\nfrom tests.recipes.models import plain_recipe, DATA\n"
        "for n in (1, 4):\n"
        f"    recipes.train(plain_recipe(), {str(tmp_path)!r} + f'/{{n}}', data=DATA, verbose=0, precision='float64',"
        " backend='jax', devices=n)\n"
        "import tensorflow as tf\n"
        f"one, four = (tf.keras.models.load_model({str(tmp_path)!r} + f'/{{n}}/model.keras') for n in (1, 4))\n"
        "for a, b in zip(one.get_weights(), four.get_weights()):\n"
        "    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_order_is_a_permutation_that_seed_and_epoch_decide():
    orders = [epoch_order(1000, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    np.testing.assert_array_equal(epoch_order(6, 1, 0), epoch_order(6, 1, 0))
    firsts = np.bincount([epoch_order(4, seed, 3)[0] for seed in range(2000)], minlength=4)
    assert (np.abs(firsts - 500) < 100).all()  # 5 deviations


@pytest.mark.slow
def test_augmentations_under_jax_are_as_likely_as_they_should_be():
    """Shifts, flips and patches, by the numbers that XLA draws."""
    import jax

    count = 4096
    images = np.zeros((count, 8, 8, 1), np.uint8)
    images[:, 4, 3] = 255

    def where(augment):
        specs = [tf.TensorSpec(images.shape, tf.uint8), tf.TensorSpec([2], tf.int64)]
        program, _ = lower(lambda x, seed: {"images": augment(x, seed)}, specs, dict)
        _, results = jax.jit(program.function())([], images, np.array([3, -7], np.int64))
        return np.asarray(results["images"])

    flipped = where(flip)
    assert abs((flipped[:, 4, 4, 0] == 255).mean() - 0.5) < 5 * 0.5 / np.sqrt(count)
    moved = where(shift)
    places = np.argwhere(moved[..., 0] == 255)
    rows = np.bincount(places[:, 1], minlength=8)
    assert set(np.flatnonzero(rows)) == set(range(8))
    # Nine shifts in each direction; two of them push the pixel over the lower edge, and so on.
    assert abs(len(places) / count - (8 / 9) * (8 / 9)) < 5 * 0.5 / np.sqrt(count)
    patched = where(lambda x, seed: cutout(x + 1, seed, size=4))
    changed = (patched[..., 0] != images[..., 0] + 1).any((1, 2))
    assert changed.mean() > 0.97  # a patch covers at least one pixel, which random values rarely leave as it is
