"""Parameters that are a matrix over its largest singular value, as two vectors tell it: ``w / (u' w v)``.

The way back: the tensor is its own matrix, and the vectors are its singular ones, over the largest value. So what is
divided by is exactly 1, but the second vector is of length 1 only if the norm of what is written is 1.

Source: Miyato, Kataoka, Koyama and Yoshida 2018, https://arxiv.org/abs/1802.05957.
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
class Spectral(Composite):
    """A tensor in three parts: one of its shape, and the vectors of its rows and of all else.

    Attributes:
        axis: of the rows.
    """

    axis: int
    kind = "spectral"
    verb = "divide by the largest singular value"
    remark = (
        "hold the norm of what was written, by which nothing is divided then: inference is the same; training divides "
        "by it at the first step"
    )

    def make(self, name: str, read: Read) -> Array:
        whole, rows, columns = map(read, self.parts)
        value = rows.astype(np.float64) @ self._matrix(whole) @ columns
        return np.asarray(whole / value, whole.dtype)

    def apart(self, read: Read) -> dict[str, TensorSource]:
        (name,) = self.makes
        whole, *vectors = self.parts.items()

        def vector(k: int) -> Array:
            left, values, right = np.linalg.svd(self._matrix(read(name)), full_matrices=False)
            return np.asarray((left[:, 0], right[0] / values[0])[k], vectors[k][1].dtype)

        held: dict[str, TensorSource] = {whole[0]: Later(whole[1], lambda: read(name))}
        for k, (part, spec) in enumerate(vectors):
            held[part] = Later(spec, lambda k=k: vector(k))  # type: ignore[misc]
        return held

    @property
    def beside(self) -> tuple[str, ...]:
        _, _, columns = self.parts
        return (columns,)

    def made_of(self, name: str) -> tuple[str, ...]:
        return tuple(self.parts)

    def held_by(self, name: str) -> str:
        return next(iter(self.parts))

    def others(self) -> dict[str, str]:
        _, rows, columns = self.parts
        return {rows: "singular vector", columns: "singular vector"}

    def _matrix(self, whole: Array) -> Array:
        return np.moveaxis(whole, self.axis, 0).reshape(whole.shape[self.axis], -1).astype(np.float64)

    def _settings(self) -> dict[str, Any]:
        return {"axis": self.axis}

    @classmethod
    def read_from(cls, parts: Mapping[str, Named], makes: Mapping[str, Named], value: Any) -> Self:
        _, _, _ = parts
        (_,) = makes
        return cls(parts, makes, int(value["axis"]))


def readings(
    of: OfParameters, made: Any, shape: tuple[int, ...], parts: Mapping[str, Named]
) -> Iterator[Spectral]:
    """The ways in which a value is a tensor over its largest singular value; arguments as for ``Normalised``."""
    wholes = [name for name, spec in parts.items() if spec.shape == shape and len(shape) > 1]
    vectors = [name for name, spec in parts.items() if len(spec.shape) == 1]
    if len(parts) != 3 or len(wholes) != 1 or len(vectors) != 2:
        return
    rng = np.random.default_rng(0)
    drawn = {name: rng.uniform(0.5, 1.5, parts[name].shape).astype("float32") for name in sorted(parts)}
    result = None
    for axis, size in enumerate(shape):
        for rows, columns in (vectors, vectors[::-1]):
            if (parts[rows].size, parts[rows].size * parts[columns].size) != (size, parts[wholes[0]].size):
                continue
            name = f"{wholes[0]} over its norm"
            order = {each: parts[each] for each in (wholes[0], rows, columns)}
            one = Spectral(order, {name: parts[wholes[0]]}, axis)
            result = of.at(made, drawn) if result is None else result
            if np.allclose(result, one.make(name, drawn.__getitem__), rtol=1e-4, atol=1e-6):
                yield one
                return
