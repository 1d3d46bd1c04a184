"""Which variable of a Keras 3 layer a stored tensor of Keras 2 belongs to.

Enters: layers, and what is stored for each: a list of tensors in the order of Keras 2 with the names it gave them
(HDF5), or a tree that follows the objects' attributes (checkpoints, ``.keras``). Leaves: pairs of both.

Keras 2 lists what is trainable first, so that its order changes with every flag inside. Layers in a model are
therefore told by their names, which the stored names contain, and only the tensors of one layer by order: those
must also agree in name and shape. What fits in two ways is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
from numpy.typing import NDArray

from interop.capture.keras import compat
from interop.errors import WeightsError
from interop.rebuild.legacy import table


@dataclass(frozen=True)
class Stored:
    """One tensor in a file of Keras 2.

    Attributes:
        name: as the file has it, such as ``dense/kernel:0``.
        shape: its dimensions.
        read: reads it.
        origin: its name in the file, where `name` is what a later version would have called it.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]
    origin: str = ""

    @property
    def leaf(self) -> str:
        """The variable's own name."""
        return self.name.rsplit("/", 1)[-1].split(":")[0]

    @property
    def scopes(self) -> list[str]:
        """What the name has before the variable's own."""
        return self.name.split("/")[:-1]


class Tree(Protocol):
    """What is stored below one object, by the attributes that lead to it."""

    def child(self, attribute: str) -> Tree | None:
        """The tree of what an attribute, or an index or key in it, holds."""
        ...

    def layer(self, name: str) -> Tree | None:
        """The tree of a layer of a Functional or Sequential model."""
        ...

    def variable(self, attributes: tuple[str, ...], variable: Any) -> Stored | None:
        """A variable of this object, by the attribute that holds it, or by its name."""
        ...


Pairs = list[tuple[Any, Stored]]


def variables(layer: Any) -> list[Any]:
    """The variables of a layer in the order of Keras 2: its own, then those of what it holds; each once."""
    own = [*compat.own_variables(layer), *(v for child in compat.sublayers(layer) for v in variables(child))]
    return list({id(variable): variable for variable in own}.values())


def held(owner: Any, wanted: Sequence[Any]) -> dict[int, tuple[str, ...]]:
    """The attribute, and what follows it in a list or dict, that holds each of some objects."""
    identities = {id(item) for item in wanted}
    found: dict[int, tuple[str, ...]] = {}

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if id(value) in identities:
            found.setdefault(id(value), path)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                visit(item, (*path, str(index)))
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(item, (*path, str(key)))

    for name, value in sorted(compat.attributes(owner).items(), key=lambda item: item[0].startswith("_")):
        visit(value, (name,))
    return found


def is_container(layer: Any) -> bool:
    """Whether a layer is, or somewhere holds, a Functional or Sequential model."""
    if isinstance(layer, keras.Sequential) or compat.is_functional(layer):
        return True
    return any(is_container(child) for child in compat.sublayers(layer))


