"""A save that dies, a disk that fills, a byte that flips: the old artifact stays, or an error says so.

Saves are killed at every write, fsync, rename and unlink (before it and after it), and at random moments;
bytes are flipped over every region of both forms. All of it is done in processes of their own, which may not
crash either.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import artifacts

from interop.artifact import publish, sinks
from interop.artifact.bundle import open_bundle
from interop.errors import InteropError
from interop.loading import load_graph

pytestmark = pytest.mark.framework("torch")

TESTS = Path(__file__).parent
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def child(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, str(TESTS), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# Forks once per moment: the child saves a new model over an old one and dies before or after its n-th call
# into the file system; the parent loads what is there. Prints the outcomes and the calls that were seen.
KILLED = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cases import artifacts
from interop.artifact import publish
from interop.artifact.bundle import open_bundle
from interop.errors import InteropError

target, exchange = Path(sys.argv[2]), sys.argv[3] == "exchange"

def die_at(moment):
    calls = []
    def wrap(owner, name):
        real = getattr(owner, name)
        def wrapped(*args, **kwargs):
            for when in ("before", "after"):
                calls.append(f"{when} {name}")
                if len(calls) - 1 == moment:
                    os._exit(9)
                if when == "before":
                    result = real(*args, **kwargs)
            return result
        setattr(owner, name, wrapped)
    for name in ("write", "pwrite", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        wrap(os, name)
    if exchange:
        wrap(publish, "_renameat2")
    else:
        def refuse(a, b, flags):
            raise OSError(22, "no such call on this file system")
        publish._renameat2 = refuse
    return calls

def load():
    with open_bundle(target, verify_digest=True) as bundle:
        return {k: a.tobytes() for k, a in bundle.weights.items()}, bundle.optimizer["iterations"].item()

artifacts.save(target, 0)
old = load()
artifacts.save(target.with_name("other" + target.suffix), 1)
with open_bundle(target.with_name("other" + target.suffix), verify_digest=True) as bundle:
    new = {k: a.tobytes() for k, a in bundle.weights.items()}, 7
outcomes = []
moment = 0
while True:
    pid = os.fork()
    if pid == 0:
        calls = die_at(moment)
        artifacts.save(target, 1)
        Path(target.with_name("calls.json")).write_text(json.dumps(calls))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    try:
        now = load()
    except (InteropError, OSError) as e:
        outcomes.append(f"{type(e).__name__}: {e}")
    else:
        outcomes.append("old" if now == old else "new" if now == new else "MIXED")
    if os.waitstatus_to_exitcode(status) == 0:
        break
    artifacts.save(target, 0)  # also clears what the dead left behind
    left = [p.name for p in target.parent.iterdir() if ".interop-" in p.name]
    if left:
        outcomes.append(f"LEFT {left}")
    moment += 1
print(json.dumps([outcomes, json.loads(target.with_name("calls.json").read_text())]))
"""


@pytest.mark.parametrize(
    ("name", "swap"),
    [(artifacts.ZIP, "exchange"), (artifacts.DIRECTORY, "exchange"), (artifacts.DIRECTORY, "renames")],
)
def test_killed_before_and_after_every_call(tmp_path, name, swap):
    done = child(KILLED, str(tmp_path / name), swap)
    assert done.returncode == 0, done.stderr
    outcomes, calls = json.loads(done.stdout)
    assert set(outcomes) == {"old", "new"}, outcomes
    switch = outcomes.index("new")
    assert set(outcomes[:switch]) == {"old"}, "an outcome went back"
    assert set(outcomes[switch:]) == {"new"}, "an outcome went back"
    kinds = {call.split()[1] for call in calls}
    assert {"write", "fsync", "unlink" if name == artifacts.DIRECTORY else "replace"} <= kinds
    assert ("rename" in kinds) == (swap == "renames")


SAVE_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cases import artifacts
seed = 0
while True:
    seed = 1 - seed
    artifacts.save(Path(sys.argv[2]), seed)
    print(seed, flush=True)
