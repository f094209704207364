"""A run's folder: whose it is, what damage does, and resuming to the very same weights."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from onebit import recipes
from onebit.recipes import DivergedError, run_folder
from onebit.zoo.model_info import structure
from tests.helpers import start_python
from tests.recipes.models import DATA, plain_network, plain_recipe, recipe, striped_images

pytestmark = pytest.mark.slow

PLAIN = plain_recipe(3, stages=2)


def train(output, chosen=PLAIN, **options):
    return recipes.train(chosen, output, **{"data": DATA, "precision": "float32", "verbose": 0, **options})


def losses(record):
    return [(row["stage"], row["epoch"], row["loss"]) for row in record["history"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a finished run of `PLAIN`, and its record."""
    output = tmp_path_factory.mktemp("run") / "plain"
    return output, train(output)


@pytest.fixture
def unfinished(plain, tmp_path):
    """A copy of it whose record is not yet written."""
    copy = shutil.copytree(plain[0], tmp_path / "copy")
    (copy / "record.json").unlink()
    return copy


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_run_s_folder_is_refused_and_left_as_it_is(plain, unfinished, tmp_path):
    """Also where its checkpoints were deleted to save space."""
    shutil.rmtree(unfinished / "checkpoints")
    for output in (plain[0], unfinished):
        before = files_of(output)
        with pytest.raises(ValueError, match=r"epochs 3 .*4"):
            train(output, plain_recipe(4, stages=2))
        with pytest.raises(ValueError, match="sha256"):
            train(output, data=(DATA[0], striped_images(64, 2)))
        assert files_of(output) == before
    with pytest.raises(ValueError, match=r"history.csv.*step1"):
        train(unfinished)
    (unfinished / "record.json").write_bytes((plain[0] / "record.json").read_bytes())
    assert train(unfinished) == plain[1]
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="is not empty"):
        train(tmp_path)


def test_a_folder_whose_first_epoch_never_ended_is_free(tmp_path):
    """A command that fails at once can be given again, mended, and so can one that was killed while it began."""
    (tmp_path / "run" / ".run.json.abc").mkdir(parents=True)
    diverging = plain_recipe(optimizer=lambda steps: recipes.L2SGD(1e30))
    with pytest.raises(DivergedError):
        train(tmp_path / "run", diverging)
    assert train(tmp_path / "run", plain_recipe(1), limit=32)["settings"] == {"epochs": 1}


