"""A run's folder: whose it is, what damage does, and resuming to the very same weights."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes
from onebit.recipes import DivergedError, run_folder
from tests.conftest import start_python
from tests.recipes.models import DATA, recipe, striped_images, tiny_network


def test_another_run_s_folder_is_refused(finished, tmp_path):
    output, _ = finished
    with pytest.raises(ValueError, match=r"another run, with lr 0\.05 instead of 0\.01\. Choose"):
        recipes.train(recipe(lr=0.01), output, data=DATA)
    with pytest.raises(ValueError, match=r"another run, with given \[.* instead of"):
        recipes.train(recipe(), output, data=(DATA[0], striped_images(64, 2)))
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        recipes.train(recipe(), tmp_path, data=DATA)


def test_a_folder_whose_first_epoch_never_ended_is_free(tmp_path):
    """A command that fails at once can be given again, mended, and so can one that was killed while it began."""
    (tmp_path / "run" / ".run.json.abc").mkdir(parents=True)
    with pytest.raises(DivergedError):
        recipes.train(recipe(lr=1e30, stages=1), tmp_path / "run", data=DATA, verbose=0)
    record = recipes.train(recipe(epochs=1, stages=1), tmp_path / "run", data=DATA, limit=32, verbose=0)
    assert record["settings"]["lr"] == 0.05


@pytest.mark.parametrize("name", ["lr[0.1]", "what?", "*"])
def test_a_folder_that_is_a_pattern_is_refused(name, tmp_path):
    """TensorFlow would not find the checkpoints again."""
    with pytest.raises(ValueError, match=r"output must be a path without '[*?\[]', .*pattern"):
        recipes.train(recipe(), tmp_path / name, data=DATA, verbose=0)
    assert not list(tmp_path.iterdir())


def test_a_run_without_checkpoints_is_still_a_run(finished, copy):
    """They may have been deleted to save space."""
    shutil.rmtree(copy / "checkpoints")
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"another run, with lr 0\.05 instead of 0\.01\. Choose"):
        recipes.train(recipe(lr=0.01), copy, data=DATA)
    assert recipes.train(recipe(), copy, data=DATA, verbose=0) == finished[1]
    (copy / "record.json").unlink()
    del files[copy / "record.json"]
    with pytest.raises(ValueError, match=r"another run, with lr 0\.05 instead of 0\.01\. Choose"):
        recipes.train(recipe(lr=0.01), copy, data=DATA)
    with pytest.raises(
        ValueError, match=r"history.csv has 3 epochs of the stage 'step1', but 0 are all .* were deleted"
    ):
        recipes.train(recipe(), copy, data=DATA, verbose=0)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == files


def test_an_interrupted_first_checkpoint_costs_no_more_than_the_epoch(finished, copy):
    (copy / "record.json").unlink()
    shutil.rmtree(copy / "checkpoints")
    rows = (copy / "history.csv").read_text().splitlines(keepends=True)
    (copy / "history.csv").write_text("".join(rows[:2]))
    record = recipes.train(recipe(), copy, data=DATA, verbose=0)
    assert [row["loss"] for row in record["history"]] == [row["loss"] for row in finished[1]["history"]]


def test_a_run_that_goes_on_elsewhere_says_so(finished, copy, caplog, monkeypatch):
    """With other threads, kernels or another TensorFlow its sums are rounded otherwise."""
    environment = json.loads((copy / "run.json").read_text())["environment"]
    present = run_folder._environment()
    assert environment == present
    assert (present["TF_ENABLE_ONEDNN_OPTS"], present["tensorflow"]) == (
        os.environ["TF_ENABLE_ONEDNN_OPTS"],
        tf.__version__,
    )

    def warnings():
        return [record.getMessage() for record in caplog.records if record.name == run_folder.__name__]

    (copy / "record.json").unlink()
    recipes.train(recipe(), copy, data=DATA, verbose=0)
    assert not warnings()
    monkeypatch.setattr(run_folder, "_environment", lambda: present | {"threads": 99})
    recipes.train(recipe(), copy, data=DATA, verbose=0)
    assert not warnings(), "it was finished"
    (copy / "record.json").unlink()
    recipes.train(recipe(), copy, data=DATA, verbose=0)
    [warning] = warnings()
    assert f"begun with threads={environment['threads']}, " in warning
    assert "goes on with threads=99, " in warning
    assert json.loads((copy / "run.json").read_text())["environment"] == environment


def test_a_damaged_last_checkpoint_costs_its_epoch(finished, copy, caplog):
    """As a power failure may leave it. Of an earlier stage there is no other: a later one began with what it held."""
    (copy / "record.json").unlink()
    shutil.rmtree(copy / "checkpoints" / "2-step2")
    rows = (copy / "history.csv").read_text().splitlines(keepends=True)
    (copy / "history.csv").write_text("".join(rows[:4]))
    [data] = (copy / "checkpoints" / "1-step1").glob("ckpt-3.data*")
    data.write_bytes(b"")
    record = recipes.train(recipe(), copy, data=DATA, verbose=0)
    assert "ckpt-3 is damaged: the run goes on from" in caplog.text
    assert [row["loss"] for row in record["history"]] == [row["loss"] for row in finished[1]["history"]]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_damaged_list_of_checkpoints_is_named(content, copy):
    (copy / "record.json").unlink()
    (copy / "checkpoints" / "1-step1" / "checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match=r"1-step1/checkpoint is damaged: .*another output folder"):
        recipes.train(recipe(), copy, data=DATA, verbose=0)


def test_two_runs_do_not_share_a_folder(finished, copy, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (copy / "record.json").unlink()
    with (copy / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process trains in"):
            recipes.train(recipe(), copy, data=DATA, verbose=0)
        begun = tmp_path / "begun"  # and no epoch has ended there
        (begun / "tensorboard" / "step1").mkdir(parents=True)
        shutil.copy(copy / "run.json", begun)
        with (begun / ".lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(ValueError, match="Another process trains in"):
                recipes.train(recipe(lr=0.01), begun, data=DATA, verbose=0)
        assert (begun / "tensorboard" / "step1").exists()
    assert recipes.train(recipe(), copy, data=DATA, verbose=0)["history"] == finished[1]["history"]


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    """HDF5 would crash."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match=r"0 bytes are free, and the weights need 1,\d{3},\d{3}.*best\.weights\.h5"):
        recipes.train(recipe(1, stages=1), tmp_path / "run", data=DATA, verbose=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("stage,epoch,loss,seconds\nstep1,1,abc,1\n", "could not convert string to float: 'abc'"),
        ("stage,epoch,seconds\nstep1,1,1,2\n", ""),
        ("stage,epoch\nstep1,1\n", "it lacks columns or values"),
    ],
)
def test_a_damaged_history_is_named(content, reason, copy):
    (copy / "record.json").unlink()
    (copy / "history.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"history\.csv is damaged: .*{reason}.*another output folder"):
        recipes.train(recipe(), copy, data=DATA, verbose=0)


@pytest.mark.parametrize("change", [{"settings": [1]}, {"environment": "x"}, {"precision": 5}])
def test_a_plan_of_other_kinds_is_damaged(change, copy):
    plan = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(plan | change))
    with pytest.raises(ValueError, match=rf"run\.json is damaged: its {next(iter(change))} is"):
        recipes.train(recipe(), copy, data=DATA, verbose=0)


