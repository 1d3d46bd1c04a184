"""The contract of a graph: its inputs and outputs in order, and how they nest in the model's own calls.

What enters: the ``signature`` object of ``config.json``, or specs made by capture. What leaves: the same,
and values packed into or flattened out of the model's structure.

A dimension is an int (fixed) or a string: a named dim (``"batch"``) or an expression over named dims
(``"floor((height + 1)/2)"``); equal strings are equal sizes. A structure is JSON-shaped: an int (a leaf: the
index of an input or output), None (a place that holds no tensor), ``{"dict": {key: structure}}``,
``{"list": [...]}`` or ``{"tuple": [...]}``.

Invariants: names are unique among inputs and among outputs; a structure holds every index exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from interop.errors import ArtifactError, SignatureError

Structure: TypeAlias = int | dict[str, Any] | None
Dim: TypeAlias = int | str

_MAX_DEPTH = 32


class TensorSpec(NamedTuple):
    """One input or output: its name, dtype name, shape, and for integers the inclusive [lo, hi] allowed."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    bounds: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    def to_json(self, *, with_bounds: bool = True) -> dict[str, Any]:
        """The JSON object of ``config.json``; outputs carry no bounds."""
        value: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if with_bounds:
            value["bounds"] = list(self.bounds) if self.bounds is not None else None
        return value

    @classmethod
    def from_json(cls, value: Any, where: str) -> TensorSpec:
        """Read and check one spec; `where` names it in messages."""
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} is {value!r}; expected an object with name, dtype and shape")
        name, dtype, shape, bounds = (value.get(key) for key in ("name", "dtype", "shape", "bounds"))
        if not isinstance(name, str) or not name:
            raise ArtifactError(f"{where} has name {name!r}; expected a non-empty string")
        if not isinstance(dtype, str):
            raise ArtifactError(f"{where} has dtype {dtype!r}; expected a dtype name")
        if not isinstance(shape, list) or not all(_is_dim(dim) for dim in shape):
            raise ArtifactError(f"{where} has shape {shape!r}; expected sizes and dim names")
        if bounds is None:
            return cls(name, dtype, tuple(shape))
        if not isinstance(bounds, list) or len(bounds) != 2 or not all(type(b) is int for b in bounds):
            raise ArtifactError(f"{where} has bounds {bounds!r}; expected [lowest, highest] or null")
        return cls(name, dtype, tuple(shape), (bounds[0], bounds[1]))


class Signature(NamedTuple):
    """Inputs and outputs in graph order, and the structures the model itself takes and returns."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_structure: Structure
    output_structure: Structure

    def to_json(self) -> dict[str, Any]:
        """The ``signature`` object of ``config.json``."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json(with_bounds=False) for spec in self.outputs],
            "input_structure": self.input_structure,
            "output_structure": self.output_structure,
        }

    @classmethod
    def from_json(cls, value: Any) -> Signature:
        """Read and check a signature.

        Raises:
            ArtifactError: it is not one; the message names the part.
        """
        if not isinstance(value, dict):
            raise ArtifactError(f"the signature is {value!r}; expected an object")
        inputs = _specs(value.get("inputs"), "input")
        outputs = _specs(value.get("outputs"), "output")
        for key, specs in (("input_structure", inputs), ("output_structure", outputs)):
            check_structure(value.get(key), len(specs), f"the signature's {key}")
        return cls(inputs, outputs, value["input_structure"], value["output_structure"])


def parts(structure: Structure) -> list[Structure]:
    """The structures directly inside a structure; none in a tensor's.

    >>> parts({"dict": {"a": 1, "b": {"list": [0, 2]}}})
    [1, {'list': [0, 2]}]
    """
    if structure is None or isinstance(structure, int):
        return []
    ((kind, inside),) = structure.items()
    return list(inside.values()) if kind == "dict" else list(inside)


def leaves(structure: Structure) -> Iterator[int]:
    """The indices in a structure, in the order of its containers.

    >>> list(leaves({"dict": {"a": 1, "b": {"list": [0, 2]}}}))
    [1, 0, 2]
    """
    if isinstance(structure, int):
        yield structure
    elif structure is not None:
        for part in parts(structure):
            yield from leaves(part)


