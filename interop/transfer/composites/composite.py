"""A tensor that a graph computes of parameters alone, in their place; and the parameters again.

Enters: a model. Leaves: the same model with fewer tensors, to read and to write. Each of them is made of parameters
when it is read; when it is written, the parameters get values that make it.

Invariant: what is written makes what was to be written, to the last bit where the arithmetic allows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.formats.source import ArraySource, TensorSource
from interop.transfer.models import Model
from interop.transfer.named import Named, Specified, nearest, some

Array = NDArray[Any]
Read = Callable[[str], Array]


@dataclass(frozen=True)
class Composite(ABC):
    """Tensors that a graph computes of parameters.

    Attributes:
        parts: the parameters by name.
        makes: the tensors by name.
    """

    kind: ClassVar[str]
    verb: ClassVar[str]
    remark: ClassVar[str] = ""
    parts: Mapping[str, Named]
    makes: Mapping[str, Named]

    @abstractmethod
    def make(self, name: str, read: Read) -> Array:
        """One of the tensors, of the parameters that are read."""

    @abstractmethod
    def apart(self, read: Read) -> dict[str, TensorSource]:
        """Values of the parameters that make the tensors that are read."""

    @abstractmethod
    def made_of(self, name: str) -> tuple[str, ...]:
        """The parameters that one of the tensors depends on."""

    @abstractmethod
    def held_by(self, name: str) -> str:
        """The parameter that holds one of the tensors when it is written."""

    @abstractmethod
    def others(self) -> dict[str, str]:
        """Those that hold none then, and what they hold in words."""

    @property
    def form(self) -> Any:
        """What is equal for two only if parameters of the one can be those of the other, each by itself."""
        return self.kind

    @property
    def beside(self) -> tuple[str, ...]:
        """Parameters that are not as training leaves them once the tensors were written; ``remark`` says what of it."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        sides = {
            side: {name: spec.to_json() for name, spec in specs.items()}
            for side, specs in (("parts", self.parts), ("makes", self.makes))
        }
        return {"kind": self.kind, **sides, **self._settings()}

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """What else there is to tell, as plain values."""

    @classmethod
    @abstractmethod
    def read_from(cls, parts: Mapping[str, Named], makes: Mapping[str, Named], value: Any) -> Self:
        """What ``to_json`` gave; a KeyError, TypeError or ValueError if it is something else."""


@dataclass(frozen=True, eq=False)
class Later(Specified):
    """A tensor that is computed when it is read."""

    spec: Named
    compute: Callable[[], Array]

    def read(self) -> Array:
        return self.compute()


def in_one(model: Model, found: Sequence[Composite]) -> Model:
    """The model with what these make in the place of their parts; one may make a part of the next.

    Raises:
        WeightsError: the model has no such parts.
    """
    if not found:
        return model
    tensors = dict(model.tensors)
    gone: set[str] = set()
    makers = {name: one for one in found for name in one.makes}
    for one in found:
        for name, spec in one.parts.items():
            if name not in tensors:
                near = some(nearest(name, spec, model.tensors)) or "none"
                raise WeightsError(
                    f"{model.label} has no parameter {name!r}, of which the plan makes {' and '.join(one.makes)}; "
                    f"nearest: {near}"
                )
            if tensors[name].shape != spec.shape:
                raise WeightsError(f"{name!r} of {model.label} is {tensors[name]}, expected {spec}")
        first = next(iter(one.parts))
        tensors = {
            other: kept
            for name, spec in tensors.items()
            for other, kept in (one.makes if name == first else {name: spec}).items()
            if other not in one.parts
        }
        gone |= one.parts.keys()
    tensors = {name: spec for name, spec in tensors.items() if model.aliases.get(name) not in gone}

    def read(name: str) -> Array:
        one = makers.get(name)
        return model.read(name) if one is None else one.make(name, read)

    def write(values: Mapping[str, TensorSource]) -> Any:
        held = dict(values)
        for one in reversed(found):
            given = {name: held.pop(name) for name in one.makes if name in held}
            if given:
                held |= one.apart(partial(_given_or_kept, given, read))
        return model.assign(held)

    return replace(model, tensors=tensors, reader=read, writer=None if model.writer is None else write)


def _given_or_kept(given: Mapping[str, TensorSource], kept: Read, name: str) -> Array:
    return given[name].read() if name in given else kept(name)


def apart(tensors: Mapping[str, Named], found: Sequence[Composite]) -> dict[str, Named]:
    """The tensors by name, with the parts of each that one of these makes."""
    for one in reversed(found):
        first = next(iter(one.makes))
        tensors = {
            other: kept
            for name, spec in tensors.items()
            for other, kept in (one.parts if name == first else {name: spec}).items()
            if other not in one.makes
        }
    return dict(tensors)


def collected(tensors: Mapping[str, Named], held: Mapping[str, Array], into: dict[str, Array]) -> Model:
    """What tensors are written to when they go to no model: a dictionary."""

    def write(values: Mapping[str, TensorSource]) -> None:
        into.update({name: np.array(value.read()) for name, value in values.items()})

    def read(name: str) -> Array:
        if name not in held:
            raise WeightsError(f"the plan makes {name!r} only together with what it lacks; pass that in base")
        return held[name]

    return Model("the result", "arrays", dict(tensors), read, write)


def filled(spec: Named, value: float) -> TensorSource:
    """A parameter every element of which is the same."""
    from interop.formats.dtypes import numpy_dtype

    return ArraySource(np.full(spec.shape, value, numpy_dtype(spec.dtype)))
