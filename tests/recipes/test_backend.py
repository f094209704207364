"""JAX in TensorFlow's place: the same steps, the same run folder, and jobs for machines without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
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

SMALL = striped_images(16, 0), striped_images(8, 1)
RUNS = {"data": DATA, "verbose": 0, "precision": "float32"}


@pytest.fixture(scope="module")
def by_jax(tmp_path_factory):
    """A finished run of two stages, the second with a teacher."""
    output = tmp_path_factory.mktemp("run") / "jax"
    return output, recipes.train(recipe(2), output, backend="jax", **RUNS)


def stages():
    for name in recipes.list_recipes():
        for stage in recipes.get_recipe(name, epochs=2, **quick_settings(name)).stages:
            yield pytest.param(name, stage.name, id=f"{name}-{stage.name}")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage_name"), stages())
def test_every_stage_is_what_fit_makes_of_it(name, stage_name, tmp_path, shallow):
    """In float64, without augmentation: network, optimizer and figures agree to 1e-12 after four batches."""
    settings = quick_settings(name)
    if "teacher" in recipes.get_recipe(name).settings:
        teacher = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(16, 16, 3)), tf.keras.layers.Dense(2)])
        teacher.save(tmp_path / "teacher.keras")
        settings["teacher"] = str(tmp_path / "teacher.keras")
    whole = recipes.get_recipe(name, epochs=2, batch_size=4, **settings)
    found = next(stage for stage in whole.stages if stage.name == stage_name)
    # Pixels as they are: TensorFlow and JAX round a normalisation in float32 differently.
    alone = dataclasses.replace(
        whole,
        preprocessing="0_255",
        stages=[dataclasses.replace(found, augment=None, init_from=None, finish=None, milestones=None)],
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
    for key, value in kept["tensorflow"].items():
        scale = max(np.abs(value).max(initial=0), 1e-3)
        np.testing.assert_allclose(kept["jax"][key], value, rtol=0, atol=1e-12 * scale, err_msg=key)


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
    code = (
        "from onebit import recipes\nfrom tests.recipes.models import DATA, recipe\n"
        f"recipes.train(recipe(2), {str(tmp_path / 'run')!r}, data=DATA, verbose=0, precision='float32', backend='jax')"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    while process.poll() is None and not list((tmp_path / "run").glob("checkpoints/*/*.index")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    recipes.train(recipe(2), tmp_path / "run", backend="jax", **RUNS)
    assert (tmp_path / "run" / "model.onebit").read_bytes() == (by_jax[0] / "model.onebit").read_bytes()


def run_job(folder: Path, *arguments: str, hidden: Path) -> subprocess.CompletedProcess:
    """Run a job where neither TensorFlow nor this package can be imported."""
    hidden.mkdir(exist_ok=True)
    for name in ("tensorflow", "onebit", "larq", "tf_keras"):
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')")
    environment = {**os.environ, "PYTHONPATH": str(hidden)}
    command = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_jobs_give_what_the_run_gives_here(by_jax, tmp_path):
    """Bit for bit, where a job is stopped and goes on, stage by stage."""
    output, job, hidden = tmp_path / "run", tmp_path / "job", tmp_path / "hidden"
    assert recipes.train(recipe(2), output, prepare=job, **RUNS) == {"prepared": str(job)}
    assert run_job(job, "--until", "1", hidden=hidden).returncode == 0
    assert recipes.train(recipe(2), output, collect=job, **RUNS) == {"collected": 1}
    moved = job.rename(tmp_path / "elsewhere")
    assert run_job(moved, hidden=hidden).returncode == 0
    found = recipes.train(recipe(2), output, collect=moved, **RUNS)
    assert run_job(Path(found["prepared"]), hidden=hidden).returncode == 0
    record = recipes.train(recipe(2), output, collect=found["prepared"], **RUNS)
    assert (output / "model.onebit").read_bytes() == (by_jax[0] / "model.onebit").read_bytes()
    expected = by_jax[1]["history"]
    # What needs the latent weights of every epoch is not there.
    same = ("stage", "epoch", "loss", "accuracy", "test_loss", "test_accuracy", "learning_rate")
    assert [[row[key] for key in same] for row in record["history"]] == [[row[key] for key in same] for row in expected]


@pytest.mark.slow
def test_a_job_is_refused_where_it_does_not_belong(tmp_path):
    job = tmp_path / "job"
    recipes.train(plain_recipe(), tmp_path / "run", prepare=job, **RUNS)
    with pytest.raises(ValueError, match="empty"):
        recipes.train(plain_recipe(), tmp_path / "run", prepare=job, **RUNS)
    with pytest.raises(ValueError, match="no epoch"):
        recipes.train(plain_recipe(), tmp_path / "run", collect=job, **RUNS)
    with pytest.raises(ValueError, match="job"):
        recipes.train(plain_recipe(3), tmp_path / "other", collect=job, **RUNS)
    with pytest.raises(ValueError, match="job"):
        recipes.train(plain_recipe(), tmp_path / "run", collect=tmp_path / "nothing", **RUNS)
    damaged = shutil.copytree(job, tmp_path / "damaged")
    (damaged / "step.mlir").write_bytes((job / "step.mlir").read_bytes()[:-1])
    assert "step.mlir" in run_job(damaged, hidden=tmp_path / "hidden").stderr
    about = json.loads((job / "job.json").read_text())
    (damaged / "job.json").write_text(json.dumps({**about, "format": 99}))
    assert "99" in run_job(damaged, hidden=tmp_path / "hidden").stderr


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


@pytest.mark.slow
def test_several_machines_train_one_job(tmp_path):
    """Two processes of a cluster give what one gives, and the first one's folder holds the result."""
    recipes.train(plain_recipe(), tmp_path / "run", prepare=tmp_path / "one", **{**RUNS, "precision": "float64"})
    two = shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert run_job(tmp_path / "one", hidden=tmp_path / "hidden").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(two / "run.py"), "--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
    processes = [subprocess.Popen([*command, "--process", str(i)]) for i in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    with np.load(tmp_path / "one" / "checkpoint.npz") as one, np.load(two / "checkpoint.npz") as both:
        for name in one.files:
            if name.startswith("state/"):
                np.testing.assert_allclose(both[name], one[name], rtol=1e-12, atol=1e-13)
