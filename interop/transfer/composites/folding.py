"""Layers and the affine steps after them, found in a graph and put in the place of both: a layer with a bias.

Enters: a flat ``ir.Model`` with shapes. Leaves: the same model, changed, and a ``Folded`` for each layer.

What counts is that a product or convolution is followed by steps that scale and shift each of its features, whichever
way they are written: they are computed for drawn numbers, which shows what each parameter does.

Invariant: parameters that are used elsewhere too stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.arithmetic import put_for, static_shape
from interop.transfer.composites.evaluation import OfParameters, spec_of, stand_in, without_idle
from interop.transfer.composites.folded import ROLES, Folded, affine
from interop.transfer.elements import is_phantom, phantom
from interop.transfer.loops.outside import Outside
from interop.transfer.movement import movement
from interop.transfer.named import Named
from interop.transfer.nodes import constant, origin, step_of

Array = NDArray[Any]
Drawn = dict[str, Array]
_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_STEPS = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_CLOSE = 1e-4


@dataclass
class _Chain:
    """A product and the affine steps after it.

    Attributes:
        product: its node.
        kernel: the initializer that its weight is moved from.
        loops: sizes of the kernel's axes, and how the feature changes along each.
        bias: what it adds itself; None if nothing.
        steps: nodes, each with the place of the flow among its inputs and the axis of the features.
    """

    product: Any
    kernel: Any
    loops: tuple[tuple[int, ...], tuple[int, ...]]
    bias: Any
    steps: list[tuple[Any, int, int]] = field(default_factory=list)

    @property
    def features(self) -> int:
        return 1 + sum((size - 1) * step for size, step in zip(*self.loops, strict=True))

    def operands(self) -> list[Any]:
        """What the steps take besides the flow, and the bias."""
        given = [v for node, place, _ in self.steps for k, v in enumerate(node.inputs) if k != place]
        return given if self.bias is None else [self.bias, *given]


def fold(model: Any, names: Sequence[str], only: Callable[[str], bool] = lambda name: True) -> list[Folded]:
    """Put one layer in the place of each that is followed by affine steps; the graph is changed.

    Args:
        model: a flat ``ir.Model``.
        names: of the initializers that are parameters.
        only: which kernels are folded, by the name of what is made.
    """
    found: list[Folded] = []
    while made := _folded_once(model.graph, {*names, *(name for one in found for name in one.makes)}, only):
        found += made
    return found


def _folded_once(graph: Any, names: set[str], only: Callable[[str], bool]) -> list[Folded]:
    of = OfParameters(graph, names)
    groups: dict[tuple[str, ...], list[tuple[_Chain, Folded]]] = defaultdict(list)
    for node in graph:
        chain = _chain(of, node, names)
        one = None if chain is None else _read(of, chain, names)
        if chain is not None and one is not None and only(next(iter(one.makes))):
            groups[tuple(one.parts)].append((chain, one))
    found = []
    for parts, group in groups.items():
        inside = {
            node for chain, _ in group for node in (chain.product, *(node for node, _, _ in chain.steps))
        }
        alike = all(one == group[0][1] for _, one in group)
        if alike and all(of.takers(graph.initializers[name]) <= inside for name in parts):
            _replace(graph, [chain for chain, _ in group], group[0][1])
            found.append(group[0][1])
    without_idle(graph, [name for one in found for name in one.parts])
    return found


def _chain(of: OfParameters, node: Any, names: set[str]) -> _Chain | None:
    """A product with a kernel and what comes after it; None if it is something else, or nothing does."""
    if (
        node.op_type not in _PRODUCTS
        or of.owners(node.inputs[0]) is not None
        or not of.owners(node.inputs[1])
    ):
        return None
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    kernel, moves = origin(node.inputs[1])
    shape = static_shape(node.outputs[0])
    if not plain or node.attributes.get_int("transA", 0) or shape is None or kernel.name not in names:
        return None
    axis = 1 if node.op_type.startswith("Conv") else len(shape) - 1
    loops = _loops(node, static_shape(kernel), moves, shape[axis])
    if loops is None:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    chain = _Chain(node, kernel, loops, bias)
    value = node.outputs[0]
    while len(value.uses()) == 1 and not value.is_graph_output():
        ((user, place),) = value.uses()
        if user.op_type in _STEPS and _is_affine(of, user, place, axis, shape):
            chain.steps.append((user, place, axis))
        elif place or (moved := _moved(user, shape, axis)) is None:
            break
        else:
            shape, axis = moved
        value = user.outputs[0]
    return chain if chain.steps and (bias is None or of.owners(bias) is not None) else None


def _loops(
    node: Any, sizes: tuple[int, ...] | None, moves: Sequence[Any], features: int
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The axes that a kernel consists of, and how the feature that is made changes along each."""
    if sizes is None:
        return None
    whole = int(np.prod(sizes))
    numbers = phantom(0, sizes, [int(np.prod(sizes[axis + 1 :])) for axis in range(len(sizes))])
    for move in moves:
        (numbers,) = move(numbers)
    if not is_phantom(numbers) or numbers.ndim < 2:
        return None
    steps = [0] * numbers.ndim
    loops = list(zip(numbers.shape, numbers.strides, steps, strict=True))
    if node.op_type == "ConvTranspose":
        size, stride, _ = loops[0]
        groups = node.attributes.get_int("group", 1)
        inner = size // groups
        loops[:2] = [(groups, stride * inner, features // groups), (inner, stride, 0), (*loops[1][:2], 1)]
    else:
        turned = node.op_type == "Conv" or bool(node.attributes.get_int("transB", 0))
        axis = 0 if turned else numbers.ndim - 1
        if node.op_type == "MatMul" and numbers.ndim != 2:
            return None
        loops[axis] = (*loops[axis][:2], 1)
    loops = sorted((loop for loop in loops if loop[0] > 1), key=lambda loop: -loop[1])
    expected = whole
    for size, stride, _ in loops:
        expected //= size
        if stride != expected:
            return None
    if expected != 1:
        return None
    return tuple(size for size, _, _ in loops), tuple(step for _, _, step in loops)


def _is_affine(of: OfParameters, node: Any, place: int, axis: int, shape: tuple[int, ...]) -> bool:
    """Whether a node scales or shifts each feature of what it takes, by parameters or constants."""
    if any(of.owners(value) is None for k, value in enumerate(node.inputs) if k != place):
        return False
    if node.op_type == "BatchNormalization":
        return axis == 1 and not any(value.uses() for value in node.outputs[1:])
    sizes = static_shape(node.inputs[1 - place])
    if sizes is None or len(sizes) > len(shape) or (place and node.op_type in ("Sub", "Div")):
        return False
    sizes = (1,) * (len(shape) - len(sizes)) + sizes
    return all(size in (1, shape[axis]) if k == axis else size == 1 for k, size in enumerate(sizes))


def _moved(node: Any, shape: tuple[int, ...], axis: int) -> tuple[tuple[int, ...], int] | None:
    """The sizes and the axis of the features after a movement of all elements; None if there is no such axis then."""
    arguments = [None if value is None else constant(value) for value in node.inputs[1:]]
    move = movement(node.op_type, step_of(node).attributes, arguments)
    known = all(
        array is not None or given is None for array, given in zip(arguments, node.inputs[1:], strict=True)
    )
    if move is None or not known or len(node.outputs) != 1:
        return None
    (layout,) = move(phantom(0, shape, [int(k == axis) for k in range(len(shape))]))
    if not is_phantom(layout) or layout.size != int(np.prod(shape)):
        return None
    axes = [k for k, stride in enumerate(layout.strides) if stride]
    return (layout.shape, axes[0]) if len(axes) == 1 else None


def _read(of: OfParameters, chain: _Chain, names: set[str]) -> Folded | None:
    """What the parameters of a chain do; of a chain of more than one layer those steps that belong to the first."""
    while chain.steps:
        one = _as_layer(of, chain)
        if one is not None:
            return one
        chain.steps.pop()
    return None


def _as_layer(of: OfParameters, chain: _Chain) -> Folded | None:
    count = chain.features
    owned = frozenset[str]().union(*(of.owners(value) or () for value in chain.operands()))
    graph = chain.product.graph
    specs = {name: spec_of(graph.initializers[name]) for name in owned}
    if not owned or chain.kernel.name in owned or any(spec.size != count for spec in specs.values()):
        return None
    first, second = (_drawn(specs, seed) for seed in (0, 1))
    roles = _roles(of, chain, first)
    if roles is None or not {"gamma", "variance"} & roles.keys():
        return None
    epsilon = _epsilon(of, chain, first, roles)
    order = tuple(role for role in ROLES if role == "kernel" or role in roles)
    values = {role: second[name].reshape(-1).astype(np.float64) for role, name in roles.items()}
    for made, wanted in zip(_line(of, chain, second), affine(order, values, epsilon), strict=True):
        if not np.allclose(made, wanted, rtol=_CLOSE, atol=_CLOSE):
            return None
    if not 0 <= epsilon < 1:
        return None
    kernel = spec_of(chain.kernel)
    parts = {chain.kernel.name: kernel} | {roles[role]: specs[roles[role]] for role in order[1:]}
    makes = {f"{chain.kernel.name} folded": kernel}
    holder = next((roles[role] for role in ("bias", "beta", "mean") if role in roles), None)
    if holder is not None:
        makes[f"{holder} folded"] = Named(specs[holder].dtype, (count,))
    return Folded(parts, makes, order, epsilon, *chain.loops)


def _drawn(specs: Mapping[str, Named], seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.5, 1.5, specs[name].shape).astype("float32") for name in sorted(specs)}


def _line(of: OfParameters, chain: _Chain, drawn: Drawn) -> tuple[Array, Array]:
    """The factor and the offset of each feature."""

    def vector(value: Any) -> Array:
        return of.at(value, drawn).astype(np.float64).reshape(-1)

    factor, offset = np.ones(chain.features), np.zeros(chain.features)
    if chain.bias is not None:
        offset = offset + vector(chain.bias)
    for node, place, _ in chain.steps:
        if node.op_type == "BatchNormalization":
            gamma, beta, mean, variance = map(vector, node.inputs[1:])
            scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
            factor, offset = factor * scale, (offset - mean) * scale + beta
            continue
        operand = vector(node.inputs[1 - place])
        if node.op_type in ("Mul", "Div"):
            operand = operand if node.op_type == "Mul" else 1 / operand
            factor, offset = factor * operand, offset * operand
        else:
            offset = offset + operand if node.op_type == "Add" else offset - operand
    return factor, offset


def _roles(of: OfParameters, chain: _Chain, drawn: Drawn) -> dict[str, str] | None:
    """What each parameter does, by what changes when it is twice as large; None if one does something else."""
    factor, offset = _line(of, chain, drawn)
    roles: dict[str, str] = {}
    for name, value in drawn.items():
        other, moved = _line(of, chain, {**drawn, name: 2 * value})
        if np.allclose(other, factor, rtol=_CLOSE):
            change = (moved - offset) / value.reshape(-1)
            shifts = {"beta": np.ones_like(factor), "bias": factor, "mean": -factor}
            role = next(
                (r for r, by in shifts.items() if np.allclose(change, by, rtol=1e-3, atol=1e-3)), None
            )
        elif np.allclose(other, 2 * factor, rtol=_CLOSE):
            role = "gamma"
        else:
            role = "variance"
        if role is None or role in roles:
            return None
        roles[role] = name
    return roles


def _epsilon(of: OfParameters, chain: _Chain, drawn: Drawn, roles: Mapping[str, str]) -> float:
    """What is added to the variance: it is all there is where the variance is 0."""
    if "variance" not in roles:
        return 0.0
    name = roles["variance"]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor, _ = _line(of, chain, {**drawn, name: np.zeros_like(drawn[name])})
    gamma = drawn[roles["gamma"]].reshape(-1) if "gamma" in roles else 1.0
    return float(np.mean((gamma / factor) ** 2)) if np.all(np.isfinite(factor)) else 0.0


def _replace(graph: Any, chains: Sequence[_Chain], one: Folded) -> None:
    """One kernel and one bias in the place of the parts."""
    kernel, *biases = one.makes
    old = chains[0].kernel
    old.replace_all_uses_with(stand_in(graph, kernel, old.dtype, one.makes[kernel].shape))
    bias = stand_in(graph, biases[0], old.dtype, one.makes[biases[0]].shape) if biases else None
    for chain in chains:
        if chain.bias is not None:
            chain.product.resize_inputs(2)
        for node, place, axis in chain.steps:
            made, after = node.inputs[place], node.outputs[0]
            if node is chain.steps[-1][0] and bias is not None:
                outside = Outside(graph, node)
                spread = len(after.shape) - 1 - axis
                value = outside("Reshape", bias, outside.ints(-1, *[1] * spread)) if spread else bias
                made = outside("Add", made, value)
                made.shape, made.dtype = after.shape, after.dtype
            put_for(after, made)
            graph.remove(node, safe=True)
