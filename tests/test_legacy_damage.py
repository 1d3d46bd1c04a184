"""Files of older Keras that were tampered with: they load, or raise an error of ours; nothing of them is run."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import warnings
from pathlib import Path

import h5py
import legacy_classes  # noqa: F401  registers the classes of the fixtures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import interop
from interop.errors import InteropError
from tools.fuzz.damage import mutated

FIXTURES = Path(__file__).parent / "fixtures" / "legacy"
H5 = sorted(path for folder in ("h5", "refused", "old") for path in (FIXTURES / folder).rglob("*.h5"))
SAVED = sorted(path.parent for path in FIXTURES.rglob("keras_metadata.pb"))
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
MANY = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def load(path: Path) -> None:
    with warnings.catch_warnings(), contextlib.suppress(InteropError):  # any other error fails the test
        warnings.simplefilter("ignore")
        interop.load_model(path)


def check_hdf5(rng: random.Random, folder: Path) -> None:
    path = folder / "m.h5"
    shutil.copy(rng.choice(H5), path)
    with h5py.File(path, "a") as file:
        name = rng.choice([n for n in ("model_config", "training_config") if n in file.attrs])
        file.attrs[name] = json.dumps(mutated(json.loads(file.attrs[name]), rng))
    load(path)


def check_saved_model(rng: random.Random, folder: Path) -> None:
    path = folder / "m"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(rng.choice(SAVED), path)
    name = rng.choice(["keras_metadata.pb", "saved_model.pb", "variables/variables.index"])
    data = bytearray((path / name).read_bytes())
    for _ in range(rng.choice((1, 3))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    (path / name).write_bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
    load(path)


CHECKS = {"hdf5": check_hdf5, "saved_model": check_saved_model}


@pytest.mark.parametrize("kind", CHECKS)
def test_mutated_files_raise_errors_of_ours(kind, tmp_path):
    FEW(given(st.integers(0, 2**32))(lambda seed: CHECKS[kind](random.Random(seed), tmp_path)))()


@pytest.mark.full
@pytest.mark.parametrize("kind", CHECKS)
def test_many_mutated_files_raise_errors_of_ours(kind, tmp_path):
    MANY(given(st.integers(0, 2**32))(lambda seed: CHECKS[kind](random.Random(seed), tmp_path)))()