"""


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_killed_by_signal_at_random_moments(tmp_path, name):
    path = tmp_path / name
    rng = random.Random(name)
    possible = []
    for seed in (0, 1):
        artifacts.save(path, seed)
        possible.append(artifacts.contents(path))
    for _ in range(10):  # 20 over both forms
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(TESTS), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is saving
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert artifacts.contents(path) in possible
        with open_bundle(path, verify_digest=True) as bundle:
            assert len(bundle.weights) == 5
    artifacts.save(path, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", artifacts.FORMS)
@pytest.mark.parametrize("failing", ["write", "fsync", "_renameat2+rename+replace"])
def test_disk_full_or_failing(tmp_path, monkeypatch, name, failing):
    path = tmp_path / name
    artifacts.save(path, 0)
    before = artifacts.contents(path)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for call in failing.split("+"):
            patch.setattr(publish if call == "_renameat2" else os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            artifacts.save(path, 1)
    assert artifacts.contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [name], "the attempt was not cleaned up"


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_a_sync_that_fails_while_a_long_file_is_written(tmp_path, monkeypatch, name):
    """The system tells such an error once: the sync at the end would find nothing wrong."""
    path = tmp_path / name
    artifacts.save(path, 0)
    before = artifacts.contents(path)
    synced = []

    def fail_once(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(sinks, "_SYNC_BYTES", 1)
        patch.setattr(sinks, "_sync", fail_once)
        with pytest.raises(OSError, match="Input/output error"):
            artifacts.save(path, 1)
    assert synced
    assert artifacts.contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [name], "the attempt was not cleaned up"


def test_a_sync_that_fails_while_a_file_of_tensors_is_replaced(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sinks, "_SYNC_BYTES", 1)
    monkeypatch.setattr(sinks, "_sync", fail)
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(OSError, match="Input/output error"),
        sinks.SyncedFile(file.fileno()) as synced,
    ):
        synced.write(b"some")


FILE_SIZE_LIMIT = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cases import artifacts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4200, 4200))
try:
    artifacts.save(Path(sys.argv[2]), 1)
except OSError as e:
    print("OSError", e.errno)
"""


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_file_size_limit_in_a_real_process(tmp_path, name):
    path = tmp_path / name
    artifacts.save(path, 0)
    before = artifacts.contents(path)
    done = child(FILE_SIZE_LIMIT, str(path))
    assert done.stdout.split() == ["OSError", str(errno.EFBIG)], done.stderr
    assert artifacts.contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_save_removes_only_what_dead_saves_left(tmp_path):
    path = tmp_path / artifacts.DIRECTORY
    artifacts.save(path)
    with publish.stage(path, overwrite=True) as living:
        dead = tmp_path / f".{path.name}.interop-new-00000000"
        dead.mkdir()
        (dead / "model.onnx").write_bytes(b"half")
        foreign = tmp_path / f".{path.name}.interop-new-11111111"
        foreign.mkdir()
        (foreign / "thesis.txt").write_text("mine")
        artifacts.save(path, 1)
        assert living.path.exists(), "the sibling of a living writer was removed"
        assert not dead.exists()
        assert (foreign / "thesis.txt").read_text() == "mine"


def test_foreign_file_that_appears_during_the_save(tmp_path, monkeypatch):
    path = tmp_path / artifacts.DIRECTORY
    artifacts.save(path, 0)
    before = artifacts.contents(path)
    real, calls = publish.rename_exchange, []

    def late(a, b):
        if not calls:
            (path / "notes.txt").write_text("mine")
        calls.append((a, b))
        real(a, b)

    monkeypatch.setattr(publish, "rename_exchange", late)
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        artifacts.save(path, 1)
    assert artifacts.contents(path) == before | {"notes.txt": b"mine"}


