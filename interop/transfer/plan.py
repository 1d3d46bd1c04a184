"""What becomes of each tensor: the plan of a transfer, as a table, as JSON, applied and turned around.

Invariants: a plan holds names, shapes and pieces and no model; every target stands in one list only; to apply it is all
or nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.formats.dtypes import numpy_dtype
from interop.formats.source import TensorSource
from interop.transfer.named import Named, Specified, some
from interop.transfer.pieces import Piece
from interop.transfer.printed import printed

if TYPE_CHECKING:
    from interop.transfer.composites import Composite
    from interop.transfer.models import Model

Array = NDArray[Any]
_VERSION = 1
_COUNT = re.compile(r"_\d+(?=[/.]|$)")


@dataclass(frozen=True)
class Entry:
    """How one target is made.

    Attributes:
        target: its name.
        pieces: what it is made of.
        found: how the mapping was found, as ``"structure"``.
        evidence: what speaks for it, in words.
    """

    target: str
    pieces: tuple[Piece, ...]
    found: str
    evidence: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, each once."""
        named = (piece.source for piece in self.pieces if piece.source is not None and not piece.zeros)
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True)
class Problem:
    """A tensor that the plan does not account for, and those of the other side that come nearest."""

    name: str
    what: str
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        near = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
        return f"{self.name} ({self.what}{near})"


