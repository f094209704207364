"""The trainer: runs, folders, records, and resuming to the very same weights."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes, zoo
from onebit.quantizers import EDESchedule
from onebit.recipes import DivergedError, Recipe, Stage, run_folder, trainer
from onebit.recipes.augmentation import flip_and_shift
from onebit.recipes.inherit import inherit_all
from onebit.recipes.optimizers import L2SGD
from onebit.recipes.schedules import CosineEpochs
from tests.conftest import start_python
from tests.recipes.models import striped_images, tiny_network

DATA = striped_images(192, 0), striped_images(64, 1)


def recipe(epochs: int = 3, lr: float = 0.05, stages: int = 2) -> Recipe:
    """Return a recipe of tiny stages, the second of which inherits and has a teacher."""

    def stage(number: int) -> Stage:
        return Stage(
            name=f"step{number}",
            epochs=epochs,
            build=tiny_network,
            optimizer=lambda steps: L2SGD(CosineEpochs(steps, epochs, lr), momentum=0.9, l2=1e-4),
            augment=flip_and_shift,
            callbacks=lambda network: [EDESchedule(epochs)],
            inherit=inherit_all if number > 1 else None,
            teacher=tiny_network if number > 1 else None,
        )

    settings = {"epochs": epochs, "lr": lr}
    return Recipe("tiny", "", 32, "raw", [stage(i + 1) for i in range(stages)], settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "finished"
    return output, recipes.train(recipe(), output, data=DATA, verbose=0)


def test_a_run_leaves_a_model_its_packed_file_a_record_and_curves(finished):
    output, record = finished
    assert record == json.loads((output / "record.json").read_text())
    assert [(row["stage"], row["epoch"]) for row in record["history"]] == [
        (f"step{stage}", epoch) for stage in (1, 2) for epoch in (1, 2, 3)
    ]
    first = record["history"][:3]
    assert first[-1]["loss"] < first[0]["loss"]
    assert all(np.isfinite(row["loss"]) and 0 <= row["flip_ratio"] <= 1 for row in record["history"])
    assert record["test"]["images"] == 64
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "tensorboard").rglob("events*"))
    model = tf.keras.models.load_model(output / "model.keras")
    tf.keras.mixed_precision.set_global_policy(record["precision"])
    packed = tiny_network(2, (32, 32, 3))
    zoo.load_weights(packed, output / "model.onebit")
    images = DATA[1][0].astype(np.float32)
    np.testing.assert_array_equal(packed.predict(images, verbose=0), model.predict(images, verbose=0))
    accuracy = (model.predict(images, verbose=0).argmax(1) == DATA[1][1]).mean()
    assert record["test"]["top1"] == pytest.approx(100 * accuracy)


def test_a_finished_run_is_not_run_again(finished):
    output, record = finished
    before = (output / "model.keras").stat().st_mtime_ns
    assert recipes.train(recipe(), output, data=DATA, verbose=0) == record
    assert (output / "model.keras").stat().st_mtime_ns == before


def test_a_run_keeps_the_precision_it_was_started_with(finished, monkeypatch):
    """Also on a machine on which another is the fastest; it can be told, too."""
    output, record = finished
    monkeypatch.setattr(trainer, "fast_precision", lambda: "mixed_float16")
    assert recipes.train(recipe(), output, data=DATA, verbose=0) == record
    with pytest.raises(ValueError, match=f"precision '{record['precision']}' instead of 'mixed_float16'"):
        recipes.train(recipe(), output, data=DATA, precision="mixed_float16")
    with pytest.raises(ValueError, match=r"precision must be one of auto, float32, .* not 'bf16'"):
        recipes.train(recipe(), output, data=DATA, precision="bf16")


def test_a_trial_with_fewer_images_than_a_batch(tmp_path):
    record = recipes.train(recipe(epochs=1, stages=1), tmp_path / "trial", data=DATA, limit=16, verbose=0)
    assert (record["training_images"], record["test"]["images"]) == (16, 16)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        recipes.train(recipe(), tmp_path / "none", data=DATA, limit=0)


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


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to damage."""
    return shutil.copytree(finished[0], tmp_path / "copy")


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