def leaves(layer: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The layers in a model that hold variables themselves, with the names of the models they are in."""
    names = (*above, layer.name)
    if not is_container(layer):
        yield names, layer
        return
    for child in compat.sublayers(layer):
        yield from leaves(child, names)


def pair_list(layer: Any, stored: Sequence[Stored]) -> tuple[Pairs, list[Stored]]:
    """Pair the variables of a layer or model with its tensors, in the order of Keras 2; what is left over too.

    Raises:
        WeightsError: the tensors fit in no way, or in several.
    """
    kept = [item for item in stored if item.leaf not in table.STATES]
    left = [item for item in stored if item.leaf in table.STATES]
    if compat.keeps_vocabulary(layer):  # weights of its words, which its config has too
        return [], left
    if not is_container(layer):
        return _pair_leaf(layer, kept), left
    inner = {id(leaf): (names, leaf) for names, leaf in leaves(layer) if variables(leaf)}
    assigned: dict[int, list[Stored]] = {identity: [] for identity in inner}
    for item in kept:
        fitting = _by_scope(item, inner)
        if len(fitting) != 1:
            return _pair_leaf(layer, kept), left
        assigned[fitting[0]].append(item)
    pairs: Pairs = []
    for identity, items in assigned.items():
        leaf = inner[identity][1]
        if len(items) != len(variables(leaf)):
            return _pair_leaf(layer, kept), left
        pairs += _pair_leaf(leaf, items)
    return pairs, left


def _by_scope(item: Stored, inner: Mapping[int, tuple[tuple[str, ...], Any]]) -> list[int]:
    """The layers whose name a stored name contains; of several, those whose models it contains most of."""
    scopes = item.scopes
    fitting = {identity: names for identity, (names, leaf) in inner.items() if _is_among(leaf.name, scopes)}
    if len(fitting) > 1:
        most = max(len(set(names) & set(scopes)) for names in fitting.values())
        fitting = {i: names for i, names in fitting.items() if len(set(names) & set(scopes)) == most}
    return list(fitting)


def _is_among(name: str, scopes: list[str]) -> bool:
    """Whether scopes have a layer's name, which Keras 3 writes with underscores for its slashes."""
    runs = ("_".join(scopes[i:j]) for i in range(len(scopes)) for j in range(i + 1, len(scopes) + 1))
    return name in scopes or name in runs


def _pair_leaf(layer: Any, stored: Sequence[Stored]) -> Pairs:
    """By order, with names and shapes checked; by name where Keras 2 had another order."""
    own = variables(layer)
    ordered = [v for v in own if v.trainable] + [v for v in own if not v.trainable]
    if len(ordered) != len(stored):
        raise WeightsError(
            f"layer {layer.name!r} ({type(layer).__name__}) has {len(ordered)} variables "
            f"({_listed(v.path for v in ordered)}), the file has {len(stored)} ({_listed(s.name for s in stored)})"
        )
    for order in (ordered, own):
        if all(_agree(v, s) for v, s in zip(order, stored, strict=True)):
            return list(zip(order, stored, strict=True))
    named = _by_name(ordered, stored)
    if named is None:
        raise WeightsError(
            f"the tensors of layer {layer.name!r} ({type(layer).__name__}) fit its variables in no certain way. "
            f"Stored: {_listed(f'{s.name}{s.shape}' for s in stored)}; "
            f"variables: {_listed(f'{v.path}{tuple(v.shape)}' for v in ordered)}"
        )
    return named


def _by_name(variables: Sequence[Any], stored: Sequence[Stored]) -> Pairs | None:
    """Pair by the longest end of the path that both have in common, if that is certain for each."""
    pairs: Pairs = []
    free = list(variables)
    for item in stored:
        fitting = [v for v in free if _agree(v, item)]
        ends = {id(v): _common_end(v.path.split("/"), [*item.scopes, item.leaf]) for v in fitting}
        best = [v for v in fitting if ends[id(v)] == max(ends.values())]
        if len(best) != 1:
            return None
        pairs.append((best[0], item))
        free = [v for v in free if v is not best[0]]
    return pairs


def _common_end(left: list[str], right: list[str]) -> int:
    count = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        count += 1
    return count


def _agree(variable: Any, stored: Stored) -> bool:
    if tuple(variable.shape) != tuple(stored.shape):
        return False
    names = {stored.leaf, table.VARIABLES.get(stored.leaf, stored.leaf)}
    return variable.name in names or stored.leaf == "Variable" or variable.name.startswith("variable")


def pair_tree(layer: Any, tree: Tree) -> Pairs:
    """Pair the variables of a layer or model with those of a tree, by the attributes that lead to both."""
    pairs: Pairs = []
    for owner, place in walk_tree(layer, tree):
        own = [] if compat.named_layers(owner) else compat.own_variables(owner)
        attributes = held(owner, own)
        for variable in own:
            found = place.variable(attributes.get(id(variable), (variable.name,)), variable)
            if found is not None:
                pairs.append((variable, found))
    return pairs


def walk_tree(layer: Any, tree: Tree) -> Iterator[tuple[Any, Tree]]:
    """A layer or model and those in it, each with its tree."""
    yield layer, tree
    if compat.named_layers(layer):
        for child in compat.named_layers(layer):
            below = tree.layer(child.name)
            if below is not None:
                yield from walk_tree(child, below)
        return
    children = compat.sublayers(layer)
    attributes = held(layer, children)
    for child in children:
        step: Tree | None = tree if id(child) in attributes else None
        for attribute in attributes.get(id(child), ()):
            step = None if step is None else step.child(attribute)
        if step is not None:
            yield from walk_tree(child, step)


def _listed(names: Any, shown: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:shown]) + (f", and {len(names) - shown} more" if len(names) > shown else "")