@dataclass(frozen=True)
class Plan:
    """A mapping of tensors of a source to those of a target.

    Attributes:
        entries: one a target.
        sources: every tensor of the source.
        targets: every tensor of the target.
        missing: targets that nothing was found for.
        unexpected: sources that go nowhere.
        ambiguous: targets for which several sources were found that need not be equal.
        unused: tensors of either side that the computation does not use, as ``"source: name"``.
        differences: what the two models do differently, by layer.
        composites: tensors of the source, and of the target, that are several parameters in truth.
        models: source and target, if the plan was made from them and not read from a file.
    """

    entries: tuple[Entry, ...]
    sources: Mapping[str, Named]
    targets: Mapping[str, Named]
    missing: tuple[Problem, ...] = ()
    unexpected: tuple[Problem, ...] = ()
    ambiguous: tuple[Problem, ...] = ()
    unused: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    composites: tuple[tuple[Composite, ...], tuple[Composite, ...]] = ((), ())
    models: Any = None

    @property
    def complete(self) -> bool:
        """Whether every tensor of both sides is accounted for."""
        return self.lacking == 0

    @property
    def lacking(self) -> int:
        """How many tensors are not accounted for."""
        return len(self.missing) + len(self.unexpected) + len(self.ambiguous)

    def check(self) -> Self:
        """Raise WeightsError unless the plan is complete."""
        if self.complete:
            return self
        parts = [
            f"{len(problems)} {what}: {some(problems)}"
            for what, problems in (
                ("parameters of the target have no source", self.missing),
                ("parameters of the source go nowhere", self.unexpected),
                ("parameters of the target have several sources", self.ambiguous),
            )
            if problems
        ]
        raise WeightsError(
            f"the weights do not map one to one. {'. '.join(parts)}. {self._whole} of {len(self.targets)} "
            f"parameters of the target were found.{self._said_apart()} Pass partial=True to transfer those and "
            "leave the others as they are, or rules for the others"
        )

    @property
    def _whole(self) -> int:
        """How many targets are filled as far as the computation uses them."""
        return len({entry.target for entry in self.entries} - {problem.name for problem in self.missing})

    def _said_apart(self) -> str:
        return f" The models differ: {some(self.differences)}." if self.differences else ""

    def convert(
        self, sources: Mapping[str, Array], base: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The target's tensors by name, from the source's; no model is needed.

        Args:
            sources: by name.
            base: what targets hold that the plan fills in part only.

        Raises:
            WeightsError: a source is missing or has another shape; nothing was changed.
        """
        from interop.transfer.composites import apart, collected, in_one
        from interop.transfer.models import open_model

        kept: dict[str, Array] = {}
        held = {name: np.asarray(value) for name, value in (base or {}).items()}
        giving = in_one(open_model(sources), self.composites[0])
        into = in_one(collected(apart(self.targets, self.composites[1]), held, kept), self.composites[1])
        into.assign(self.made(giving.tensors, giving.read, held, held.__getitem__))
        return kept

    def made(
        self,
        given: Mapping[str, Named],
        read: Callable[[str], Array],
        held: Container[str],
        base: Callable[[str], Array],
    ) -> dict[str, TensorSource]:
        """The target's tensors, made when they are read; what does not fit is an error before.

        Args:
            given: the source's tensors.
            read: reads one.
            held: names of the targets that hold something.
            base: reads what a target holds, for those that are filled in part only.

        Raises:
            WeightsError: a source is missing or has another shape, or a target is filled in part and holds nothing.
        """
        for entry in self.entries:
            spec = self.targets[entry.target]
            if self._is_partial(entry) and entry.target not in held:
                covered = sum(piece.covers for piece in entry.pieces if not piece.adds)
                raise WeightsError(
                    f"the plan fills {covered} of {spec.size} elements of {entry.target!r}; pass what it holds in base"
                )
            for name in entry.sources:
                if name not in given:
                    close = get_close_matches(name, given, n=3, cutoff=0.3) or list(given)
                    raise WeightsError(f"the source has no {name!r}; nearest: {some(close)}")
                if given[name].shape != self.sources[name].shape:
                    raise WeightsError(
                        f"{name!r} of the source is {given[name]}, expected {self.sources[name]}"
                    )
            for piece in entry.pieces:
                piece.checked(0 if piece.source is None else self.sources[piece.source].size, spec.size)
        return {
            e.target: _Made(e, self.targets[e.target], read, base if self._is_partial(e) else None)
            for e in self.entries
        }

    def apply(self, source: Any = None, target: Any = None, *, partial: bool = False) -> Any:
        """Write the source's values into the target, all or nothing.

        Args:
            source: a model, a file, or tensors by name; by default the model that the plan was made of.
            target: a model or file; by default the one the plan was made of. At a path where nothing is, a new
                ``.safetensors`` or ``.npz`` file is written.
            partial: transfer what was found, although something was not.

        Returns:
            The target, which is a new object where its framework's objects do not change; of a file, its path.

        Raises:
            WeightsError: the plan is not complete, or does not fit; the target is as it was.
        """
        from interop.transfer.composites import apart, in_one
        from interop.transfer.files import new_file
        from interop.transfer.models import open_model, renamed

        if not partial:
            self.check()
        if (source is None or target is None) and self.models is None:
            raise WeightsError("a plan that was read from a file holds no models: pass source and target")
        wanted = [apart(*side) for side in zip((self.sources, self.targets), self.composites, strict=True)]

        def as_planned(model: Model, side: int) -> Model:
            return in_one(renamed(model, _namesakes(wanted[side], model.tensors)), self.composites[side])

        giving = self.models[0] if source is None else as_planned(open_model(source), 0)
        if target is None:
            into = self.models[1]
        else:
            into = as_planned(new_file(target, wanted[1]) or open_model(target), 1)
        return into.assign(self.made(giving.tensors, giving.read, into.tensors, into.read))

    def _is_partial(self, entry: Entry) -> bool:
        return sum(p.covers for p in entry.pieces if not p.adds) < self.targets[entry.target].size

    def reversed(self) -> Plan:
        """The plan from the target to the source.

        What was added up goes to the first summand, and the others are zero; what was made zero is added.
        """
        found: dict[str, list[Piece]] = {}
        how = {}
        for entry in self.entries:
            for piece in entry.pieces:
                if piece.source is None:
                    continue
                turned = piece.reversed()
                found.setdefault(turned.target, []).append(turned)
                how[turned.target] = entry
        entries = [
            Entry(name, tuple(_distinct(pieces)), how[name].found, how[name].evidence)
            for name, pieces in found.items()
        ]
        swapped = {"source": "target", "target": "source"}
        unused = [f"{swapped[side]}: {name}" for side, name in (u.split(": ", 1) for u in self.unused)]
        return Plan(
            tuple(entries),
            self.targets,
            self.sources,
            self.unexpected,
            self.missing,
            (),
            tuple(unused),
            self.differences,
            (self.composites[1], self.composites[0]),
            None if self.models is None else (self.models[1], self.models[0]),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan as JSON."""
        path = Path(path)
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan that ``save`` wrote.

        Raises:
            WeightsError: the file holds no plan.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_json(value)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{os.fspath(path)} holds no plan of a transfer: {error!r:.200}") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "plan_version": _VERSION,
            "entries": [
                {
                    "target": entry.target,
                    "found": entry.found,
                    "evidence": entry.evidence,
                    "pieces": [piece.to_json() for piece in entry.pieces],
                }
                for entry in self.entries
            ],
            "sources": {name: spec.to_json() for name, spec in self.sources.items()},
            "targets": {name: spec.to_json() for name, spec in self.targets.items()},
            **{
                key: [[p.name, p.what, list(p.nearest)] for p in getattr(self, key)]
                for key in ("missing", "unexpected", "ambiguous")
            },
            "unused": list(self.unused),
            "differences": list(self.differences),
            "composites": [[one.to_json() for one in side] for side in self.composites],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` gave."""
        if value.get("plan_version") != _VERSION:
            raise WeightsError(
                f"plan_version is {value.get('plan_version')!r}; this version reads {_VERSION}"
            )
        entries = tuple(
            Entry(
                _text(e["target"]),
                tuple(map(Piece.from_json, e["pieces"])),
                _text(e["found"]),
                _text(e["evidence"]),
            )
            for e in value["entries"]
        )
        sources, targets = (
            {name: Named.from_json(spec) for name, spec in value[side].items()}
            for side in ("sources", "targets")
        )
        missing, unexpected, ambiguous = (
            tuple(
                Problem(_text(name), _text(what), tuple(map(_text, near))) for name, what, near in value[key]
            )
            for key in ("missing", "unexpected", "ambiguous")
        )
        for entry in entries:
            if entry.target not in targets or not set(entry.sources) <= set(sources):
                raise WeightsError(
                    f"the plan speaks of {entry.target!r} or its sources, but does not list them"
                )
        unused, differences = (tuple(map(_text, value[key])) for key in ("unused", "differences"))
        from interop.transfer import composites

        ours, theirs = (tuple(map(composites.from_json, side)) for side in value.get("composites", ([], [])))
        return cls(
            entries, sources, targets, missing, unexpected, ambiguous, unused, differences, (ours, theirs)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before the target is trained further."""
        names: dict[str, list[str]] = {}
        for one in self.composites[1]:
            names.setdefault(one.remark, []).extend(one.beside)
        return tuple(f"{some(found, 4)} of the target {remark}" for remark, found in names.items() if found)

    def __str__(self) -> str:
        return printed(self)


def _namesakes(wanted: Mapping[str, Named], held: Mapping[str, Named]) -> dict[str, str]:
    """What a model's tensors are called in a plan, where that is something else.

    Numbers at the end of a layer's name, which count the layers that a process has made, need not be the same if all
    else is: names without them, shapes and order.
    """
    if len(wanted) == len(held) and wanted.keys() != held.keys():
        plain = [[(_COUNT.sub("", n), spec.shape) for n, spec in side.items()] for side in (wanted, held)]
        if plain[0] == plain[1]:
            return dict(zip(held, wanted, strict=True))
    return {}


@dataclass(frozen=True, eq=False)
class _Made(Specified):
    """A target that is made of sources when it is read."""

    entry: Entry
    spec: Named
    reader: Callable[[str], Array]
    base: Callable[[str], Array] | None

    def read(self) -> Array:
        dtype = numpy_dtype(self.spec.dtype)
        if (whole := self._whole()) is not None and (
            array := np.asarray(self.reader(whole))
        ).size == self.spec.size:
            return array.reshape(self.spec.shape).astype(dtype, copy=False)
        if self.base is None:
            made = np.empty(self.spec.size, dtype)
        else:
            made = np.array(self.base(self.entry.target), dtype).reshape(-1)
        arrays: dict[str, Array] = {}
        for piece in self.entry.pieces:
            if piece.source is None or piece.zeros:
                piece.copy(None, made)
                continue
            if piece.source not in arrays:
                arrays[piece.source] = np.ascontiguousarray(self.reader(piece.source)).reshape(-1)
            piece.copy(arrays[piece.source], made)
        return made.reshape(self.spec.shape)

    def _whole(self) -> str | None:
        """The source whose beginning it is a copy of."""
        first, *others = self.entry.pieces
        steps = ((1,), (1,), 0, 0)
        straight = (first.source_steps, first.target_steps, first.source_start, first.target_start) == steps
        plain = straight and not first.zeros and first.sign > 0
        return first.source if not others and plain and first.count == self.spec.size else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _distinct(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of one target, each place once, and then what is added to it."""
    found: dict[Any, Piece] = {}
    for piece in pieces:
        found.setdefault((piece.place, piece.source if piece.adds else None), piece)
    return sorted(found.values(), key=lambda piece: piece.adds)
