"""``config.json``: what it holds, its digest, and whether this reader may read it.

What enters: a dict or bytes. What leaves: bytes or a checked dict. The published schema is
``config.schema.json`` beside this file; it is for tools and tests. Reading checks less, and faster: only
what the artifact itself needs. The model's own part is checked by whoever rebuilds it.

Invariants:

- the last two lines are ``"digest": "..."`` and ``}``; the digest is the SHA-256 of all bytes before them, so that
  a program in any language can tell whether a config is whole, before it reads JSON (``head -n -2 | sha256sum``);
- the version is looked at first, so that an artifact of the future is called that and nothing else;
- writing the same dict gives the same bytes; the order of keys is kept, but for ``variables``, ``model`` and
  ``digest``, which come last: what opens a graph need not be picked out of what describes every layer.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from interop.artifact.digest import MIN_PIECE_BYTES, PIECE_BYTES
from interop.artifact.signature import Signature
from interop.errors import ArtifactError, DigestError, VersionError

FORMAT = "interop"
FORMAT_VERSION = 1
"""The version this code writes."""

READER_VERSION = 1
"""The newest ``min_reader_version`` this code can read."""

MAX_BYTES = 64 << 20
"""A config longer than this is refused before it is read."""

_LONG = ("variables", "model")
_FIRST_LONG = b',\n"variables": '
_PLAIN = frozenset({str, int, bool, type(None)})


def dump(config: dict[str, Any]) -> bytes:
    """Serialise a config, adding its digest.

    Raises:
        ArtifactError: it holds something that JSON cannot (the message names the place).
    """
    if (problem := _problem(config)) is not None:
        raise ArtifactError(f"config{problem}")
    parts = {key: value for key, value in config.items() if key not in (*_LONG, "digest")}
    parts |= {key: config[key] for key in _LONG if key in config}
    text = _lines(parts, 2).encode().removesuffix(b"\n}") + b",\n"
    return text + _end(text)


def parse(text: bytes) -> dict[str, Any]:
    """Parse and check ``config.json``: version, then digest, then structure.

    Raises:
        VersionError: it needs a newer reader.
        DigestError: it was changed after it was written.
        ArtifactError: it is not the config of an artifact.
    """
    config = _json(text)
    _check_version(config)
    if not _is_whole(text):
        raise DigestError("config.json does not match its own digest: it was changed after it was written")
    _check_head(config)
    _check_variables(config)
    _check_model(config)
    return config


def parse_head(text: bytes) -> dict[str, Any]:
    """The same without ``variables`` and ``model``, which are as long as the model is large: what opens a graph.

    They are hashed like the rest, but neither parsed nor checked.
    """
    end = text.find(_FIRST_LONG)
    if end < 0 or not _is_whole(text):
        return parse(text)
    try:
        head = _json(text[:end] + b"\n}")
        _check_version(head)
        _check_head(head)
    except ArtifactError:  # not laid out as `dump` does, or wrong in a way that is told of the whole
        return parse(text)
    return head


def _is_whole(text: bytes) -> bool:
    """Whether a config is what was written, but for the ends of lines, which version control may have changed."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    return text.endswith(_end(memoryview(text)[: -len(_end(b""))]))


def _end(before: bytes | memoryview) -> bytes:
    """The last two lines of a config."""
    return b'"digest": "%s"\n}\n' % hashlib.sha256(before).hexdigest().encode()


