"""Stored tensors are assigned: checks first, then one tensor at a time, then what waits for a layer to be built.

Enters: a lazy mapping of tensors and a matcher. Leaves: variables with their values, and a `LoadStatus` that is kept
up to date as layers are built.

Invariants: nothing is assigned if anything is wrong; a value is copied out of the file before a framework sees it;
no more than one tensor is in memory beside the model.
"""

from __future__ import annotations

import warnings
from bisect import insort
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.errors import WeightsError
from interop.formats.dtypes import BY_NAME, numpy_dtype
from interop.formats.mapping import TensorMapping
from interop.rebuild.from_config import finalize, is_same_number
from interop.rebuild.weights.matching import Matched
from interop.status import LoadStatus, Mismatch

_SHOWN = 4


def load(
    tensors: TensorMapping,
    match: Callable[[], Matched],
    roots: Iterable[Any],
    *,
    skip_mismatch: bool | None = False,
) -> LoadStatus:
    """Assign the tensors of a file.

    Args:
        tensors: the open file; closed when nothing waits any more.
        match: says what belongs to what, as the model is when it is called.
        roots: the layers and optimizers whose builds are waited for.
        skip_mismatch: leave out, instead of raising, what has another shape or could belong to several variables;
            None if the caller has no such option.

    Raises:
        WeightsError: a shape or kind differs, something is ambiguous, or nothing matched.
    """
    loading = _Loading(tensors, match, list(roots), bool(skip_mismatch))
    matched = match()
    mismatched = loading.mismatches(matched)
    if not skip_mismatch and (problem := _problem(mismatched, matched)):
        way_out = "; skip_mismatch=True leaves them out" if skip_mismatch is not None else ""
        raise WeightsError(f"{tensors.source} does not fit the model: {problem}. Nothing was loaded{way_out}")
    if not matched.pairs and not matched.deferred and (matched.missing or matched.unexpected):
        raise WeightsError(_nothing(matched, tensors.source))
    loading.assign(matched, mismatched)
    return loading.status


