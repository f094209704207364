"""Jobs: trainings on machines that have JAX, but not TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import os
import re
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
from onebit.recipes import L2SGD
from onebit.recipes.data.augmentation import center_crop, random_resized_crop
from onebit.recipes.data.datasets import DATASETS
from onebit.recipes.data.tfds import decode_and_crop
from tests.recipes.models import DATA, plain_recipe, recipe
from tests.recipes.prepared import prepare

pytest.importorskip("jax", reason="JAX is not installed (the extra 'jax')")
from onebit.recipes.backend.image_folder import ImageFolder
from onebit.recipes.backend.keras import lower_crop

RUNS = {"data": DATA, "verbose": 0, "precision": "float32"}


def start_job(folder: Path, *arguments: str, hidden: Path, also: str = "tensorflow") -> subprocess.Popen:
    """Start a job where neither TensorFlow nor this package can be imported, nor what is named ``also``."""
    hidden.mkdir(exist_ok=True)
    for name in ("tensorflow", "onebit", "larq", "tf_keras", also):
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')")
    environment = {**os.environ, "PYTHONPATH": str(hidden)}
    command = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_job(folder: Path, *arguments: str, hidden: Path, also: str = "tensorflow") -> subprocess.CompletedProcess:
    """Run a job there to its end."""
    process = start_job(folder, *arguments, hidden=hidden, also=also)
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


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
    same = ("stage", "epoch", "loss", "accuracy", "test_loss", "test_accuracy", "learning_rate", "flip_ratio")
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
    shutil.copyfile(job / "step.mlir", damaged / "step.mlir")
    (damaged / "checkpoint.npz").write_bytes((job / "start.npz").read_bytes()[:-30])
    assert "Error: " in run_job(damaged, hidden=tmp_path / "hidden").stderr
    with pytest.raises(ValueError, match="damaged"):
        recipes.train(plain_recipe(), tmp_path / "run", collect=damaged, **RUNS)
    about = json.loads((job / "job.json").read_text())
    (damaged / "job.json").write_text(json.dumps({**about, "format": 99}))
    assert "99" in run_job(damaged, hidden=tmp_path / "hidden").stderr
    (job / "job.json").write_text(json.dumps({**about, "onebit": "0.0.1"}))
    with pytest.raises(ValueError, match=r"0\.0\.1"):
        recipes.train(plain_recipe(), tmp_path / "run", collect=job, **RUNS)


@pytest.mark.slow
def test_a_killed_job_goes_on_bit_for_bit(tmp_path):
    """Killed four times at moments of chance, from before its first epoch on; nothing is left but its files."""
    once, killed, hidden = tmp_path / "once", tmp_path / "killed", tmp_path / "hidden"
    recipes.train(plain_recipe(40), tmp_path / "run", prepare=once, **RUNS)
    shutil.copytree(once, killed)
    draw = np.random.default_rng(1)
    for number in range(4):
        process = start_job(killed, hidden=hidden)
        for _ in range(4 * number):  # lines of epochs, but for the first
            process.stdout.readline()
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for folder in (once, killed):
        done = run_job(folder, hidden=hidden)
        assert done.returncode == 0, done.stderr
    with np.load(once / "checkpoint.npz") as one, np.load(killed / "checkpoint.npz") as other:
        for name in set(one.files) - {"history"}:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
@pytest.mark.parametrize("finite", [6, 11])
def test_a_job_that_diverges_keeps_its_last_finite_epoch(tmp_path, finite):
    """At the first batch of the second epoch, or at its last one: then its loss is finite."""

    def optimizer(steps):
        return L2SGD(tf.keras.optimizers.schedules.PiecewiseConstantDecay([finite - 1], [0.001, 1e38]))

    job, hidden = tmp_path / "job", tmp_path / "hidden"
    diverging = plain_recipe(optimizer=optimizer)
    recipes.train(diverging, tmp_path / "run", prepare=job, **RUNS)
    failed = run_job(job, hidden=hidden)
    assert failed.returncode and re.search(r"Error: .* is (nan|inf) in epoch 2\. .* lower learning rate", failed.stderr)
    assert recipes.train(diverging, tmp_path / "run", collect=job, **RUNS) == {"collected": 1}


@pytest.mark.slow
def test_what_a_job_says_where_it_cannot_run(tmp_path):
    job, hidden = tmp_path / "job", tmp_path / "hidden"
    recipes.train(plain_recipe(), tmp_path / "run", prepare=job, **RUNS)
    without = run_job(job, hidden=hidden, also="jax").stderr
    assert "pip install jax" in without and "Traceback" not in without
    (hidden / "jax.py").unlink()
    held = (
        f"import fcntl, time; file = open({str(job / '.lock')!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert "Another process" in run_job(job, hidden=hidden).stderr
    other.kill()
    other.communicate()
    about = json.loads((job / "job.json").read_text())
    about["images"]["training"]["shape"][0] += 1
    (job / "job.json").write_text(json.dumps(about))
    assert "training_images.npy" in run_job(job, hidden=hidden).stderr
    assert not (job / "checkpoint.npz").exists()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """TFDS' folder of a small ImageNet, and torchvision's of as many images, one folder for each class."""
    folder = tmp_path_factory.mktemp("imagenet")
    prepare(DATASETS["imagenet2012"], folder / "tfds", count=16)
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for label in range(1000):
            (folder / part / f"n{label:08}").mkdir(parents=True)
        for number in range(16):
            pixels = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8).repeat(40, 0).repeat(30, 1)
            encoded = tf.io.encode_png(pixels) if number % 2 else tf.io.encode_jpeg(pixels, quality=95)
            path = folder / part / f"n{number * 50:08}" / f"{number}.{'png' if number % 2 else 'JPEG'}"
            path.write_bytes(encoded.numpy())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("crop", [center_crop, random_resized_crop])
def test_files_are_cropped_as_tensorflow_crops_them(imagenet, crop):
    """To a level or two where a box is the same; a random one is drawn by the image's seed."""
    import jax

    program = jax.jit(lower_crop(crop, (64, 64)).function())
    boxes = []

    def box(pixels, seed):
        found = program([], pixels, seed)[1]
        boxes.append([int(found[name]) for name in ("top", "left", "height", "width")])
        return found

    files = ImageFolder(imagenet / "train", (64, 64, 3), 1000, 16, False, box)
    order = np.arange(16)[::-1].reshape(4, 4)
    found = list(files.batches(order, (3, 1)))
    for batch, chosen in zip(found, order, strict=True):
        np.testing.assert_array_equal(batch[1], chosen * 50)
    same = np.concatenate([images for images, _ in found])
    np.testing.assert_array_equal(same, np.concatenate([images for images, _ in files.batches(order, (3, 1))]))
    starts, extents = np.split(np.array(boxes), 2, axis=1)
    assert (starts >= 0).all() and (extents > 0).all() and (starts + extents <= 240).all()
    if crop is center_crop:
        assert {tuple(each) for each in boxes} == {(15, 15, 210, 210)}
        paths = [next((imagenet / "train" / f"n{number * 50:08}").iterdir()) for number in order.ravel()]
        seed = tf.constant([0, 0], tf.int64)
        expected = np.stack([decode_and_crop(path.read_bytes(), crop, (64, 64), seed).numpy() for path in paths])
        difference = np.abs(same.astype(int) - expected)
        assert difference.mean() < 0.6 and np.quantile(difference, 0.99) <= 6
    else:
        assert len({tuple(each) for each in boxes}) > 8
        assert not np.array_equal(same, np.concatenate([images for images, _ in files.batches(order, (3, 2))]))


