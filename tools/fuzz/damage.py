"""Damage: to bytes as they lie, and to what a checksum would hide, with the checksum made right again.

Enters: a folder of good files. Leaves: one of them damaged, and whether the file still says of itself that it is whole
(then what is read may differ, and nothing can tell).
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interop.artifact import config

JUNK: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        3,
        1e30,
        "",
        "x",
        "relu",
        "float32",
        "../x",
        [],
        {},
        [1, 2],
        ["x", 0, 0],
        ["x", 0, 0, {}],
    ),
    {"class_name": "Dense"},
    {"class_name": "Dense", "config": {}},
    {"class_name": 5, "config": {}},
    {"class_name": "Nope", "config": {}},
    {"class_name": "function", "config": "f"},
    {"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}},
    {"module": "os", "class_name": "system", "config": {}, "registered_name": "system"},
]
_HEADER = 8  # bytes before the JSON of a safetensors file: its length


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A bit flipped, a piece cut out, doubled or overwritten, or the end missing."""
    changed, at = bytearray(data), rng.randrange(len(data))
    kind = rng.randrange(5)
    size = min(rng.choice((1, 4, 64)), len(data) - at)
    if kind == 0:
        del changed[at:]
    elif kind == 1:
        del changed[at : at + size]
    elif kind == 2:
        changed[at:at] = changed[at : at + size]
    elif kind == 3:
        changed[at : at + size] = rng.randbytes(size)
    else:
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of some JSON with one or two places changed, taken away or added to."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(list(_places(value)))
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


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def damage(folder: Path, rng: random.Random, *, of_bytes: bool = True) -> bool:
    """Damage a file below a folder; whether its checksums, if it has any, were left as they are.

    Args:
        folder: what has files.
        rng: chooses.
        of_bytes: also as a disk would. Never give HDF5 that in a process that is to live on.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size)
    file = rng.choice(files)
    good = file.read_bytes()
    if of_bytes and rng.random() < 0.5:
        file.write_bytes(damaged(good, rng))
        return True
    if (file.parent / "config.json").exists():
        _damage_artifact(file, rng)
    else:
        file.write_bytes(_inside(file.name, good, rng))
    return False


def _inside(name: str, data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with something in it changed as a program could have."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _rezipped(data, rng)
    if data.startswith(b"\x89HDF"):
        return _changed_hdf5(data, rng)
    if name.endswith(".json"):
        return json.dumps(mutated(json.loads(data), rng)).encode()
    if name.endswith(".safetensors"):
        length = int.from_bytes(data[:_HEADER], "little")
        header = json.dumps(mutated(json.loads(data[_HEADER : _HEADER + length]), rng)).encode()
        return len(header).to_bytes(_HEADER, "little") + header + data[_HEADER + length :]
    return damaged(damaged(data, rng) or b"x", rng)


def _rezipped(data: bytes, rng: random.Random) -> bytes:
    """A zip with one member changed, left out or doubled; its checksums are right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(made, "w") as after:
        members = before.infolist()
        chosen, choice = rng.randrange(len(members)), rng.random()
        for index, info in enumerate(members):
            content = before.read(info)
            if index != chosen:
                after.writestr(info, content)
            elif choice > 0.1:
                after.writestr(info, _inside(info.filename, content, rng) if content else b"x")
    return made.getvalue()


def _changed_hdf5(data: bytes, rng: random.Random) -> bytes:
    """An HDF5 file of which an attribute or an object was changed with its own library."""
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visit(names.append)
        owner = opened[rng.choice(names)] if names and rng.random() < 0.6 else opened
        attributes = list(owner.attrs)
        if attributes and rng.random() < 0.8:
            name = rng.choice(attributes)
            value = owner.attrs[name]
            if isinstance(value, str | bytes) and value[:1] in ("{", b"{"):
                owner.attrs[name] = json.dumps(mutated(json.loads(value), rng))
            else:
                owner.attrs[name] = rng.choice(["", "x", 3, -1.5, [1, 2], b"dense", [b"dense", b"x"]])
        elif owner.name != "/":
            place = owner.name
            del opened[place]
            if rng.random() < 0.5:
                opened[place] = rng.choice(["text", 3, [1.0, 2.0], [[1, 2]]])
    return file.getvalue()


def _damage_artifact(file: Path, rng: random.Random) -> None:
    """Change a file of an artifact, and its digests with it."""
    folder = file.parent
    described = json.loads((folder / "config.json").read_bytes())
    if file.name == "config.json":
        changed = mutated(described, rng)
        if not isinstance(changed, dict):
            file.write_text(json.dumps(changed))
            return
        described = changed
    else:
        file.write_bytes(_inside(file.name, file.read_bytes(), rng))
        record = {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        described["files"][file.name] = record
    (folder / "config.json").write_bytes(config.dump(described))
