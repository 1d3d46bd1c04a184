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

FIXTURES = Path(__file__).parent / "fixtures" / "legacy"
H5 = sorted(path for folder in ("h5", "refused", "old") for path in (FIXTURES / folder).rglob("*.h5"))
SAVED = sorted(path.parent for path in FIXTURES.rglob("keras_metadata.pb"))
JUNK = [
    *(None, True, -1, 0, 3, 1e30, "", "x", "relu", [], {}, [1, 2], ["x", 0, 0], ["x", 0, 0, {}]),
    {"class_name": "Dense"},
    {"class_name": "Dense", "config": {}},
    {"class_name": 5, "config": {}},
    {"class_name": "Nope", "config": {}},
    {"class_name": "function", "config": "f"},
    {"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}},
    {"module": "os", "class_name": "system", "config": {}, "registered_name": "system"},
]
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
MANY = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutated(value, rng: random.Random):
    """A copy of some JSON with one or two places changed, taken away or added to."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(list(places(value)))
        if not path:
            continue
        owner = value
        for key in path[:-1]:
            owner = owner[key]
        choice = rng.random()
        junk = json.loads(json.dumps(rng.choice(JUNK)))
        if choice < 0.25:
            del owner[path[-1]]
        elif choice < 0.4 and isinstance(owner, dict):
            owner[rng.choice(["strange", "name", "layers", "config", "units"])] = junk
        else:
            owner[path[-1]] = junk
    return value


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
    name = rng.choice(["keras_metadata.pb", "keras_metadata.pb", "variables/variables.index"])
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