def pack(structure: Structure, values: Sequence[Any]) -> Any:
    """Arrange flat values (by index) in a structure.

    >>> pack({"tuple": [1, None, {"list": [0]}]}, ["a", "b"])
    ('b', None, ['a'])
    """
    if structure is None:
        return None
    if isinstance(structure, int):
        return values[structure]
    if "dict" in structure:
        return {key: pack(part, values) for key, part in structure["dict"].items()}
    packed = [pack(part, values) for part in parts(structure)]
    return packed if "list" in structure else tuple(packed)


def flatten(structure: Structure, value: Any, where: str = "the input") -> dict[int, Any]:
    """Take a nested value apart along a structure; the inverse of `pack`.

    Lists and tuples stand for each other, as callers write either. The key of a place that holds no tensor may
    be left out.

    >>> flatten({"dict": {"a": 0, "b": {"tuple": [1, None]}, "c": None}}, {"a": "x", "b": ["y", None]})
    {0: 'x', 1: 'y'}

    Raises:
        SignatureError: the value does not have the structure; the message names the place.
    """
    if structure is None:
        if value is None:
            return {}
        raise SignatureError(
            f"{where} is {type(value).__name__}; expected None: the graph has no tensor there"
        )
    if isinstance(structure, int):
        if value is None:
            raise not_given(where)
        return {structure: value}
    found: dict[int, Any] = {}
    if "dict" in structure:
        keys = structure["dict"]
        if not isinstance(value, Mapping):
            raise SignatureError(
                f"{where} is {type(value).__name__}; expected a dict with keys {', '.join(map(repr, keys))}"
            )
        needed = {key for key, part in keys.items() if part is not None}
        if not needed <= value.keys() <= keys.keys():
            raise SignatureError(
                f"{where} has keys {', '.join(map(repr, value))}; expected {', '.join(map(repr, keys))}"
            )
        for key, part in keys.items():
            found |= flatten(part, value.get(key), f"{where}[{key!r}]")
        return found
    places = parts(structure)
    if not isinstance(value, list | tuple) or len(value) != len(places):
        got = f"{len(value)} items" if isinstance(value, list | tuple) else type(value).__name__
        raise SignatureError(f"{where} is {got}; expected a list or tuple of {len(places)}")
    for index, part in enumerate(places):
        found |= flatten(part, value[index], f"{where}[{index}]")
    return found


def not_given(where: str) -> SignatureError:
    """The error of a None where the graph takes a tensor."""
    return SignatureError(
        f"{where} is None; the graph was captured with a tensor there. Capture the model again with None in that "
        "place of input_signature"
    )


def _is_dim(dim: Any) -> bool:
    return (type(dim) is int and dim >= 0) or (isinstance(dim, str) and dim != "")


def _specs(value: Any, kind: str) -> tuple[TensorSpec, ...]:
    if not isinstance(value, list):
        raise ArtifactError(f"the signature's {kind}s are {value!r}; expected a list")
    specs = tuple(TensorSpec.from_json(spec, f"{kind} {index}") for index, spec in enumerate(value))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ArtifactError(f"the signature's {kind} names are not unique: {', '.join(names)}")
    return specs


def check_structure(structure: Any, count: int, where: str) -> None:
    """Raise unless `structure` is well formed, not too deep, and holds 0..count-1 once each."""

    def visit(part: Any, depth: int) -> Iterator[int]:
        if depth > _MAX_DEPTH:
            raise ArtifactError(f"{where} nests deeper than {_MAX_DEPTH} levels")
        if part is None:
            return
        if type(part) is int:
            yield part
            return
        if not isinstance(part, dict) or len(part) != 1:
            raise ArtifactError(f"{where} holds {part!r}; expected an index or one of dict, list, tuple")
        ((kind, children),) = part.items()
        expected = dict if kind == "dict" else list
        if kind not in ("dict", "list", "tuple") or not isinstance(children, expected):
            raise ArtifactError(f"{where} holds {part!r}; expected an index or one of dict, list, tuple")
        for child in children.values() if isinstance(children, dict) else children:
            yield from visit(child, depth + 1)

    found = sorted(visit(structure, 0))
    if found != list(range(count)):
        raise ArtifactError(f"{where} holds the indices {found}; expected 0 to {count - 1}, once each")