def test_two_runs_do_not_share_a_folder(finished, copy):
    fcntl = pytest.importorskip("fcntl")
    (copy / "record.json").unlink()
    with (copy / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process trains in"):
            recipes.train(recipe(), copy, data=DATA, verbose=0)
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


@pytest.mark.parametrize("seed", [-1, "a", 1.5, 2**31, None])
def test_the_seed_is_checked(seed, tmp_path):
    with pytest.raises(ValueError, match=rf"seed must be an integer from 0 to 2147483647, not {seed!r}"):
        recipes.train(recipe(), tmp_path / "run", data=DATA, seed=seed)
    assert not (tmp_path / "run").exists()


def test_the_saved_network_can_be_fine_tuned(tmp_path):
    """All of it, also what the last stage froze, and with an optimizer of one's own."""

    def frozen(classes, shape):
        network = tiny_network(classes, shape)
        for name in ("stem_conv", "stage1_block1_conv"):
            network.get_layer(name).trainable = False
        return network

    last = dataclasses.replace(recipe(1).stages[0], build=frozen)
    recipes.train(dataclasses.replace(recipe(1), stages=[last]), tmp_path / "run", data=DATA, verbose=0)
    model = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.optimizer is None
    assert len(model.trainable_variables) == len(tiny_network(2, (32, 32, 3)).trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(DATA[0][0][:32].astype(np.float32), DATA[0][1][:32], verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.any(variable.numpy() != old), variable.name


def test_the_best_network_is_one_of_the_last_stage(finished):
    """The stages before may have other, real-valued and better ones."""
    output, record = finished
    network = tiny_network(2, (32, 32, 3))
    network.load_weights(output / "best.weights.h5")
    accuracy = (network.predict(DATA[1][0].astype(np.float32), verbose=0).argmax(1) == DATA[1][1]).mean()
    assert accuracy == pytest.approx(max(row["val_accuracy"] for row in record["history"] if row["stage"] == "step2"))


def test_lengths_are_checked(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at least 1, and at most the 8 training images, not 32"):
        recipes.train(recipe(), tmp_path / "run", data=(striped_images(8, 0), DATA[1]))
    few = dataclasses.replace(recipe(), batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        recipes.train(few, tmp_path / "run", data=DATA)
    with pytest.raises(ValueError, match=r"epochs must be at least 1, not 0 \(stage 'step1'\)"):
        recipes.train(recipe(epochs=0), tmp_path / "run", data=DATA)
    with pytest.raises(ValueError, match=r"'reactnet' is not for this network: .*no argument 'step'"):
        recipes.train("reactnet", tmp_path / "run", data=DATA, model="irnet_resnet20", batch_size=32, verbose=0)


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


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_epoch(tmp_path):
    with pytest.raises(DivergedError, match=r"batch \d+ of epoch \d+"):
        recipes.train(recipe(lr=1e30, stages=1), tmp_path / "run", data=DATA, verbose=0)
    assert not (tmp_path / "run" / "record.json").exists()


SCRIPT = """
    from tests.recipes.test_trainer import DATA, recipe
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


class TestRecipes:
    """The registered recipes and their settings."""

    def test_unknown_names_suggest_the_nearest(self):
        with pytest.raises(ValueError, match=r"no recipe .irnett.\. Did you mean .irnet."):
            recipes.get_recipe("irnett")
        with pytest.raises(ValueError, match=r"no setting .epoch.\. Did you mean .epochs."):
            recipes.get_recipe("irnet", epoch=3)

    def test_settings_given_as_text_are_read_as_the_default_s_type(self):
        settings = recipes.get_recipe("mcdonnell", epochs="30", cutout="false", lr_max="1", width="2").settings
        assert (settings["epochs"], settings["cutout"], settings["lr_max"], settings["width"]) == (30, False, 1.0, 2.0)
        for name, value in (("epochs", "many"), ("epochs", 1.5), ("lr", "true"), ("model", 3)):
            with pytest.raises(ValueError, match=rf"setting {name} must be (int|float|str), such as .*, not {value!r}"):
                recipes.get_recipe("ftbnn", **{name: value})

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", math.inf])
    def test_settings_are_finite(self, value):
        with pytest.raises(ValueError, match=f"lr must be float, such as 0.8, not {value!r}"):
            recipes.get_recipe("irnet_imagenet", lr=value)

    def test_settings_that_may_be_none(self):
        for text, value in (("none", 7), ("3", 3)):
            settings = recipes.get_recipe("birealnet_staged", epochs=7, pretraining_epochs=text).settings
            assert settings["pretraining_epochs"] == value
        with pytest.raises(ValueError, match="pretraining_epochs must be int or None, not 'ten'"):
            recipes.get_recipe("birealnet_staged", pretraining_epochs="ten")
