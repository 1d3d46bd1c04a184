"""Sizes for the inputs of both models, so that they compute the same: what one does not know, the other tells.

Enters: two models. Leaves: fixed inputs of each, and in which order of axes they are the same tensor.

A model that does not know its inputs gets those of the other, as they are or with channels moved; the first that it
runs on is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from interop.errors import InteropError, WeightsError
from interop.transfer.models import Input, Model

_LENGTHS = (8, 16, 40)  # of sequences
_SIDES = (32, 64, 128, 224)  # of images
_MOST_PERMUTED = 4
_FIRST_LAST = {"torch": True}  # whose images have channels first


@dataclass(frozen=True)
class Meeting:
    """Inputs of both models.

    Attributes:
        source: of the source.
        target: of the target.
        orders: for each model and input, the order of axes in which they are the same tensor.
        partners: for each input of the target, the position of the source's that it is.
    """

    source: list[Input]
    target: list[Input]
    orders: tuple[list[tuple[int, ...]], list[tuple[int, ...]]]
    partners: tuple[int, ...] = ()

    def paired(self) -> Iterator[Meeting]:
        """The ways to pair inputs that look alike, by position first."""
        count = max(len(self.source), len(self.target))
        for order in (
            itertools.permutations(range(count)) if count <= _MOST_PERMUTED else [tuple(range(count))]
        ):
            partners = order[: len(self.target)]
            if all(
                k >= len(self.source) or _alike(self.source[k], given)
                for k, given in zip(partners, self.target, strict=True)
            ):
                yield replace(self, partners=partners)


def meetings(source: Model, target: Model) -> Iterator[Meeting]:
    """Inputs to try, the likeliest first.

    Raises:
        WeightsError: neither model knows its inputs.
    """
    if source.inputs is None and target.inputs is None:
        raise WeightsError(
            f"neither {source.label} nor {target.label} tells its inputs. Pass source_inputs=[(None, 3, 32, 32)], or "
            "examples of them"
        )
    for model in (source, target):
        for given in model.inputs or ():
            if 0 in given.shape:
                raise WeightsError(
                    f"an input of {model.label} is {list(given.shape)}, which holds nothing to compare. Pass a shape "
                    "without 0; None stands for a size that is open"
                )
    known, other = (source, target) if source.inputs is not None else (target, source)
    assert known.inputs is not None
    for sized in _sized(known.inputs, _batch(other.inputs)):
        for guess in (
            [_adopted(other.inputs, sized)] if other.inputs is not None else _guesses(known, other, sized)
        ):
            orders = [_order(a, b) for a, b in zip(sized, guess, strict=False)]
            straight = [tuple(range(len(i.shape))) for i in sized]
            turned = [
                orders[k] if k < len(orders) else tuple(range(len(i.shape))) for k, i in enumerate(guess)
            ]
            if known is source:
                yield Meeting(sized, guess, (straight, turned))
            else:
                yield Meeting(guess, sized, (turned, straight))


def _batch(inputs: Sequence[Input] | None) -> int:
    """How many examples a model takes, if that is fixed; else one."""
    return next((i.shape[0] for i in inputs or () if i.shape and i.shape[0] is not None), 1)


def _sized(inputs: Sequence[Input], batch: int) -> Iterator[list[Input]]:
    """The inputs with every open size fixed."""
    if all(None not in i.shape[1:] for i in inputs):
        yield [_fixed(i, batch, 1, 1) for i in inputs]
        return
    for length, side in itertools.zip_longest(_LENGTHS, _SIDES, fillvalue=_LENGTHS[-1]):
        yield [_fixed(i, batch, length, side) for i in inputs]


def _fixed(given: Input, batch: int, length: int, side: int) -> Input:
    size = side if len(given.shape) > 3 else length
    size += 2 if size in given.shape[1:] and len(given.shape) == 3 else 0
    shape = tuple(
        dim if dim is not None else batch if axis == 0 else size for axis, dim in enumerate(given.shape)
    )
    return replace(given, shape=shape)


def _adopted(own: Sequence[Input], other: Sequence[Input]) -> list[Input]:
    """Inputs whose open sizes are those of the other model's."""
    made = []
    for index, given in enumerate(own):
        pair = other[index] if index < len(other) and len(other[index].shape) == len(given.shape) else None
        known = {dim for dim in given.shape if dim is not None}
        left = [d for d in pair.shape if d not in known] if pair is not None else []
        shape: list[int | None] = []
        for axis, dim in enumerate(given.shape):
            if dim is not None:
                shape.append(dim)
            elif pair is not None and pair.shape[axis] in left:
                shape.append(pair.shape[axis])
            else:
                shape.append(left[min(axis, len(left) - 1)] if left else 1 if axis == 0 else _LENGTHS[0])
        made.append(replace(given, shape=tuple(shape)))
    return made


def _guesses(known: Model, other: Model, sized: Sequence[Input]) -> Iterator[list[Input]]:
    """The inputs of one model as the other may want them; those it runs on."""
    apart = _FIRST_LAST.get(known.framework, False) != _FIRST_LAST.get(other.framework, False)
    first = _FIRST_LAST.get(other.framework, False)
    options = []
    for given in sized:
        kept = replace(given, dtype=_dtype(given.dtype, other.framework))
        options.append([kept])
        if apart and len(given.shape) > 2 and "float" in given.dtype:
            n, *rest = given.shape
            shape = (n, rest[-1], *rest[:-1]) if first else (n, *rest[1:], rest[0])
            moved = replace(kept, shape=shape)
            options[-1] = [kept, moved] if len(given.shape) == 3 else [moved, kept]
    tried: list[str] = []
    for guess in itertools.islice(itertools.product(*options), 16):
        problem = _problem(other, list(guess))
        if problem is None:
            yield list(guess)
            return
        tried.append(f"{[i.shape for i in guess]}: {problem}")
    raise WeightsError(
        f"the inputs of {other.label} are not known, and it does not run on those of {known.label}. Pass its shapes, "
        f"or examples (source_inputs or target_inputs). Tried {'; '.join(tried)}"
    )


def _problem(model: Model, inputs: Sequence[Input]) -> str | None:
    """Why a model does not run on inputs of these sizes; None if it does."""
    assert model.runs is not None
    try:
        model.runs([np.zeros(i.sizes, i.dtype) for i in inputs])
    except InteropError:
        raise
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
        AssertionError,
        KeyError,
    ) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:160]
    return None


def _alike(one: Input, other: Input) -> bool:
    """Whether two inputs may be the same: numbers of one kind, as many of them."""
    kinds = ["float" in i.dtype for i in (one, other)]
    return kinds[0] == kinds[1] and sorted(one.sizes) == sorted(other.sizes)


def _dtype(dtype: str, framework: str) -> str:
    return "int64" if framework == "torch" and dtype == "int32" else dtype


def _order(known: Input, other: Input) -> tuple[int, ...]:
    """The order of the other's axes that gives the known one's."""
    rank = len(other.shape)
    straight = tuple(range(rank))
    if other.shape == known.shape or rank != len(known.shape) or rank < 3:
        return straight
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    for order in (last, first):
        if tuple(other.shape[axis] for axis in order) == known.shape:
            return order
    return straight
