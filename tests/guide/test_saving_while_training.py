"""Keras' guide, saving while training: ``ModelCheckpoint``, whole or best only, taken up again after a kill."""

from __future__ import annotations

import errno
import json
import os
import re

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


def test_taken_up_after_a_kill(tmp_path):
    """With the optimizer's state, a training that was killed ends with the very same weights."""
    whole = compiled()
    fit(whole, interop.ModelCheckpoint(tmp_path / "whole.interop"), epochs=5)
    killed, path = compiled(), tmp_path / "model.interop"
    with pytest.raises(Killed):
        killed.fit(
            X, Y, batch_size=4, epochs=5, shuffle=False, verbose=0,
            callbacks=[interop.ModelCheckpoint(path), Killer(3)],
        )  # fmt: skip
    saver = interop.ModelCheckpoint(path)
    assert (saver.epoch, saver.latest) == (3, path)
    model = interop.load_model(saver.latest)
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
