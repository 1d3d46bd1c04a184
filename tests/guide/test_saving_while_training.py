"""Keras' guide, saving while training: ``ModelCheckpoint``, whole or best only, taken up again after a kill."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

import interop
from interop.errors import FormatError, InteropError

X = np.random.default_rng(0).random((8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def compiled():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, saver, *, epochs, initial_epoch=0):
    return model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[saver],
    )


def weights(model):
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.weights]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_every_epoch_and_what_is_kept(tmp_path):
    model = compiled()
    saver = interop.ModelCheckpoint(tmp_path / "run" / "m-{epoch:02d}.interop", max_to_keep=2)
    assert (saver.latest, saver.epoch) == (None, 0)
    fit(model, saver, epochs=4)
    assert sorted(p.name for p in (tmp_path / "run").glob("*.interop")) == ["m-03.interop", "m-04.interop"]
    assert saver.latest == tmp_path / "run" / "m-04.interop"
    assert same(weights(interop.load_model(saver.latest)), weights(model))


class Killed(BaseException):
    pass


class Killer(keras.callbacks.Callback):
    """Ends the process, as far as a test can, in the middle of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise Killed


@pytest.mark.parametrize("name", ["model.interop", "w.safetensors", "ckpt"])
def test_taken_up_after_a_kill(tmp_path, name):
    """With the optimizer's state, a training that was killed ends with the very same weights."""
    whole = compiled()
    fit(whole, interop.ModelCheckpoint(tmp_path / "whole.interop"), epochs=5)
    killed, path = compiled(), tmp_path / name
    wanted = {} if name == "model.interop" else {"save_weights_only": True, "include_optimizer": True}
    with pytest.raises(Killed):
        killed.fit(
            X, Y, batch_size=4, epochs=5, shuffle=False, verbose=0,
            callbacks=[interop.ModelCheckpoint(path, **wanted), Killer(3)],
        )  # fmt: skip
    saver = interop.ModelCheckpoint(path, **wanted)
    assert (saver.epoch, saver.latest) == (3, path)
    model = compiled() if wanted else interop.load_model(saver.latest)
    if wanted:
        interop.load_weights(model, saver.latest).assert_consumed()
    fit(model, saver, epochs=5, initial_epoch=saver.epoch)
    for a, b in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # compiled anew, sums may have another order


def test_best_only(tmp_path):
    model, path = compiled(), tmp_path / "best.safetensors"
    saver = interop.ModelCheckpoint(path, monitor="loss", save_best_only=True, save_weights_only=True)
    history = fit(model, saver, epochs=3).history["loss"]
    assert saver.best == pytest.approx(min(history))
    before = path.read_bytes()
    # Another process: the best value so far is known, and a worse one is not saved.
    again = interop.ModelCheckpoint(path, monitor="loss", save_best_only=True, save_weights_only=True)
    assert (again.best, again.epoch) == (saver.best, saver.epoch)
    again.set_model(model)
    again.on_epoch_end(7, {"loss": saver.best * 2})
    again.on_epoch_end(8, {"loss": float("nan")})
    assert path.read_bytes() == before
    again.on_epoch_end(9, {"loss": saver.best / 2})
    assert again.epoch == 10
    assert path.exists()
    interop.load_weights(compiled(), path).assert_consumed()


@pytest.mark.parametrize(
    ("monitor", "mode", "better", "worse"),
    [
        ("val_loss", "auto", 1, 3),
        ("accuracy", "auto", 3, 1),
        ("reward", "max", 3, 1),
        ("reward", "min", 1, 3),
    ],
)
def test_modes(tmp_path, monitor, mode, better, worse):
    saver = interop.ModelCheckpoint(
        tmp_path / "w.npz", monitor, mode=mode, save_best_only=True, save_weights_only=True,
        initial_value_threshold=2,
    )  # fmt: skip
    saver.set_model(compiled())
    saver.on_epoch_end(0, {monitor: worse})
    assert saver.latest is None
    saver.on_epoch_end(1, {monitor: better})
    assert saver.epoch == 2


@pytest.mark.parametrize("ending", ["{epoch}.weights.h5", "{epoch}-{loss:.3f}", "w.safetensors"])
def test_weights_only_and_batches(tmp_path, ending):
    model = compiled()
    saver = interop.ModelCheckpoint(tmp_path / ending, save_weights_only=True, save_freq=2, max_to_keep=1)
    fit(model, saver, epochs=2)
    assert saver.epoch == 1
    interop.load_weights(compiled(), saver.latest).assert_consumed()
    names = {re.sub(r"\.(index|data-.*)$", "", name) for name in os.listdir(tmp_path)}
    assert len(names) == 2  # the last file, and the record


def test_batches_are_counted_from_epoch_to_epoch(tmp_path):
    """Two batches an epoch; Keras' own callback counts so too."""
    saver = interop.ModelCheckpoint(tmp_path / "{epoch}-{batch}.npz", save_weights_only=True, save_freq=3)
    fit(compiled(), saver, epochs=6)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [
        "2-1.npz",
        "3-2.npz",
        "5-1.npz",
        "6-2.npz",
    ]


def test_a_save_that_fails_leaves_the_record(tmp_path, monkeypatch):
    model, path = compiled(), tmp_path / "m.interop"
    saver = interop.ModelCheckpoint(path)
    fit(model, saver, epochs=1)
    good = weights(model)

    def fail(*arguments):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("interop.artifact.publish.Staging.publish", fail)
        with pytest.raises(OSError, match="the disk is full"):
            fit(model, saver, epochs=2, initial_epoch=1)
    again = interop.ModelCheckpoint(path)
    assert again.epoch == 1
    assert same(weights(interop.load_model(again.latest)), good)