class _Loading:
    """A file that is being loaded, and what is still to come."""

    def __init__(
        self, tensors: TensorMapping, match: Callable[[], Matched], roots: list[Any], skip_mismatch: bool
    ) -> None:
        self.status = LoadStatus()
        self._skip_mismatch = skip_mismatch
        self._tensors = tensors
        self._match = match
        self._roots = roots
        self._done: dict[str, str] = {}
        self._watched: set[int] = set()
        self._parts: dict[int, Callable[[], Matched]] = {}
        self._waiting: dict[int, Any] = {}
        self._deferred: dict[str, None] = {}

    def mismatches(self, matched: Matched) -> dict[str, Mismatch]:
        """What does not fit, by key."""
        found = {}
        for key, name, variable in matched.pairs:
            if key in self._done:
                continue
            stored = self._tensors.dtypes[key], tuple(self._tensors.shapes[key])
            expected = compat.variable_dtype(variable), tuple(variable.shape)
            if stored[1] != expected[1] or not self._converts(key, expected[0]):
                found[key] = Mismatch(name, *(f"{dtype}{shape}" for dtype, shape in (stored, expected)))
        return found

    def _converts(self, key: str, dtype: str) -> bool:
        """Whether a value may become one of another type: floats another float, integers another integer."""
        stored = self._tensors.dtypes[key]
        if stored == dtype or _kind(stored) == _kind(dtype) != "other":
            return True
        if self._tensors.shapes[key] != () or "other" in (_kind(stored), _kind(dtype)):
            return False
        return is_same_number(self._tensors[key], numpy_dtype(dtype))

    def assign(self, matched: Matched, mismatched: dict[str, Mismatch]) -> None:
        self._set(matched, mismatched)
        names = set(self._done.values())
        self.status.update(
            LoadStatus(
                loaded=tuple(sorted(names)),
                missing=tuple(name for name in matched.missing if name not in names),
                unexpected=tuple(matched.unexpected),
                mismatched=tuple(sorted(mismatched.values())),
                ambiguous=tuple(matched.ambiguous),
                deferred=tuple(matched.deferred),
            )
        )
        self._parts, self._deferred = dict(matched.parts), dict.fromkeys(matched.deferred)
        self._waiting = matched.waiting
        self._end(self._roots)

    def _set(self, matched: Matched, mismatched: Collection[str] = ()) -> list[str]:
        """Assign what is not assigned yet; returns the names."""
        names = []
        for key, name, variable in matched.pairs:
            if key not in self._done and key not in mismatched:
                compat.set_value(variable, _converted(self._tensors[key], compat.variable_dtype(variable)))
                self._done[key] = name
                names.append(name)
        for name, variable in matched.zeros:
            if name not in self._done:
                compat.set_value(
                    variable, np.zeros(variable.shape, numpy_dtype(compat.variable_dtype(variable)))
                )
                self._done[name] = name
                names.append(name)
        return names

    def _end(self, roots: Iterable[Any]) -> None:
        """What is to be done under layers that got values: watch what waits, or close the file."""
        for root in roots:
            if isinstance(root, keras.Layer):
                finalize(root)
        if not self._deferred:
            self._tensors.close()
            return
        for root in roots:
            for owner in compat.unbuilt(root):
                if id(owner) not in self._watched:
                    self._watched.add(id(owner))
                    compat.after_build(owner, partial(self._go_on, owner))

    def _go_on(self, owner: Any) -> None:
        """A layer was built: assign what waited for it."""
        if not self.status.deferred or self._assign_part(owner):
            return
        if id(owner) in self._waiting and not all(layer.built for layer in self._waiting.values()):
            return
        matched = self._match()
        mismatched = self.mismatches(matched)
        new = {
            key: mismatch for key, mismatch in mismatched.items() if mismatch not in self.status.mismatched
        }
        self.assign(matched, mismatched)
        if not self._skip_mismatch and (problem := _problem(new, matched)):
            message = f"{self._tensors.source} does not fit what was built: {problem}. They keep their values"
            # Keras drops what is raised while it builds a model by trying it, and tries again.
            warnings.warn(message, stacklevel=2)
            raise WeightsError(message)

    def _assign_part(self, owner: Any) -> bool:
        """Assign what waited for one layer, if that can be told without the rest of the model.

        A model that is built layer by layer is so matched once, not once for every layer.
        """
        part = self._parts.pop(id(owner), None)
        matched = None if part is None else part()
        if matched is None or matched.missing or matched.unexpected or matched.ambiguous:
            return False
        if self.mismatches(matched):
            return False
        names = self._set(matched)
        for pair in matched.pairs:
            self._deferred.pop(pair.key, None)
        self._parts |= matched.parts
        loaded = list(self.status.loaded)
        for name in names:
            insort(loaded, name)
        self.status.loaded, self.status.deferred = tuple(loaded), tuple(self._deferred)
        self._end([owner])
        return True


def _problem(mismatched: dict[str, Mismatch], matched: Matched) -> str:
    """What is wrong, or nothing."""
    if mismatched:
        shown = sorted(mismatched.values())[:_SHOWN]
        listed = "; ".join(f"{m.key} is {m.stored}, expected {m.expected}" for m in shown)
        return f"{len(mismatched)} tensors have other shapes or kinds: {listed}"
    if matched.ambiguous:
        return (
            f"{len(matched.ambiguous)} tensors could belong to several variables, {matched.why}: "
            f"{', '.join(matched.ambiguous[:_SHOWN])} ({matched.advice})"
        )
    return ""


def _nothing(matched: Matched, source: str) -> str:
    stored = ", ".join(matched.unexpected[:_SHOWN]) or "nothing"
    expected = ", ".join(matched.missing[:_SHOWN]) or "nothing"
    return (
        f"nothing in {source} belongs to this model. The file has {stored}; the model has {expected}. If the file was "
        "saved from a part of this model, load it into that part"
    )


def _kind(dtype: str) -> str:
    if dtype.startswith(("float", "bfloat")):
        return "float"
    if dtype.startswith(("int", "uint")) and dtype in BY_NAME:
        return "integer"
    return "other"


def _converted(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """A copy of its own, in a variable's dtype where NumPy has that."""
    if array.dtype.name == dtype or dtype not in BY_NAME:
        return array.copy()
    return array.astype(numpy_dtype(dtype))