# Flips or truncates one file, loads it in each way, and says what came out. `digest` loads must give an error
# or the identical artifact; the default load_graph must only not crash, and may not go out of bounds.
FLIPPED = """
import json, os, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from cases import artifacts
from interop.artifact.bundle import open_bundle
from interop.errors import InteropError
from interop.loading import load_graph

target, count = Path(sys.argv[2]), int(sys.argv[3])
x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)

def state():
    with open_bundle(target, verify_digest=True) as b:
        tensors = [[(k, a.dtype.name, a.shape, a.tobytes()) for k, a in m.items()]
                   for m in (b.weights, b.optimizer)]
        return b.config, b.graph_bytes(), tensors

reference, output = state(), load_graph(target)(x)
bad, seen, refused = [], 0, 0
for file in sorted(target.iterdir()) if target.is_dir() else [target]:
    good = file.read_bytes()
    rng = random.Random(file.name)
    # Every region is sampled: the data between long runs of padding, and the padding a little.
    dense = [i for i, byte in enumerate(good) if byte not in (0, 32)]
    spots = [("flip", rng.choice(dense), 1 << rng.randrange(8)) for _ in range(count)]
    spots += [("flip", rng.randrange(len(good)), 1 << rng.randrange(8)) for _ in range(count // 4)]
    spots += [("cut", rng.randrange(len(good)), 0) for _ in range(count // 8)]
    spots += [("cut", n, 0) for n in (0, 1, len(good) - 1)] + [("extend", 0, 0)]
    for kind, at, bit in spots:
        data = bytearray(good)
        if kind == "flip":
            data[at] ^= bit
        elif kind == "cut":
            del data[at:]
        else:
            data += b"x"
        file.write_bytes(bytes(data))
        seen += 1
        try:
            if state() != reference:
                bad.append([file.name, kind, at, bit, "silently different"])
        except InteropError:
            refused += 1
        except BaseException as e:
            bad.append([file.name, kind, at, bit, repr(e)])
        try:
            if load_graph(target)(x).shape != output.shape:
                bad.append([file.name, kind, at, bit, "shape"])
        except InteropError:
            pass
        except BaseException as e:
            bad.append([file.name, kind, at, bit, "load_graph " + repr(e)])
    file.write_bytes(good)
print(json.dumps([seen, refused, bad]))
"""


@pytest.mark.parametrize(("name", "count"), [(artifacts.DIRECTORY, 80), (artifacts.ZIP, 240)])
def test_flipped_and_truncated_bytes(tmp_path, name, count):
    path = tmp_path / name
    artifacts.save(path)
    done = child(FLIPPED, str(path), str(count), timeout=120)
    assert done.returncode == 0, f"the process crashed: {done.returncode} {done.stderr[-2000:]}"
    seen, refused, bad = json.loads(done.stdout)
    assert not bad
    assert seen > 300
    assert refused > 0.6 * seen, "the flips hit nothing that matters"


PLAIN = """
import json, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from interop.errors import InteropError
from interop.loading import load_graph
path = Path(sys.argv[2])
good = path.read_bytes()
rng = random.Random(0)
bad = []
for n in range(250):
    data = bytearray(good)
    if n % 5 == 0:
        del data[rng.randrange(len(data)):]
    else:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    try:
        load_graph(path)(np.ones((1, 4), np.float32))
    except InteropError:
        pass
    except BaseException as e:
        bad.append([n, repr(e)])
print(json.dumps(bad))
"""


def test_malformed_plain_onnx_never_crashes(tmp_path):
    artifacts.save(tmp_path / "model")
    path = tmp_path / "model" / "plain.onnx"
    path.write_bytes((tmp_path / "model" / "model.onnx").read_bytes())
    done = child(PLAIN, str(path))
    assert done.returncode == 0, f"the process crashed: {done.returncode} {done.stderr[-2000:]}"
    assert json.loads(done.stdout) == []


def test_a_mixed_pair_is_detected(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        artifacts.save(tmp_path / name, seed)
    (tmp_path / "a" / "weights.safetensors").write_bytes(
        (tmp_path / "b" / "weights.safetensors").read_bytes()
    )
    with pytest.raises(InteropError, match="belongs to another save"):
        load_graph(tmp_path / "a", verify_digest=True)


def test_a_session_survives_the_replacement_of_its_files(tmp_path):
    for name in artifacts.FORMS:
        artifacts.save(tmp_path / name, 0)
        graph = load_graph(tmp_path / name, low_memory=True)
        for _ in range(3):
            artifacts.save(tmp_path / name, 1)
        np.testing.assert_allclose(graph(X), artifacts.expected(X, 0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            load_graph(tmp_path / name)(X), artifacts.expected(X, 1), rtol=1e-5, atol=1e-6
        )


def test_replaced_while_it_is_opened(tmp_path, monkeypatch):
    """A save between our check and ONNX Runtime's own open is noticed, and opening starts over."""
    from interop.runtime import session

    path = tmp_path / artifacts.DIRECTORY
    artifacts.save(path, 0)
    real, calls = session._session, []

    def save_first(*args):
        calls.append(1)
        if len(calls) == 1:
            artifacts.save(path, 1)
        return real(*args)

    monkeypatch.setattr(session, "_session", save_first)
    np.testing.assert_allclose(load_graph(path)(X), artifacts.expected(X, 1), rtol=1e-5, atol=1e-6)
    assert len(calls) == 2