@pytest.mark.parametrize(
    ("name", "failing"),
    [("w.safetensors", "fsync"), ("w.weights.h5", "replace"), ("w.h5", "fsync"), ("{epoch}", "replace")],
)
def test_a_full_disk_leaves_what_was_saved(tmp_path, monkeypatch, name, failing):
    model = compiled()
    saver = interop.ModelCheckpoint(tmp_path / name, save_weights_only=True)
    fit(model, saver, epochs=1)
    good = weights(model)

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            fit(model, saver, epochs=2, initial_epoch=1)
    again, other = interop.ModelCheckpoint(tmp_path / name, save_weights_only=True), compiled()
    assert again.epoch == 1
    interop.load_weights(other, again.latest).assert_consumed()
    assert same(weights(other), good)
    fit(other, again, epochs=2, initial_epoch=again.epoch)  # there is space again
    assert again.epoch == 2


def test_bad_arguments(tmp_path):
    for arguments, message in (
        ({"mode": "best"}, "mode is"),
        ({"save_freq": 0}, "save_freq is"),
        ({"max_to_keep": 0}, "max_to_keep is"),
        ({"monitor": "reward", "save_best_only": True}, "give mode='min' or 'max'"),
    ):
        with pytest.raises(InteropError, match=message):
            interop.ModelCheckpoint(tmp_path / "m.interop", **arguments)
    saver = interop.ModelCheckpoint(tmp_path / "{nothing}.npz", save_weights_only=True)
    saver.set_model(compiled())
    with pytest.raises(InteropError, match="cannot be filled in"):
        saver.on_epoch_end(0, {"loss": 1.0})
    saver = interop.ModelCheckpoint(tmp_path / "m.npz", save_best_only=True, save_weights_only=True)
    with pytest.warns(UserWarning, match="'val_loss' is not in the logs"):
        saver.on_epoch_end(0, {"loss": 1.0})
    (tmp_path / "m.npz.record.json").write_text(json.dumps({"epoch": "x"}))
    with pytest.raises(FormatError, match="is no record of a training"):
        interop.ModelCheckpoint(tmp_path / "m.npz")


# Forks once per moment: the child saves an epoch and dies before or after its n-th call into the file system; the
# parent looks at what is there. All weights are the number of the epoch. Prints (epoch on record, epoch in the file).
KILLED = """
import json, os, sys
import numpy as np
import keras, interop

template = sys.argv[1]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

def save(epoch):
    for weight in model.weights:
        weight.assign(np.full(weight.shape, epoch, "float32"))
    saver = interop.ModelCheckpoint(template, save_weights_only=True, max_to_keep=1)
    saver.set_model(model)
    saver.on_epoch_end(epoch - 1, {})

def die_at(moment):
    calls = []
    def wrap(name):
        real = getattr(os, name)
        def wrapped(*args, **kwargs):
            for when in ("before", "after"):
                calls.append(name)
                if len(calls) - 1 == moment:
                    os._exit(9)
                if when == "before":
                    result = real(*args, **kwargs)
            return result
        setattr(os, name, wrapped)
    for name in ("fsync", "replace", "unlink", "mkdir"):
        wrap(name)

save(1)
found, moment = [], 0
while True:
    before = interop.ModelCheckpoint(template).epoch
    pid = os.fork()
    if pid == 0:
        die_at(moment)
        save(before + 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    saver = interop.ModelCheckpoint(template)
    interop.load_weights(model, saver.latest).assert_consumed()
    values = {float(x) for w in model.weights for x in np.asarray(keras.ops.convert_to_numpy(w)).ravel()}
    found.append([saver.epoch - before, sorted(value - before for value in values)])
    if os.waitstatus_to_exitcode(status) == 0:
        break
    moment += 1
print(json.dumps(found))
"""


@pytest.mark.framework("torch")
@pytest.mark.parametrize("name", ["w.safetensors", "{epoch}", "{epoch}.weights.h5"])
def test_killed_before_and_after_every_call(tmp_path, name):
    """The record never names a file that is not whole; a file that is replaced may be one epoch ahead of it."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run" / name)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {epoch for epoch, _ in found} == {0, 1}
    for epoch, values in found:
        assert values == [epoch] or (name == "w.safetensors" and values == [epoch + 1])


TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import keras, interop
import test_saving_while_training as guide

said = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: print(epoch, flush=True))
guide.compiled().fit(
    guide.X, guide.Y, batch_size=4, epochs=1000, shuffle=False, verbose=0,
    callbacks=[interop.ModelCheckpoint(sys.argv[2]), said],
)
"""


@pytest.mark.framework("torch")
def test_a_process_that_was_killed_while_training(tmp_path):
    path = tmp_path / "{epoch}.interop"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, os.path.dirname(__file__), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    saver, whole = interop.ModelCheckpoint(path), compiled()
    assert saver.epoch >= 3
    model = interop.load_model(saver.latest)
    fit(model, saver, epochs=saver.epoch + 2, initial_epoch=saver.epoch)
    fit(whole, interop.ModelCheckpoint(tmp_path / "whole.interop"), epochs=saver.epoch)
    for a, b in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
