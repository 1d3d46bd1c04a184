"""Weights that are written while the model is traced: whole, in order, and given up when something fails."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from cases import artifacts

import interop
from interop.artifact import writing
from interop.artifact.ahead import Ahead
from interop.errors import ArtifactError, CaptureError
from interop.formats.source import ArraySource


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Neither threads nor how often they take turns."""
    interval = sys.getswitchinterval()
    yield
    assert sys.getswitchinterval() == interval
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("interop")]


class Gate:
    """Sources whose values come once it is opened."""

    def __init__(self) -> None:
        self.asked, self.opened = threading.Event(), threading.Event()

    def sources(self, arrays: Mapping[str, Any]) -> dict[str, ArraySource]:
        gate = self

        class Slow(ArraySource):
            def read(self) -> Any:
                gate.asked.set()
                assert gate.opened.wait(60)
                return self.array

        return {key: Slow(array) for key, array in arrays.items()}


def graph(placements: Mapping[str, Any]) -> bytes:
    return artifacts.graph(placements).SerializeToString()


def rest() -> dict[str, Any]:
    return {"config": lambda: artifacts.config(artifacts.weights()), "graph": graph}


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_the_graph_is_made_meanwhile(tmp_path, name):
    gate = Gate()
    sources = gate.sources(artifacts.weights())
    made = []

    def graph_meanwhile(placements: Mapping[str, Any]) -> bytes:
        assert gate.asked.wait(60)
        assert sys.getswitchinterval() < 0.001
        made.append(True)
        gate.opened.set()
        return graph(placements)

    with writing.writing(tmp_path / name) as writer:
        writer.begin(sources, True)
        writer.finish(weights=sources, **{**rest(), "graph": graph_meanwhile})
    assert made
    artifacts.save(tmp_path / f"at_once_{name}")
    with (
        interop.load_tensors(tmp_path / name) as ahead,
        interop.load_tensors(tmp_path / f"at_once_{name}") as at_once,
    ):
        assert {key: array.tobytes() for key, array in ahead.items()} == {
            key: at_once[key].tobytes() for key in ahead
        }


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_what_turns_out_differently_is_written_again(tmp_path, name):
    arrays = artifacts.weights()
    sources = {key: ArraySource(array) for key, array in arrays.items()}
    with writing.writing(tmp_path / name) as writer:
        writer.begin({**sources, "another": ArraySource(np.ones(3, np.float32))}, True)
        writer.finish(weights=sources, **rest())
    with interop.load_tensors(tmp_path / name) as tensors:
        assert set(tensors) == set(arrays)


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_a_trace_that_fails_ends_the_writing(tmp_path, monkeypatch, name):
    """An error in the middle of a long file: the rest of it is not waited for."""
    artifacts.save(tmp_path / name)
    before = (tmp_path / name).read_bytes() if name == artifacts.ZIP else None
    gate = Gate()
    sources = gate.sources({"a": np.zeros(1 << 22, np.float32), "b": np.ones(1 << 22, np.float32)})
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or real(fd, data))

    def fail() -> None:
        with writing.writing(tmp_path / name) as writer:
            writer.begin(sources, True)
            assert gate.asked.wait(60)
            threading.Timer(0.2, gate.opened.set).start()  # while the writer is being closed
            raise CaptureError("no such thing")

    with pytest.raises(CaptureError, match="no such thing"):
        fail()
    assert sum(written) < 1 << 20, "nothing of the weights"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if before is not None:
        assert (tmp_path / name).read_bytes() == before
    with interop.load_tensors(tmp_path / name) as tensors:
        assert set(artifacts.weights()) <= set(tensors)


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_a_full_disk_is_told(tmp_path, monkeypatch, name):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    interop.save_model(model, tmp_path / name)
    before = model.predict(np.ones((1, 3), np.float32), verbose=0)
    model.layers[0].kernel.assign(np.zeros((3, 4)))

    def full(descriptor: int, data: Any) -> int:
        assert threading.current_thread() is not threading.main_thread(), "the weights come first"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            interop.save_model(model, tmp_path / name)
    kept = interop.load_model(tmp_path / name)
    np.testing.assert_array_equal(kept.predict(np.ones((1, 3), np.float32), verbose=0), before)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_source_that_lies(tmp_path):
    class Lying(ArraySource):
        def read(self) -> Any:
            return self.array.astype(np.float64)

    sources = {key: Lying(array) for key, array in artifacts.weights().items()}

    def save() -> None:
        with writing.writing(tmp_path / "m") as writer:
            writer.begin(sources, True)
            writer.finish(weights=sources, **rest())

    with pytest.raises(ArtifactError, match=r"announced as float32.* but its values are float64"):
        save()
    assert list(tmp_path.iterdir()) == []


def test_code_of_others_sees_no_values_being_read(tmp_path, monkeypatch):
    """A layer that changes its own variable when it is called: what is saved is what it was before."""
    running = []
    began = Ahead.__init__

    def note(self: Ahead, *args: Any) -> None:
        began(self, *args)
        running.append(self)

    monkeypatch.setattr(Ahead, "__init__", note)

    @keras.saving.register_keras_serializable("ahead")
    class Counting(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            assert all(each._added.done() for each in running)
            return x + self.seen

    model = keras.Sequential([keras.Input((3,)), Counting()])
    interop.save_model(model, tmp_path / "m")
    assert running


def test_two_saves_at_a_time(tmp_path):
    """The interval is the process's: it is put back once, to what it was before the first."""
    interval = sys.getswitchinterval()
    gates = Gate(), Gate()
    a, b = (gate.sources(artifacts.weights()) for gate in gates)
    with writing.writing(tmp_path / "a") as first, writing.writing(tmp_path / "b") as second:
        first.begin(a, True)
        assert gates[0].asked.wait(60)
        second.begin(b, True)
        assert gates[1].asked.wait(60)
        gates[0].opened.set()
        first.finish(weights=a, **rest())
        assert sys.getswitchinterval() < interval
        gates[1].opened.set()
        second.finish(weights=b, **rest())
