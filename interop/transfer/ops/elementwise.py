"""Operators on each element, and Softmax: the layout stays, and what is not linear is a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interop.transfer.nodes import Step
from interop.transfer.reading import Reader, reads
from interop.transfer.values import REDUCED, Constant, Flow, Tensor, Term, Weight

# What tells activations apart. Two forms of one function have the same labels (Gelu, and Erf with arithmetic).
_SAID = {
    "Celu": "Celu",
    "Clip": "Clip",
    "Cos": "Cos",
    "Elu": "Elu",
    "Erf": "Erf",
    "HardSigmoid": "HardSigmoid",
    "HardSwish": "HardSigmoid",
    "LeakyRelu": "LeakyRelu",
    "Max": "Max",
    "Min": "Min",
    "Mish": "Softplus",
    "PRelu": "PRelu",
    "Relu": "Relu",
    "Selu": "Selu",
    "Sigmoid": "Sigmoid",
    "Sin": "Sin",
    "Softplus": "Softplus",
    "Softsign": "Softsign",
    "Swish": "Sigmoid",
    "Tanh": "Tanh",
    "ThresholdedRelu": "ThresholdedRelu",
}
# Attributes that tell forms of one activation apart, and their values where a node has none.
_FORMS: dict[str, dict[str, float]] = {
    "Celu": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "HardSwish": {"alpha": 1 / 6, "beta": 0.5},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
}
_SILENT = (
    "Abs",
    "Ceil",
    "Exp",
    "Floor",
    "IsInf",
    "IsNaN",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Round",
    "Sign",
    "Sqrt",
)
_BOUNDS = ("Clip", "Max")  # that a deviation has, lest something is divided by zero
_LARGEST_EPSILON = 0.05


@reads(*_SAID, *_SILENT)
def unary(reader: Reader, step: Step, x: Tensor, *others: Tensor | None) -> list[Tensor]:
    """One tensor in, one out; Max, Min, Clip and PRelu may take more."""
    more = [tensor for tensor in others if isinstance(tensor, Weight | Flow)]
    if more:
        return pairwise(reader, step, x, *more)
    if isinstance(x, Weight):
        role = "rsqrt" if step.op_type in ("Sqrt", "Reciprocal") else step.op_type
        kept = (REDUCED, "rsqrt") if step.op_type in _BOUNDS else (REDUCED,)
        terms = (term if term.role in kept else replace(term, role=role) for term in x.terms)
        return [Weight(tuple(terms), x.shape)]
    if isinstance(x, Constant):
        return pairwise(reader, step, x, *[tensor for tensor in others if tensor is not None])
    label = _SAID.get(step.op_type)
    if label is None:
        return [replace(x, run=None)]
    form = [f"{k}={step.attributes.get(k, v):.4g}" for k, v in _FORMS.get(step.op_type, {}).items()]
    return [x.labelled(" ".join([label, *form]))]


@reads("Gelu")
def gelu(reader: Reader, step: Step, x: Flow) -> list[Tensor]:
    """Exact, by the error function, or by a hyperbolic tangent."""
    return [x.labelled("Tanh" if step.attributes.get("approximate", "none") == "tanh" else "Erf")]


@reads("Softmax", "LogSoftmax")
def softmax(reader: Reader, step: Step, x: Flow) -> list[Tensor]:
    """Of a product of two flows, the one whose rows are summed over has the keys."""
    reader.uses.record(x)
    told_keys(x, step.attributes.get("axis", -1))
    return [replace(x.labelled("Softmax"), frame=None)]


def told_keys(x: Flow, axis: int) -> None:
    """Label the operands of a product that is normalised along an axis."""
    if x.pairing is None or x.shape[axis] < 2:
        return
    line = np.moveaxis(x.places(), axis, -1).reshape(-1, x.shape[axis])[0]
    for feeds, operand in zip(x.pairing.feeds, x.pairing.operands, strict=True):
        label = "keys" if operand[line[0]] != operand[line[1]] else "queries"
        for place in feeds:
            x.pairing.place.feeds[place] |= {label}


@reads(
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Where",
    "Mod",
    "And",
    "Or",
    "Xor",
    "Equal",
    "Greater",
    "GreaterOrEqual",
)
def pairwise(reader: Reader, step: Step, *inputs: Tensor) -> list[Tensor]:
    """Two tensors or more, broadcast against each other."""
    shape = np.broadcast_shapes(*(tensor.shape for tensor in inputs))
    flows = [tensor for tensor in inputs if isinstance(tensor, Flow)]
    weights = [tensor for tensor in inputs if isinstance(tensor, Weight)]
    if not flows:
        return [_combined(step, inputs, shape)]
    if len(flows) > 1:
        made = _met(reader, flows, shape)
    elif weights or len(inputs) == 1:
        made = flows[0]
    else:
        return [_with_constants(step, flows[0], inputs, shape)]
    for weight in weights:
        made = reader.affine(made, weight, shape, _role(step, inputs, weight))
    if weights:
        reader.show(step, made)
    label = _SAID.get(step.op_type)
    return [made.labelled(label) if label is not None else made]


@reads("Less", "LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitShift", "Sum", "Mean")
def compared(reader: Reader, step: Step, *inputs: Tensor) -> list[Tensor]:
    """As the others."""
    return pairwise(reader, step, *inputs)


def _role(step: Step, inputs: tuple[Tensor, ...], weight: Weight) -> str:
    second = len(inputs) > 1 and inputs[1] is weight
    found = {"Add": "add", "Sub": "sub" if second else "add", "Mul": "mul", "Div": "div" if second else "mul"}
    return found.get(step.op_type, step.op_type)


def _combined(step: Step, inputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> Weight:
    """Parameters combined with each other and with constants."""
    weights = [tensor for tensor in inputs if isinstance(tensor, Weight)]
    epsilon = _epsilon(step, inputs)
    facts = {} if epsilon is None else {"epsilon": f"{epsilon:.6g}", "node": step.outputs[0]}
    terms: list[Term] = []
    for weight in weights:
        for term in weight.terms:
            role = term.role
            if step.op_type == "Pow" and role != REDUCED:
                role = "rsqrt"
            elif len(weights) > 1 and not role and step.op_type != "Add":
                role = _role(step, inputs, weight)
            terms.append(Term(np.broadcast_to(term.numbers, shape), role, {**term.facts, **facts}))
    return Weight(tuple(terms), shape)


def _with_constants(step: Step, flow: Flow, inputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> Flow:
    """A flow and constants: nothing to match, but an epsilon is a fact."""
    made = flow if flow.shape == shape else replace(flow, shape=shape, layout=None)
    if (epsilon := _epsilon(step, inputs)) is not None:
        return made.labelled(f"epsilon={epsilon:.6g}")
    return replace(made, run=None)


def _epsilon(step: Step, inputs: tuple[Tensor, ...]) -> float | None:
    """The small number that is added."""
    arrays = [tensor.array for tensor in inputs if isinstance(tensor, Constant)]
    if step.op_type != "Add" or not arrays or arrays[0].size != 1 or arrays[0].dtype.kind != "f":
        return None
    value = float(arrays[0].reshape(()))
    return value if 0 < value < _LARGEST_EPSILON else None


def _met(reader: Reader, flows: list[Flow], shape: tuple[int, ...]) -> Flow:
    """Flows that meet element by element; the layout is that of one that has every element."""
    feeds = reader.joined([flow.feeds for flow in flows])
    first, *others = flows
    if first.frame is not None and all(_same_features(first, flow) for flow in others):
        return Flow(shape, first.layout, feeds, first.frame, first.partial)
    for flow in flows:
        reader.uses.record(flow)
    whole = [flow for flow in flows if flow.shape == shape]
    if whole:
        return Flow(shape, whole[0].layout, feeds, pairing=whole[0].pairing)
    first, *rest = sorted(flows, key=lambda flow: -int(np.prod(flow.shape)))
    places = np.broadcast_to(first.places(), shape)
    for flow in rest:
        places = places * (int(flow.places().max(initial=0)) + 1) + np.broadcast_to(flow.places(), shape)
    _, ranks = np.unique(places, return_inverse=True)
    return Flow(shape, np.asarray(ranks, np.int64).reshape(shape), feeds)


def _same_features(one: Flow, other: Flow) -> bool:
    """Whether two flows have the same features of one product, each in the same places: none meets another."""
    return (
        one.frame is other.frame
        and one.layout is not None
        and other.layout is not None
        and np.array_equal(one.layout, other.layout)
    )