@pytest.mark.parametrize("name", ["lr[0.1]", "what?", "*"])
def test_a_folder_that_is_a_pattern_is_refused(name, tmp_path):
    """TensorFlow would not find the checkpoints again."""
    with pytest.raises(ValueError, match="output"):
        train(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_first_checkpoint_costs_no_more_than_the_epoch(plain, unfinished):
    shutil.rmtree(unfinished / "checkpoints")
    rows = (unfinished / "history.csv").read_text().splitlines(keepends=True)
    (unfinished / "history.csv").write_text("".join(rows[:2]))
    assert losses(train(unfinished)) == losses(plain[1])


def test_a_run_that_goes_on_elsewhere_says_so(unfinished, caplog, monkeypatch):
    """With other threads, kernels or another TensorFlow its sums are rounded otherwise."""
    environment = json.loads((unfinished / "run.json").read_text())["environment"]
    assert environment == run_folder._environment()
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == os.environ.get("TF_ENABLE_ONEDNN_OPTS")

    def warnings():
        return [record.getMessage() for record in caplog.records if record.name == run_folder.__name__]

    train(unfinished)
    monkeypatch.setattr(run_folder, "_environment", lambda: environment | {"threads": 99})
    train(unfinished)
    assert not warnings(), "it was finished"
    (unfinished / "record.json").unlink()
    train(unfinished)
    [warning] = warnings()
    assert f"threads={environment['threads']}," in warning and "threads=99," in warning
    assert json.loads((unfinished / "run.json").read_text())["environment"] == environment


def test_a_damaged_last_checkpoint_costs_its_epoch(plain, unfinished, caplog):
    """As a power failure may leave it. Of an earlier stage there is no other: a later one began with what it held."""
    shutil.rmtree(unfinished / "checkpoints" / "2-step2")
    rows = (unfinished / "history.csv").read_text().splitlines(keepends=True)
    (unfinished / "history.csv").write_text("".join(rows[:4]))
    [data] = (unfinished / "checkpoints" / "1-step1").glob("ckpt-3.data*")
    data.write_bytes(b"")
    assert losses(train(unfinished)) == losses(plain[1])
    assert "ckpt-3 is damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_damaged_list_of_checkpoints_is_named(content, unfinished):
    (unfinished / "checkpoints" / "1-step1" / "checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match="1-step1/checkpoint"):
        train(unfinished)


def test_two_runs_do_not_share_a_folder(plain, unfinished, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    begun = tmp_path / "begun"  # and no epoch has ended there
    (begun / "tensorboard" / "step1").mkdir(parents=True)
    shutil.copy(unfinished / "run.json", begun)
    for output, chosen in ((unfinished, PLAIN), (begun, plain_recipe(4))):
        with (output / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(ValueError, match="Another process"):
                train(output, chosen)
    assert (begun / "tensorboard" / "step1").exists()
    assert train(unfinished)["history"] == plain[1]["history"]


@pytest.mark.parametrize("validation", [False, True])
def test_a_full_disk_is_an_error(validation, tmp_path, monkeypatch):
    """HDF5 would crash, and TensorFlow raise errors of its own."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match=r"best\.weights\.h5" if validation else "1-step1"):
        train(tmp_path / "run", data=(*DATA, DATA[1]) if validation else DATA)


LIMITED = """
    import resource, signal, sys
    from tests.recipes.models import DATA, plain_recipe
    from onebit import recipes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        recipes.train(plain_recipe(3, stages=2), sys.argv[1], data=DATA, precision="float32", verbose=0)
    except OSError as error:
        print("OSError:", error)
"""


@pytest.mark.parametrize("size", [100, 1000, 4000])
def test_what_cannot_be_written_is_named(size, plain, tmp_path):
    """With room again, the same call ends with the weights of a run that always had it."""
    with start_python(LIMITED, tmp_path / "run", size) as process:
        output, _ = process.communicate()
    [error] = [line for line in output.splitlines() if line.startswith("OSError:")]
    assert str(tmp_path / "run") in error
    assert losses(train(tmp_path / "run")) == losses(plain[1])


@pytest.mark.parametrize(
    "content",
    [
        "stage,epoch,loss,seconds\nstep1,1,abc,1\n",
        "stage,epoch,seconds\nstep1,1,1,2\n",
        "stage,epoch\nstep1,1\n",
        "stage,epoch,seconds\nstep0,1,1\n",
        lambda rows: [*rows, rows[-1]],
        lambda rows: rows[:-1],
        lambda rows: [*rows[:1], *rows[2:]],
        lambda rows: [rows[1], rows[0], *rows[2:]],
        lambda rows: [*rows[3:], *rows[:3]],
        lambda rows: [rows[0], *rows],
        lambda rows: [],
        None,
    ],
)
def test_a_history_must_be_whole_and_that_of_the_checkpoints(content, unfinished):
    """No row is missing, doubled or elsewhere: the record would be another one's without a word."""
    path = unfinished / "history.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    if content is None:
        path.unlink()
    else:
        path.write_text(content if isinstance(content, str) else "".join([head, *content(rows)]))
    with pytest.raises(ValueError, match=r"history\.csv"):
        train(unfinished)


@pytest.mark.parametrize("name", ["run.json", "history.csv", "record.json", ".lock", "checkpoints/1-step1/checkpoint"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "folder"])
def test_what_is_no_file_is_not_waited_for(name, kind, unfinished):
    path = unfinished / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.mkdir()
    with pytest.raises((OSError, ValueError), match=rf"{re.escape(name)}|history"):
        train(unfinished, precision="auto")


@pytest.mark.parametrize("change", [{"settings": [1]}, {"environment": "x"}, {"precision": 5}])
def test_a_plan_of_other_kinds_is_damaged(change, unfinished):
    plan = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(plan | change))
    with pytest.raises(ValueError, match=rf"run\.json.*{next(iter(change))}"):
        train(unfinished)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
@pytest.mark.parametrize("name", ["run.json", "record.json"])
def test_a_damaged_file_is_named(name, content, unfinished):
    (unfinished / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        train(unfinished)


@pytest.mark.parametrize("damage", ["another network", "half a file"])
def test_a_checkpoint_that_does_not_fit_is_refused_and_kept(damage, unfinished):
    [data] = (unfinished / "checkpoints" / "1-step1").glob("ckpt-3.data*")
    chosen = PLAIN
    if damage == "half a file":
        data.write_bytes(data.read_bytes()[:100])
    else:
        first = dataclasses.replace(PLAIN.stages[0], build=lambda classes, shape: plain_network(classes + 1, shape))
        chosen = dataclasses.replace(PLAIN, stages=[first, PLAIN.stages[1]])
        plan = json.loads((unfinished / "run.json").read_text())
        plan["networks"][0] = structure(first.build(2, (32, 32, 3)))
        (unfinished / "run.json").write_text(json.dumps(plan))
    before = data.read_bytes()
    with pytest.raises(ValueError, match="ckpt-3"):
        train(unfinished, chosen)
    assert data.read_bytes() == before


SCRIPT = """
    import sys
    from tests.recipes.models import DATA, recipe
    from onebit import recipes
    recipes.train(recipe(), sys.argv[1], data=DATA, precision="float32", verbose=2)
"""


@pytest.mark.parametrize("moment", ["1-step1/ckpt-2", "2-step2/ckpt-1"])
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
    resumed = train(again, recipe())
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
