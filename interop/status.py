"""What saving, loading and importing report.

Leaves: an ``ExportSummary`` of what was written, a ``LoadStatus`` that accounts for every stored tensor and
every variable. Invariant: in a ``LoadStatus`` each key stands in one list only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, Self

from interop.errors import WeightsError

_SHOWN = 8


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        path: the artifact or graph.
        opset: of the default domain.
        ir_version: of the ONNX format, which follows from the opset.
        parameters: number of weights, without seeds and metrics.
        size_bytes: of all files.
        files: name to size in bytes.
        warnings: what a reader of the files should know, one sentence each.
        fallback_layers: paths of layers that the backend's own exporter converted.
        seconds: that it took.
    """

    path: Path
    opset: int
    ir_version: int
    parameters: int
    size_bytes: int
    files: dict[str, int]
    warnings: tuple[str, ...] = ()
    fallback_layers: tuple[str, ...] = ()
    seconds: float = 0.0


class LiftedLayer(NamedTuple):
    """A layer of an imported model and the nodes it stands for."""

    layer: str
    kind: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What became of an ONNX graph that was imported as Keras layers.

    Attributes:
        lifted: nodes that are a layer with weights of its own.
        operations: operator to how many nodes stayed an operation of ``keras.ops``.
        not_lifted: node to why it is no layer, where it uses weights.
        weights: ONNX initializer to the variables that hold it, as ``layer/variable``.
        held: initializers that no layer has a variable for; each is a weight of a layer of its own, and trains.
        frozen: initializers of floats that do not train, and why.
        inputs: input of the graph to its name in Keras.
        outputs: output of the graph to its name in Keras.
        original: whether the layers are those of the Keras model that the graph was made of, as the file says and
            was checked; else they are found by patterns.
        notes: what else there is to know: why a file's Keras model was not made, which weights it lacks.
    """

    lifted: tuple[LiftedLayer, ...] = ()
    operations: dict[str, int] = field(default_factory=dict)
    not_lifted: dict[str, str] = field(default_factory=dict)
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    frozen: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    original: bool = False
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The account in words."""
        whose = ", those of the Keras model that the file was made of" if self.original else ""
        lines = [f"{len(self.lifted)} layers with weights{whose}", *self.notes]
        if self.operations:
            kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.operations.items()))
            lines.append(f"{sum(self.operations.values())} operations: {kinds}")
        if self.held:
            lines.append(f"{len(self.held)} weights in layers of their own: {_some(self.held)}")
        if self.frozen:
            lines.append(f"{len(self.frozen)} constants: {_some(tuple(self.frozen))}")
        return lines


class Mismatch(NamedTuple):
    """A key whose stored tensor does not fit its variable; both sides as ``float32(3, 4)``."""

    key: str
    stored: str
    expected: str


class Change(NamedTuple):
    """Something that a file of an older Keras asks for and the model has in another form, or not at all.

    Attributes:
        where: the layer or other object, by its class and name.
        what: what the file says, such as ``alpha=0.2``.
        became: what is in its place, in words.
        lost: whether the model lacks something that the file has.
    """

    where: str
    what: str
    became: str
    lost: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.became}"


class Revived(NamedTuple):
    """A layer, or the model, whose class or function is not there and that was made from the graph.

    Attributes:
        path: of the layer; empty for the model itself.
        class_name: of the original.
        lost: the classes and functions that were not found.
        layers: paths of the layers inside it that are there.
        notes: what the graph does not know about it.
    """

    path: str
    class_name: str
    lost: tuple[str, ...]
    layers: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        where = f"layer {self.path!r}" if self.path else "the model"
        inside = f", with {len(self.layers)} layers of its own inside" if self.layers else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{where} ({self.class_name}; missing: {', '.join(self.lost)}){inside}{notes}"


@dataclass
class LoadStatus:
    """What became of each stored tensor and each variable. Keys of optimizer variables begin ``optimizer:``.

    Where tensors are deferred, the status is brought up to date as their layers are built.

    Attributes:
        loaded: variables that got their stored values.
        missing: variables for which nothing was stored; they keep the values they had.
        unexpected: stored tensors that no variable has the key of.
        mismatched: stored tensors of another shape or kind than their variable, which keeps its values.
        ambiguous: stored tensors that fit several variables equally well.
        deferred: stored tensors for layers that are not built yet; assigned when they are.
        changes: what is not as the file says, where it was written by an older Keras or needs what was not found.
        revived: layers that were made from the graph, as their class or a function of theirs was not found.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    ambiguous: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    revived: tuple[Revived, ...] = ()

    def assert_consumed(self) -> Self:
        """Raise WeightsError unless every stored tensor was used and every variable was given one."""
        return self._assert_empty("missing", "unexpected", "mismatched", "ambiguous", "deferred")

    def assert_existing_objects_matched(self) -> Self:
        """Raise WeightsError unless every variable was given a value; more may be stored than was used."""
        return self._assert_empty("missing", "mismatched", "ambiguous")

    def expect_partial(self) -> Self:
        """Say that a partial load is intended; does nothing and returns the status."""
        return self

    @property
    def lost(self) -> tuple[Change, ...]:
        """The changes by which the model lacks something that the file has."""
        return tuple(change for change in self.changes if change.lost)

    def lines(self) -> list[str]:
        """The account in words, one line for each list that is not empty."""
        counted = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [f"{name}: {len(keys)} ({_some(keys)})" for name, keys in counted if keys]

    def update(self, other: LoadStatus) -> None:
        """Become the account of a later moment."""
        for known in fields(self):
            setattr(self, known.name, getattr(other, known.name))

    def __add__(self, other: LoadStatus) -> LoadStatus:
        """The account of two files."""
        return LoadStatus(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def _assert_empty(self, *names: str) -> Self:
        failed = [f"{name}: {_some(getattr(self, name))}" for name in names if getattr(self, name)]
        if failed:
            raise WeightsError(
                f"the stored tensors and the model's variables do not match. {'; '.join(failed)}. "
                f"{len(self.loaded)} matched"
            )
        return self


def _some(keys: tuple[str | Mismatch | Change | Revived, ...]) -> str:
    words = [
        f"{key.key} is {key.stored}, expected {key.expected}" if isinstance(key, Mismatch) else str(key)
        for key in keys[:_SHOWN]
    ]
    return ", ".join(words) + (f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