@pytest.mark.parametrize("content", ["", "{", "[1]", b"\xff"])
@pytest.mark.parametrize("name", ["run.json", "record.json"])
def test_a_damaged_file_is_named(name, content, copy):
    (copy / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*Choose another output folder"):
        recipes.train(recipe(), copy, data=DATA, verbose=0)


@pytest.mark.parametrize("damage", ["another network", "half a file"])
def test_a_checkpoint_that_does_not_fit_is_refused_and_kept(damage, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    [data] = (tmp_path / "run" / "checkpoints" / "1-step1").glob("ckpt-3.data*")
    wanted = recipe()
    if damage == "half a file":
        data.write_bytes(data.read_bytes()[:1000])
    else:
        first = dataclasses.replace(wanted.stages[0], build=lambda classes, shape: tiny_network(classes + 1, shape))
        wanted = dataclasses.replace(wanted, stages=[first, wanted.stages[1]])
    before = data.read_bytes()
    with pytest.raises(ValueError, match=r"ckpt-3 does not fit the network 'sequential.*another output folder"):
        recipes.train(wanted, tmp_path / "run", data=DATA, verbose=0)
    assert data.read_bytes() == before


SCRIPT = """
    from tests.recipes.models import DATA, recipe
    from onebit import recipes
    recipes.train(recipe(), sys.argv[1], data=DATA, verbose=2)
"""


@pytest.mark.parametrize("moment", ["1-step1/ckpt-2", pytest.param("2-step2/ckpt-1", marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_weights(moment, finished, tmp_path):
    """Kill -9 after an epoch's checkpoint, in the middle of the work on the next; half a checkpoint is left as well."""
    output, record = finished
    again = tmp_path / "again"
    last = again / "checkpoints" / f"{moment}.index"
    with start_python(SCRIPT, again) as process:
        while process.poll() is None and not last.exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run was still going"
    half = last.with_name(f"ckpt-{int(moment[-1]) + 1}.index")
    if not half.exists():
        half.write_bytes(last.read_bytes()[:100])
    assert not (again / "record.json").exists()
    resumed = recipes.train(recipe(), again, data=DATA, verbose=0)
    ours, theirs = (tf.keras.models.load_model(folder / "model.keras").get_weights() for folder in (again, output))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    for row, other in zip(resumed["history"], record["history"], strict=True):
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


class Interruption(tf.keras.callbacks.Callback):
    """Sets the loss scale after the first epoch, and interrupts; notes the scales that trainings begin with."""

    def __init__(self):
        super().__init__()
        self.begun_with = []

    def on_train_begin(self, logs=None):
        self.begun_with.append(float(self.model.optimizer.loss_scale))

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer._loss_scale.current_loss_scale.assign(64.0)  # what an overflow may come to

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and len(self.begun_with) == 1:
            raise KeyboardInterrupt


def test_a_continued_run_keeps_its_loss_scale(tmp_path):
    interruption, whole = Interruption(), recipe(2)
    distilled = dataclasses.replace(whole.stages[1], callbacks=lambda network: [interruption])
    interrupted = dataclasses.replace(whole, stages=[distilled])
    with pytest.raises(KeyboardInterrupt):
        recipes.train(interrupted, tmp_path, data=DATA, precision="mixed_float16", verbose=0)
    recipes.train(interrupted, tmp_path, data=DATA, precision="mixed_float16", verbose=0)
    assert interruption.begun_with == [2.0**15, 64.0]
    # Where Keras wraps the optimizer, the first checkpoints have the scale, those of a continued run do not.
    saved = tf.train.list_variables(tf.train.latest_checkpoint(str(tmp_path / "checkpoints" / "1-step2")))
    assert any("current_loss_scale" in name for name, _ in saved)
