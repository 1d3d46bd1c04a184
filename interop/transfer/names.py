"""Tensors that have no graph find their partners by name.

Enters: two sides, of which one at least is only names and shapes. Leaves: which tensor of the one is which of the
other.

- A file beside a Keras model: by the layout of the file, as ``load_weights`` does.
- Else names are equal part by part (``.`` and ``/`` separate parts alike), or differ by parts at their beginning that
  one side has throughout: ``module.`` around a model, or a trunk that is ``encoder.`` in a larger one. A part at the
  end that all names of one side have (``value``) does not count either.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from interop.errors import WeightsError
from interop.formats import open_tensors
from interop.formats.tensorbundle.objects import OBJECT_GRAPH, VALUE_SUFFIX
from interop.transfer.models import Model
from interop.transfer.named import Named, some

Parts = tuple[str, ...]
_OUTERMOST = 3  # parts at the beginning of a name that may be left out
_BY_LAYOUT = ("h5", "keras", "tf")
_OPTIMIZER = re.compile(r"optimizer(_weights)?/|save_counter/|.*/\.OPTIMIZER_SLOT/")
_OWN = "optimizer:"
"""What keys of the state of an optimizer begin with in files of ``save_weights``."""


class Names(NamedTuple):
    """Partners by name.

    Attributes:
        pairs: name of the target to name of the source.
        how: in which way the names agree, in words.
        apart: tensors of either side that are no weights, such as the optimizer's, by side.
    """

    pairs: dict[str, str]
    how: str
    apart: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


def paired(source: Model, target: Model) -> Names:
    """Which tensor of the source is which of the target; shapes are not looked at where names say enough."""
    pairs, how = _paired(source, target)
    apart = [set(_optimizer(side)) for side in (source, target)]
    for name, other in pairs.items():
        if name in target.seeds or other in source.seeds:
            apart[0].add(other)
            apart[1].add(name)
    weights = {name: other for name, other in pairs.items() if other not in apart[0] and name not in apart[1]}
    return Names(
        weights,
        how,
        (frozenset(apart[0] & source.tensors.keys()), frozenset(apart[1] & target.tensors.keys())),
    )


def _paired(source: Model, target: Model) -> tuple[dict[str, str], str]:
    for stored, model in ((source, target), (target, source)):
        if stored.file is not None and model.framework == "keras":
            found = _by_layout(stored, model)
            if found:
                pairs = found if model is target else {key: name for name, key in found.items()}
                return pairs, "the layout of the file"
    return _alike(source.tensors | source.seeds, target.tensors | target.seeds)


def _by_layout(stored: Model, model: Model) -> dict[str, str]:
    """Name of each variable of a Keras model to the name of its tensor in a file."""
    from interop.formats.h5 import open_groups
    from interop.formats.keras_zip import open_member
    from interop.rebuild.weights.stored import open_stored

    assert stored.file is not None
    path, kind = stored.file
    if kind == "tf":
        with open_tensors(path, "tf") as tensors:
            if OBJECT_GRAPH not in tensors:
                return {}
    stored_file = open_stored(model.native, path, kind)
    with stored_file.tensors:
        matched = stored_file.match()
    short: Mapping[str, str] = {}
    if kind in ("h5", "keras"):
        groups = open_groups(open_member(path) if kind == "keras" else path.open("rb"), str(path))
        with groups.tensors:
            short = groups.short
    if matched.ambiguous:
        raise WeightsError(
            f"{stored.label} does not tell apart {some(sorted(matched.ambiguous))}: several layers of {model.label} "
            "could have them"
        )
    found = {pair.name: short.get(pair.key, pair.key) for pair in matched.pairs}
    return {name: key for name, key in found.items() if key in stored.tensors and not name.startswith(_OWN)}


def _optimizer(side: Model) -> frozenset[str]:
    """Tensors of a file of Keras or TensorFlow that are the state of an optimizer or a counter."""
    if side.file is None:
        return frozenset()
    by_layout = side.file[1] in _BY_LAYOUT
    return frozenset(
        name for name in side.tensors if name.startswith(_OWN) or (by_layout and _OPTIMIZER.match(name))
    )


def _alike(source: Mapping[str, Named], target: Mapping[str, Named]) -> tuple[dict[str, str], str]:
    """Pairs of names that are equal but for what one side has around all of them."""
    best: tuple[dict[str, str], str] = ({}, "")
    for mine, ours in _forms(target):
        for theirs, other in _forms(source):
            found = _offset(theirs, mine, source, target)
            if len(found[0]) > len(best[0]):
                said = [text for text in (found[1], other, ours) if text]
                best = found[0], "; ".join(said)
    return best


def _forms(names: Iterable[str]) -> list[tuple[dict[str, Parts], str]]:
    """Names in parts: whole, and without the last part if that is always the same."""
    whole = {name: _parts(name) for name in names}
    forms = [(whole, "")]
    last = {parts[-1] for parts in whole.values()}
    if len(last) == 1 and all(len(parts) > 1 for parts in whole.values()):
        forms.append(
            ({name: parts[:-1] for name, parts in whole.items()}, f"without {last.pop()!r} at the end")
        )
    return forms


def _parts(name: str) -> Parts:
    return tuple(re.split(r"[./]", name.removesuffix(VALUE_SUFFIX).removesuffix(":0")))


def _offset(
    source: Mapping[str, Parts],
    target: Mapping[str, Parts],
    theirs: Mapping[str, Named],
    ours: Mapping[str, Named],
) -> tuple[dict[str, str], str]:
    """The pairs when one beginning is left out on either side: that under which most names are equal."""
    ends: dict[Parts, list[tuple[Parts, str]]] = defaultdict(list)
    for name, parts in source.items():
        for count in range(min(_OUTERMOST, len(parts) - 1) + 1):
            ends[parts[count:]].append((parts[:count], name))
    votes: Counter[tuple[Parts, Parts]] = Counter()
    for name, parts in target.items():
        for count in range(min(_OUTERMOST, len(parts) - 1) + 1):
            for start, other in ends.get(parts[count:], ()):
                votes[start, parts[:count]] += theirs[other].shape == ours[name].shape
    if not votes:
        return {}, ""
    most = max(votes.values())
    _, (left, right) = min((len(a) + len(b), (a, b)) for (a, b), count in votes.items() if count == most)
    whole = {parts: name for name, parts in source.items()}
    pairs = {
        name: whole[left + parts[len(right) :]]
        for name, parts in target.items()
        if parts[: len(right)] == right and left + parts[len(right) :] in whole
    }
    said = [
        f"{'.'.join(start)!r} of the {side} left out"
        for start, side in ((left, "source"), (right, "target"))
        if start
    ]
    return pairs, "; ".join(said)