@pytest.mark.slow
def test_imagenet_comes_from_the_users_folder(imagenet, tmp_path):
    """A job of the recipe's ImageNet is stopped, goes on elsewhere with the same crops, and is collected."""
    trained = dataclasses.replace(plain_recipe(), dataset="imagenet2012", batch_size=4)
    run = {"data_dir": imagenet / "tfds", "verbose": 0, "precision": "float32", "limit": 8}
    job, hidden = tmp_path / "job", tmp_path / "hidden"
    recipes.train(trained, tmp_path / "run", prepare=job, **run)
    assert not list(job.glob("*.npy"))
    assert "--images" in run_job(job, hidden=hidden).stderr
    assert "folder" in run_job(job, "--images", str(tmp_path), hidden=hidden).stderr
    assert "Pillow" in run_job(job, "--images", str(imagenet), hidden=hidden, also="PIL").stderr
    (hidden / "PIL.py").unlink()
    whole = shutil.copytree(job, tmp_path / "whole")
    done = run_job(whole, "--images", str(imagenet), hidden=hidden)
    assert done.returncode == 0, done.stderr
    for until in ("1", "2"):
        assert run_job(job, "--images", str(imagenet), "--until", until, hidden=hidden).returncode == 0
    with np.load(whole / "checkpoint.npz") as one, np.load(job / "checkpoint.npz") as other:
        for name in set(one.files) - {"history"}:
            np.testing.assert_array_equal(one[name], other[name])
    record = recipes.train(trained, tmp_path / "run", collect=job, **run)
    assert [row["epoch"] for row in record["history"]] == [1, 2] and record["test"]["images"] == 8
    damaged = shutil.copytree(imagenet / "train", tmp_path / "damaged" / "train")
    shutil.copytree(imagenet / "val", tmp_path / "damaged" / "val")
    for path in damaged.glob("*/*.*"):
        path.write_bytes(path.read_bytes()[:100])
    (whole / "checkpoint.npz").unlink()
    failed = run_job(whole, "--images", str(tmp_path / "damaged"), hidden=hidden).stderr
    assert "damaged" in failed and "Traceback" not in failed


@pytest.mark.slow
def test_several_machines_train_one_job(tmp_path):
    """Two processes of a cluster give what one gives, and the first one's folder holds the result."""
    recipes.train(plain_recipe(), tmp_path / "run", prepare=tmp_path / "one", **{**RUNS, "precision": "float64"})
    two = shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert run_job(tmp_path / "one", hidden=tmp_path / "hidden").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
    processes = [start_job(two, *command, "--process", str(i), hidden=tmp_path / "hidden") for i in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    with np.load(tmp_path / "one" / "checkpoint.npz") as one, np.load(two / "checkpoint.npz") as both:
        for name in one.files:
            if name.startswith("state/"):
                np.testing.assert_allclose(both[name], one[name], rtol=1e-12, atol=1e-13)
