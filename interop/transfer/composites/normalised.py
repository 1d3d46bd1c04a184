"""Parameters that are a direction and a length for each unit: ``length * direction / norm(direction)``.

The way back is defined: the tensor is its own direction, and its norm the length.

Source: Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.formats.source import TensorSource
from interop.transfer.composites.composite import Composite, Later, Read
from interop.transfer.composites.evaluation import OfParameters
from interop.transfer.named import Named

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalised(Composite):
    """A tensor in two parts: the direction, of its shape, and the length.

    Attributes:
        axis: along which the norms differ; None if there is one.
    """

    axis: int | None
    kind = "normalised"
    verb = "normalise"

    def make(self, name: str, read: Read) -> Array:
        direction, length = map(read, self.parts)
        norm = self._norm(direction)
        return np.asarray(direction * (length.reshape(norm.shape) / norm), direction.dtype)

    def apart(self, read: Read) -> dict[str, TensorSource]:
        (whole,) = self.makes
        (direction, spec), (length, lengths) = self.parts.items()
        return {
            direction: Later(spec, lambda: read(whole)),
            length: Later(lengths, lambda: self._norm(read(whole)).reshape(lengths.shape).astype(spec.dtype)),
        }

    def made_of(self, name: str) -> tuple[str, ...]:
        return tuple(self.parts)

    def held_by(self, name: str) -> str:
        return next(iter(self.parts))

    def others(self) -> dict[str, str]:
        _, length = self.parts
        return {length: "norm"}

    def _norm(self, array: Array) -> Array:
        over = tuple(axis for axis in range(array.ndim) if axis != self.axis)
        return np.asarray(np.sqrt(np.sum(np.square(array, dtype=np.float64), axis=over, keepdims=True)))

    def _settings(self) -> dict[str, Any]:
        return {"axis": self.axis}

    @classmethod
    def read_from(cls, parts: Mapping[str, Named], makes: Mapping[str, Named], value: Any) -> Self:
        _, _ = parts
        (_,) = makes
        return cls(parts, makes, None if value["axis"] is None else int(value["axis"]))


def readings(
    of: OfParameters, made: Any, shape: tuple[int, ...], parts: Mapping[str, Named]
) -> Iterator[Normalised]:
    """The ways in which a value is a direction and a length.

    Args:
        of: what the graph computes of parameters.
        made: a value that depends on these parameters alone.
        shape: of the value.
        parts: the parameters.
    """
    if len(parts) != 2:
        return
    rng = np.random.default_rng(0)
    drawn = {
        name: rng.uniform(0.5, 1.5, spec.shape).astype("float32") for name, spec in sorted(parts.items())
    }
    for direction in sorted(name for name, spec in parts.items() if spec.shape == shape and len(shape) > 1):
        (length,) = parts.keys() - {direction}
        axes = [axis for axis, size in enumerate(shape) if size == drawn[length].size]
        options = [*axes, *([None] if drawn[length].size == 1 else [])]
        if not options:
            continue
        result = of.at(made, drawn)
        name = f"{direction} normalised"
        for axis in options:
            order = {direction: parts[direction], length: parts[length]}
            one = Normalised(order, {name: parts[direction]}, axis)
            if np.allclose(result, one.make(name, drawn.__getitem__), rtol=1e-5, atol=1e-6):
                yield one
                return
