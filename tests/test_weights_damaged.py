"""Damaged and hostile weights files: only errors of this toolkit come out, and nothing is silently different."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import interop
from interop.artifact.checkpoints import write_checkpoint
from interop.errors import FormatError, InteropError
from interop.formats.tensorbundle.objects import VARIABLE_VALUE, Node, ObjectGraph, SlotVariable, Value
from interop.rebuild.weights.object_graph import graph_source
from tools.fuzz.damage import damage
from tools.fuzz.readers import READERS, SEED, model_of, same

EXAMPLES = settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)


@pytest.mark.framework("torch")  # what reads files depends on no backend
@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_reader(tmp_path, name):
    """Where the format has checksums, what loads is what was saved. HDF5's own library is not given damaged bytes."""
    reader, good, bad = READERS[name], tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    reader.make(good)
    expected = reader.read(good)

    def check(seed: int) -> None:
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        kept = damage(bad, random.Random(seed), of_bytes=not reader.hdf5)
        with contextlib.suppress(InteropError, FileNotFoundError):
            read = reader.read(bad)
            assert not (kept and reader.checked) or same(read, expected)

    EXAMPLES(given(st.integers(0, 2**32))(check))()


NAMES = st.sampled_from(
    (
        "layer-0 layer-1 layer_with_weights-0 kernel _kernel bias optimizer _functional _operations 0 1 "
        "_trainable_variables _momentums momentums iterations root x \0"
    ).split(" ")
)
KEYS = st.sampled_from(["a", "b", "c", "not stored"])
NODES = st.lists(
    st.builds(
        lambda children, key, name, slots: (children, key, name, slots),
        st.dictionaries(NAMES, st.integers(0, 9), max_size=5),
        st.none() | KEYS,
        st.sampled_from(["", "a/kernel", "b/bias", "Adam/m/a/kernel", "dense/kernel", "//"]),
        st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(["m", "v", "?"]), st.integers(0, 9)), max_size=2
        ),
    ),
    min_size=10,
    max_size=10,
)


@pytest.fixture(scope="module")
def compiled():
    return model_of(SEED)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes=NODES, skip=st.booleans())
def test_any_object_graph(tmp_path, compiled, nodes, skip):
    """Well-formed checkpoints whose graphs say anything: cycles, values twice, slots of nothing."""

    class Stored:
        def __init__(self, array):
            self.array, self.dtype, self.shape = array, array.dtype.name, array.shape

        def read(self):
            return self.array

    graph = ObjectGraph(
        [
            Node(
                children,
                {} if key is None else {VARIABLE_VALUE: Value(key, name)},
                [SlotVariable(*slot) for slot in slots],
            )
            for children, key, name, slots in nodes
        ]
    )
    tensors = {"a": np.ones((3, 4), "f"), "b": np.ones(4, "f"), "c": np.array(7, "i8")}
    write_checkpoint(tmp_path / "c", {**{k: Stored(v) for k, v in tensors.items()}, **graph_source(graph)})
    try:
        interop.load_weights(compiled, tmp_path / "c", skip_mismatch=skip)
    except InteropError:
        return


def write(path: Path, change) -> Path:
    interop.save_weights(model_of(SEED), path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def link(file):
    file["layers/dense/vars/9"] = h5py.ExternalLink("other.h5", "x")


def hard_link(file):
    file["layers/dense/vars/9"] = file["layers/dense/vars/0"]


def text(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = "not numbers"


def odd_attributes(file):
    for name in ("layers/dense/vars/0", "layers/dense/vars/1"):
        file[name].attrs["object_path"] = np.arange(3)
    file["layers/dense/vars"].attrs["name"] = 3


def empty_path(file):
    file["layers/dense/vars/0"].attrs["object_path"] = "//"


def legacy_names(file):
    file.attrs["layer_names"] = np.array([b"layers", b"missing"])


@pytest.mark.parametrize("change", [link, hard_link, text, odd_attributes, empty_path, legacy_names])
def test_hostile_h5(tmp_path, change):
    path = write(tmp_path / "w.weights.h5", change)
    try:
        interop.load_weights(model_of(SEED), path)
    except InteropError:
        return


def test_a_legacy_file_of_nothing(tmp_path):
    for value in (np.array([b"dense"]), b"dense", 3, np.array([[1, 2]])):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file["x"] = np.zeros(2)
            file.attrs["layer_names"] = value
        with pytest.raises(InteropError):
            interop.load_weights(model_of(SEED), tmp_path / "w.h5")
    (tmp_path / "w.h5").write_bytes(b"no HDF5")
    with pytest.raises(FormatError):
        interop.load_weights(model_of(SEED), tmp_path / "w.h5")


def test_nothing_is_unpickled(tmp_path):
    np.savez(
        tmp_path / "w.npz",
        **{"dense/kernel": np.array([keras], object)[:0], "dense/bias": np.array([{}], object)},
    )
    with pytest.raises(FormatError, match="nothing is unpickled"):
        interop.load_weights(model_of(SEED), tmp_path / "w.npz")