def _json(text: bytes) -> dict[str, Any]:
    """An object in JSON as the standard has it: no duplicate keys, no NaN, no half characters."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\ud" in text.lower():
            _text(value).encode()  # half of a surrogate pair can be escaped, and is no text
    except (ValueError, RecursionError) as e:
        raise ArtifactError(f"config.json is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise ArtifactError("config.json does not describe an artifact: it is no object")
    return value


def _check_version(config: dict[str, Any]) -> None:
    """Raise unless this is the config of an artifact that this reader may read."""
    if config.get("format") != FORMAT:
        raise ArtifactError(f'config.json does not describe an artifact: it has no "format": "{FORMAT}"')
    needed = config.get("min_reader_version")
    if type(needed) is not int:
        raise ArtifactError(f"config.json has min_reader_version {needed!r}; expected an integer")
    if needed > READER_VERSION:
        raise VersionError(
            f"the artifact was written by {config.get('producer')!r} and needs reader version {needed}; "
            f"this is reader version {READER_VERSION}. Upgrade interop to open it"
        )


def _lines(value: Any, depth: int) -> str:
    """JSON with a line for each part of the first objects and for each member of their lists.

    An indented text would be easier to read, and takes Python's own encoder, which is ten times slower.
    """
    if depth and isinstance(value, dict):
        opening, parts, closing = (
            "{",
            [f"{_text(key)}: {_lines(part, depth - 1)}" for key, part in value.items()],
            "}",
        )
    elif isinstance(value, list):
        opening, parts, closing = "[", [_text(part) for part in value], "]"
    else:
        return _text(value)
    return "\n".join((opening, ",\n".join(parts), closing)) if parts else opening + closing


_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _check_head(config: dict[str, Any]) -> None:
    """Raise ArtifactError unless the parts that every reader uses are of the right kind."""
    kinds: dict[str, type] = {
        "format_version": int,
        "producer": str,
        "signature": dict,
        "opset": int,
        "ir_version": int,
        "files": dict,
    }
    for key, kind in kinds.items():
        if type(config.get(key)) is not kind:
            raise ArtifactError(f"config.json has {key} {config.get(key)!r:.80}; expected {kind.__name__}")
    if not isinstance(config.get("source", {}), dict):
        raise ArtifactError(
            f"config.json has source {config['source']!r:.80}; expected what the model was made with"
        )
    for name, record in config["files"].items():
        if (
            not isinstance(record, dict)
            or type(record.get("size")) is not int
            or not isinstance(record.get("sha256"), str)
        ):
            raise ArtifactError(f"config.json records {name} as {record!r:.80}; expected size and sha256")
        pieces = record.get("piece_bytes", PIECE_BYTES)
        if type(pieces) is not int or pieces < MIN_PIECE_BYTES:
            raise ArtifactError(
                f"config.json records {name} in pieces of {pieces!r:.80} bytes; expected {MIN_PIECE_BYTES} or more"
            )
    Signature.from_json(config["signature"])


def _check_variables(config: dict[str, Any]) -> None:
    """Raise ArtifactError unless each variable says what it is, and none comes twice."""
    if not isinstance(config.get("variables"), list):
        raise ArtifactError(f"config.json has variables {config.get('variables')!r:.80}; expected list")
    seen = set()
    for variable in config["variables"]:
        if (
            not isinstance(variable, dict)
            or not isinstance(variable.get("key"), str)
            or not isinstance(variable.get("dtype"), str)
            or not isinstance(variable.get("shape"), list)
            or not isinstance(variable.get("trainable", False), bool)
            or not isinstance(variable.get("role"), str | None)
        ):
            raise ArtifactError(
                f"config.json lists the variable {variable!r:.80}; expected key, dtype, shape, trainable, role"
            )
        if variable["key"] in seen:
            raise ArtifactError(f"config.json lists the variable {variable['key']!r} twice")
        seen.add(variable["key"])


def _check_model(config: dict[str, Any]) -> None:
    """Raise ArtifactError unless the model has a name, an object, and layers that say what they consist of."""
    model = config.get("model")
    if not isinstance(model, dict):
        raise ArtifactError(f"config.json has model {model!r:.80}; expected dict")
    kinds: dict[str, type] = {"name": str, "object": dict, "layers": list}
    for key, kind in kinds.items():
        if type(model.get(key)) is not kind:
            raise ArtifactError(
                f"config.json has the model's {key} {model.get(key)!r:.80}; expected {kind.__name__}"
            )
    for layer in model["layers"]:
        if (
            not isinstance(layer, dict)
            or not isinstance(layer.get("path"), str)
            or not isinstance(layer.get("class"), str)
            or not isinstance(layer.get("trainable", True), bool)
            or not all(_are_names(layer.get(key)) for key in ("functions", "calls", "variables"))
        ):
            raise ArtifactError(
                f"config.json lists the layer {layer!r:.80}; expected path, class, trainable, functions, calls, "
                "variables"
            )
    quantized = model.get("quantization", {})
    if not isinstance(quantized, dict) or not all(
        isinstance(one, dict)
        and isinstance(one.get("mode"), str)
        and isinstance(one.get("config"), dict | None)
        for one in quantized.values()
    ):
        raise ArtifactError(
            f"config.json has the quantisation {quantized!r:.80}; expected mode and config of each layer by its path"
        )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"an object has a duplicate key among {', '.join(name for name, _ in pairs):.200}")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _problem(value: Any) -> str | None:
    """Where and why a value would not survive JSON; None: it would. Only a place with a problem is put into words."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                return f" has the key {key!r}, which JSON would turn into a string"
            if type(part) not in _PLAIN and (problem := _problem(part)) is not None:
                return f"[{key!r}]{problem}"
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            if type(part) not in _PLAIN and (problem := _problem(part)) is not None:
                return f"[{index}]{problem}"
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return f" is {value}, which JSON cannot hold"
    elif value is not None and not isinstance(value, str | int):
        return f" is {type(value).__name__}, which JSON cannot hold: {value!r:.80}"
    return None
