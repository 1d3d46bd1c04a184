"""Inputs made from a signature: seeded, in bounds, and different enough to make outputs differ.

Enters: input specs and a size for every named dimension. Leaves: arrays by input name.

Invariants:
- The same specs, sizes, seed and amplitude give the same arrays on every machine.
- An integer input with bounds stays inside them and, when it has room, reaches both ends.
- Samples of a float input differ in level, contrast and pattern, not only in noise: a model that
  averages its input must still answer differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.artifact.signature import TensorSpec
from interop.errors import ParityError
from interop.formats.dtypes import numpy_dtype

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest integer of an input without bounds, and whether a dimension of size 1 makes it 0."""

    number: int
    one_bounds: bool = True

    def at(self, sizes: Iterable[int]) -> int:
        """It, or the last index of the smallest dimension."""
        return min([self.number, *(size - 1 for size in sizes if size > 1 or self.one_bounds)])


BATCH_SIZES = (4, 7)
#: The largest integer of an input without bounds: small enough for any lookup table of a real model. Where a named
#: dimension is smaller, its last index is: the numbers may be places in another input, as the edges of a graph are.
#: A single sample bounds nothing at first: all of its numbers would be 0, and a mask of zeros is no input that a model
#: is made for. What follows the first entry is for models that fail on it.
UNBOUNDED = (Largest(7, one_bounds=False), Largest(7), Largest(1), Largest(0))
#: Strings an input is made of: likely members of a vocabulary, and some of none.
WORDS = ("a", "b", "c", "0", "1", "2", "the", "of", "cat", "dog", "red", "blue", "yes", "no", "one two", "")
#: Tried in turn until the reference's outputs vary: models that rescale inside want the range of pixels.
AMPLITUDES = (1.0, 128.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One size for every named dimension, and a seed.

    Attributes:
        sizes: size by dimension name.
        batch_size: number of samples; None when the batch is fixed.
        seed: of the random numbers.
    """

    sizes: Mapping[str, int]
    batch_size: int | None
    seed: int

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self.sizes.items()) or f"draw={self.seed}"


def batch_dims(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The named leading dimensions that count samples; empty when the batch is fixed.

    They are one for all inputs, but for those a plain ONNX file left without a name.
    """
    leading = [(spec.name, spec.shape[0]) for spec in inputs if spec.shape]
    names = {dim for _, dim in leading}
    shared = {dim for name, dim in leading if dim != f"{name}.0"}
    if len(shared) > 1 or any(isinstance(dim, int) for dim in names):
        return ()
    return tuple(sorted(str(name) for name in names))


def make_cases(inputs: Sequence[TensorSpec], sizes: Mapping[str, Sequence[int]] | None = None) -> list[Case]:
    """Cases that together use two sizes of every named dimension, and a batch of one.

    Dimensions get sizes unlike each other's, so that two of them taken for one another is found.
    A signature without named dimensions gives four draws of its only size.

    Args:
        inputs: the input specs.
        sizes: sizes to use instead of the chosen ones, by dimension name.

    Raises:
        ParityError: `sizes` names a dimension the signature does not have, or gives no size.
    """
    batch = batch_dims(inputs)
    chosen = _default_sizes(inputs, batch)
    for name, wanted in (sizes or {}).items():
        if name not in chosen:
            raise ParityError(
                f"sizes names the dimension {name!r}; the named dimensions are {_listed(chosen)}"
            )
        if not _are_sizes(wanted):
            raise ParityError(f"sizes[{name!r}] is {wanted!r}; expected one or more positive sizes")
        chosen[name] = tuple(wanted)
    if not chosen:
        return [Case({}, None, seed) for seed in range(4)]
    count = max(len(options) for options in chosen.values())
    rounds = [{name: options[i % len(options)] for name, options in chosen.items()} for i in range(count)]
    if batch and not set(batch) & set(sizes or {}):
        rounds.append({**rounds[0], **dict.fromkeys(batch, 1)})
    return [Case(used, used[batch[0]] if batch else None, seed) for seed, used in enumerate(rounds)]


def _are_sizes(wanted: object) -> bool:
    if not isinstance(wanted, Sequence) or isinstance(wanted, str):
        return False
    return len(wanted) > 0 and all(isinstance(size, int | np.integer) and size > 0 for size in wanted)


def is_unbounded(spec: TensorSpec) -> bool:
    """Whether an input takes any integer, as far as is known."""
    return spec.dtype.startswith(("int", "uint")) and spec.bounds is None


def make_inputs(
    inputs: Sequence[TensorSpec], case: Case, *, amplitude: float = 1.0, largest: Largest = UNBOUNDED[1]
) -> dict[str, Array]:
    """Arrays for one case, by input name.

    Args:
        inputs: the input specs.
        case: sizes and seed.
        amplitude: the size of typical float values.
        largest: integer of an input without bounds.

    Raises:
        ParityError: inputs of that element type cannot be made up.
    """
    rng = np.random.default_rng([case.seed, 20])
    number = largest.at(case.sizes.values())
    return {spec.name: _make(spec, concrete_shape(spec, case), rng, amplitude, number) for spec in inputs}


def concrete_shape(spec: TensorSpec, case: Case) -> tuple[int, ...]:
    """The spec's shape with every named dimension replaced by the case's size."""
    return tuple(dim if isinstance(dim, int) else case.sizes[dim] for dim in spec.shape)


def _two_sizes(rank: int, step: int) -> tuple[int, int]:
    """For texts, images and volumes: what halves its places a few times needs room, and volumes have many."""
    if rank < 4:
        return 8 + step, 13 + step
    return (32 + 32 * step, 64 + 32 * step) if rank == 4 else (16 + 16 * step, 32 + 16 * step)


def _default_sizes(inputs: Iterable[TensorSpec], batch: Sequence[str]) -> dict[str, tuple[int, ...]]:
    chosen: dict[str, tuple[int, ...]] = dict.fromkeys(batch, BATCH_SIZES)
    for spec in inputs:
        for dim in spec.shape:
            if isinstance(dim, int) or dim in chosen:
                continue
            step = len(chosen)
            chosen[dim] = _two_sizes(len(spec.shape), step)
    return chosen


def _make(
    spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, amplitude: float, largest: int
) -> Array:
    dtype = spec.dtype
    if dtype == "bool":
        return rng.random(shape) < 0.7
    if dtype.startswith(("int", "uint")):
        return _integers(spec, shape, rng, largest)
    if "float" in dtype:
        return _floats(shape, rng, amplitude).astype(numpy_dtype(dtype))
    if dtype.startswith("complex"):
        real, imaginary = _floats(shape, rng, amplitude), _floats(shape, rng, amplitude)
        return (real + 1j * imaginary).astype(dtype)
    if dtype == "string":
        return rng.choice(np.array(WORDS, object), shape)
    raise ParityError(
        f"input {spec.name!r} has dtype {dtype}, for which no inputs can be made up; pass inputs= to verify"
    )


def _integers(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, largest: int) -> Array:
    low, high = spec.bounds if spec.bounds is not None else (0, largest)
    made = rng.integers(low, high, size=shape, endpoint=True)
    flat = made.reshape(-1)
    if flat.size > 2:
        flat[-1], flat[-2] = high, low
    return made.astype(numpy_dtype(spec.dtype))


def _floats(shape: tuple[int, ...], rng: np.random.Generator, amplitude: float) -> Array:
    noise = rng.standard_normal(shape)
    if len(shape) < 2:
        return amplitude * noise
    per_sample = (shape[0], *(1 for _ in shape[1:]))
    made = noise * rng.uniform(0.2, 0.6, per_sample) + rng.uniform(-0.5, 0.5, per_sample)
    for axis in range(1, len(shape)):
        position = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        turns = rng.uniform(0.0, 3.0, per_sample) * position / max(shape[axis], 1)
        made = made + rng.uniform(0.3, 1.0, per_sample) * np.sin(
            2 * np.pi * (turns + rng.uniform(0, 1, per_sample))
        )
    return amplitude * made


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
