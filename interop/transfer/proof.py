"""Proof that a plan is right: both graphs run with the same weights and must give the same, site by site.

Enters: a match. Leaves: a ``Proof``. The weights are drawn, so that every element is another and signals neither fade
nor grow: a trained model proves little where its biases are zero. What the plan does not fill is drawn too.

The proof must be able to fail: with one tensor of the target in another order the outputs must depart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.matching import Half, Match
from interop.transfer.models import Input
from interop.transfer.setting_aside import ATTRIBUTES, changed, changes
from interop.transfer.skeleton import Joint, Probe, Site

Array = NDArray[Any]

_NEAR = (
    0.05  # where an activation or an epsilon inside a layer has another form; a wrong mapping is off by more
)
TOLERANCE = 1e-4  # of an error relative to the root mean square; float32 through a hundred layers
_EXAMPLES = 2
_SHUFFLED = 12


@dataclass(frozen=True)
class Proof:
    """What running both graphs showed.

    Attributes:
        error: the largest error of an output, relative to its root mean square; None if no output is comparable.
        inner: the same over all sites whose results can be compared.
        compared: how many sites that are.
        differences: what the models do differently, by layer, where they depart.
        idle: targets that could be in another order without any effect: for these it proves nothing.
        aside: the largest error once what the models do differently is set aside; None if they agree, or nothing is.
        explained: whether that is small: the mapping is right, and the models differ in what is named.
    """

    error: float | None
    inner: float
    compared: int
    differences: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    aside: float | None = None
    explained: bool = False

    @property
    def passed(self) -> bool:
        """Whether everything that was compared agrees, and something was."""
        worst = max(self.inner, self.error or 0.0)
        return bool(worst <= TOLERANCE) and (self.compared > 0 or self.error is not None)


def prove(match: Match, *, seed: int = 0) -> Proof:
    """Run both graphs with drawn weights."""
    bench = _Bench(match, seed)
    errors = bench.errors()
    lasting = errors.lasting()
    inner = max((error for _, error in lasting), default=0.0)
    output = max(errors.outputs) if errors.outputs else None
    departed = next((site for site, error in lasting if not error <= TOLERANCE), None)
    differences: tuple[str, ...] = ()
    if departed is not None or (output is not None and not output <= TOLERANCE):
        differences = tuple(_differences(match, departed))
        aside, explained = _set_aside(match, seed, differences)
        return Proof(output, inner, len(errors.sites), differences, (), aside, explained)
    return Proof(output, inner, len(errors.sites), (), tuple(bench.idle()))


def _set_aside(match: Match, seed: int, differences: Sequence[str]) -> tuple[float | None, bool]:
    """The error with attributes of the source's nodes in the target's graph, and whether it is small enough."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    named = [line for line in differences if not line.startswith("the models depart")]
    if not named:
        return None, False
    inside = [line for line in named if line.split(" of ")[0] not in ATTRIBUTES]
    try:
        errors = _Bench(match, seed, changes(match.alignment.pairs)).errors()
    except (Fail, InvalidArgument, RuntimeException):
        return None, False  # the sizes of the two do not fit
    worst = max([error for _, error in errors.lasting()] + errors.outputs, default=math.inf)
    return worst, bool(worst <= (_NEAR if inside else TOLERANCE))


def departure(match: Match, *, seed: int = 0) -> int | None:
    """The place of the target where the two graphs first depart; None if they do not."""
    errors = _Bench(match, seed).errors()
    for site, error in errors.lasting():
        if not error <= TOLERANCE:
            return int(site.target.index)
    if any(not error <= TOLERANCE for error in errors.outputs):
        return len(match.target.skeleton.places)
    return None


@dataclass(frozen=True)
class _Errors:
    sites: list[tuple[Any, float]]
    outputs: list[float]

    def lasting(self) -> list[tuple[Any, float]]:
        """The sites without those that depart although later ones agree: parts of a sum, in another order."""
        agreed = [k for k, (_, error) in enumerate(self.sites) if error <= TOLERANCE]
        last = agreed[-1] if agreed else -1
        if any(not error <= TOLERANCE for error in self.outputs) and last == len(self.sites) - 1:
            return self.sites
        return [entry for k, entry in enumerate(self.sites) if k > last or entry[1] <= TOLERANCE]


class _Bench:
    """Both graphs, their parameters as inputs."""

    def __init__(
        self, match: Match, seed: int, wanted: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._match = match
        self._rng = np.random.default_rng(seed)
        self._pairs = [
            pair
            for pair in match.alignment.pairs
            if pair.source.probe is not None
            and pair.target.probe is not None
            and pair.source.probe.places.size == pair.target.probe.places.size
        ]
        outputs = match.source.skeleton.outputs, match.target.skeleton.outputs
        self._outputs = [(outputs[0][i], outputs[1][j]) for i, j in paired_outputs(match)]
        self._source = _Runner(
            match.source, [p.source.probe for p in self._pairs] + [a for a, _ in self._outputs]
        )
        self._target = _Runner(
            match.target, [p.target.probe for p in self._pairs] + [b for _, b in self._outputs], wanted or {}
        )
        drawn = _drawn(match.source, self._rng)
        self._weights = _drawn(match.target, self._rng)
        self._weights |= match.plan.convert(drawn, {n: self._weights[n] for n in match.plan.targets})
        self._feeds = [_feeds(match, self._rng) for _ in range(_EXAMPLES)]
        self._expected = [self._source.run(drawn, feeds[0]) for feeds in self._feeds]

    def errors(self, weights: Mapping[str, Array] | None = None) -> _Errors:
        """How far the target is off, in the order of the target."""
        count = len(self._pairs)
        worst = np.full(count + len(self._outputs), -1.0)
        for feeds, expected in zip(self._feeds, self._expected, strict=True):
            made = self._target.run(weights or self._weights, feeds[1])
            for k in range(len(worst)):
                one, two = expected[k], made[k]
                if one is not None and two is not None:
                    worst[k] = np.maximum(worst[k], _relative(one, two))
        sites = [
            (pair, error)
            for pair, error in zip(self._pairs, worst[:count].tolist(), strict=True)
            if not error < 0
        ]
        return _Errors(sites, [error for error in worst[count:].tolist() if not error < 0])

    def idle(self) -> list[str]:
        """Some of the targets, shuffled one by one: those that make no difference."""
        names = [entry.target for entry in self._match.plan.entries]
        chosen = names[:: max(1, len(names) // _SHUFFLED)]
        found = []
        for name in chosen:
            value = self._weights[name]
            if (
                value.size < 2
                or np.all(value == value.flat[0])
                or name not in self._match.target.numbering.shapes
            ):
                continue
            shuffled = np.roll(value.reshape(-1), 1).reshape(value.shape)
            errors = self.errors({**self._weights, name: shuffled})
            seen = [error for _, error in errors.sites] + errors.outputs
            if all(error <= TOLERANCE for error in seen):
                found.append(name)
        return found


def paired_outputs(match: Match) -> list[tuple[int, int]]:
    """Positions of outputs that are the same: of one size, and made by the same layers or in the same position."""
    if match.plan.missing:
        return []
    source, target = match.source.skeleton, match.target.skeleton
    partner: dict[Any, Any] = {pair.target: pair.source for pair in match.alignment.pairs}
    ends = [[p for p in side.places if p.kind == "output"] for side in (source, target)]
    if [len(source.outputs), len(target.outputs)] != [len(side) for side in ends]:
        return [(k, k) for k in range(min(len(source.outputs), len(target.outputs)))]
    made: list[tuple[int, int]] = []
    for j, (end, probe) in enumerate(zip(ends[1], target.outputs, strict=True)):
        before = {partner.get(place) for place in end.feeds}
        free = [
            i
            for i, other in enumerate(source.outputs)
            if other.places.size == probe.places.size and all(i != taken for taken, _ in made)
        ]
        alike = [i for i in free if set(ends[0][i].feeds) == before]
        if alike or j in free:
            made.append((alike[0] if alike else j, j))
    return made


class _Runner:
    """A graph on ONNX Runtime that takes its parameters as inputs."""

    def __init__(
        self,
        half: Half,
        probes: Sequence[Probe | None],
        amended: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        import onnx_ir as ir
        import onnxruntime

        self._probes = [probe for probe in probes if probe is not None]
        model = half.graph.clone()
        graph = model.graph
        if amended:
            changed(graph, amended)
            for value in (value for node in graph for value in node.outputs):
                value.shape = None
        self._parameters = []
        for name, value in list(graph.initializers.items()):
            if name in half.numbering.shapes:
                del graph.initializers[name]
                value.shape = ir.Shape(value.const_value.shape)
                value.dtype = value.const_value.dtype
                value.const_value = None
                graph.inputs.append(value)
                self._parameters.append(name)
        self._inputs = [value.name for value in half.graph.graph.inputs]
        values = {value.name: value for node in graph for value in node.outputs}
        present = {value.name for value in graph.outputs}
        wanted = dict.fromkeys(probe.value for probe in self._probes)
        graph.outputs.extend(values[name] for name in wanted if name not in present and name in values)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._wanted = list(wanted)

    def run(self, weights: Mapping[str, Array], inputs: Sequence[Array]) -> list[Array | None]:
        """The probes' values in canonical order; None where one has another size than it had."""
        feed = {name: weights[name] for name in self._parameters} | dict(
            zip(self._inputs, inputs, strict=True)
        )
        made = dict(zip(self._wanted, self._session.run(self._wanted, feed), strict=True))
        return [
            probe.canonical(made[probe.value]) if made[probe.value].size == probe.places.size else None
            for probe in self._probes
        ]


def _drawn(half: Half, rng: np.random.Generator) -> dict[str, Array]:
    """Weights that keep signals alive; what has no role keeps the values it has."""
    roles: dict[str, Site] = {}
    for site in half.skeleton.sites:
        for term in site.terms:
            for name in half.numbering.owners(term):
                roles.setdefault(name, site)
    made = {}
    for name, spec in half.model.tensors.items():
        if name not in roles or "float" not in spec.dtype:
            made[name] = half.model.read(name)
            continue
        noise = rng.standard_normal(spec.shape, "float32")
        made[name] = _scaled(noise, roles[name]).astype(spec.dtype)
    return made


def _scaled(noise: Array, site: Site) -> Array:
    if site.kind in ("mul", "div"):
        return 1 + 0.2 * noise
    if site.kind == "rsqrt":
        return np.asarray(np.exp(0.2 * noise))
    if len(site.shape) < 2:
        return 0.3 * noise
    if site.kind == "table":
        return noise
    inputs = site.shape[0] if site.kind == "linear" else math.prod(site.shape[1:])
    return noise * np.float32(1.3 / math.sqrt(max(inputs, 1)))


def feeds_of(match: Match, seed: int) -> tuple[list[Array], list[Array]]:
    """Inputs for both models that are the same."""
    return _feeds(match, np.random.default_rng(seed))


def relative(expected: Array, made: Array) -> float:
    """The largest error, relative to the root mean square of what is expected."""
    return _relative(expected, made)


def _feeds(match: Match, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """The same inputs for both models, each in its own order of axes."""
    limits = [_vocabulary(half) for half in (match.source, match.target)]
    source: list[Array] = []
    target: list[Array] = []
    meeting = match.meeting
    commons: dict[int, Array] = {}
    for index, spec in enumerate(meeting.source):
        commons[index] = _common(spec, meeting.orders[0][index], limits, index, rng)
        source.append(_own(commons[index], spec, meeting.orders[0][index]))
    for index, spec in enumerate(meeting.target):
        partner, order = meeting.partners[index], meeting.orders[1][index]
        if partner not in commons:
            commons[partner] = _common(spec, order, limits, partner, rng)
        target.append(_own(commons[partner], spec, order))
    return source, target


def _common(
    spec: Input,
    order: Sequence[int],
    limits: Sequence[Mapping[int, int]],
    index: int,
    rng: np.random.Generator,
) -> Array:
    """Values of an input, in the order of axes that both models share."""
    bounds = [limit[index] for limit in limits if index in limit]
    return _values(spec, [spec.sizes[axis] for axis in order], min(bounds, default=0), rng)


def _own(common: Array, spec: Input, order: Sequence[int]) -> Array:
    own = np.transpose(common, np.argsort(order))
    return np.ascontiguousarray(own.reshape(spec.sizes)).astype(spec.dtype)


def _values(spec: Input, sizes: Sequence[int], limit: int, rng: np.random.Generator) -> Array:
    if "float" in spec.dtype:
        return rng.standard_normal(sizes, "float32")
    return rng.integers(0, limit, sizes) if limit else np.ones(sizes, "int64")


def _vocabulary(half: Half) -> dict[int, int]:
    """For each input that is looked up in tables, how many rows the smallest has."""
    found: dict[int, int] = {}
    for site in half.skeleton.sites:
        if site.kind == "table":
            for place in site.feeds:
                if isinstance(place, Joint) and place.kind.startswith("input "):
                    index = int(place.kind.split()[1])
                    found[index] = min(found.get(index, site.shape[0]), site.shape[0])
    return found


def _relative(expected: Array, made: Array) -> float:
    if not np.issubdtype(expected.dtype, np.floating):
        return float(not np.array_equal(expected, made))
    scale = math.sqrt(float(np.mean(np.square(expected, dtype="float64"))))
    error = float(np.max(np.abs(expected.astype("float64") - made), initial=0.0))
    return error / scale if scale else float(error > 0)


def _differences(match: Match, departed: Any) -> list[str]:
    """Attributes and activations in which paired sites differ, those where the graphs depart first."""
    partner = {pair.target: pair.source for pair in match.alignment.pairs}
    found: list[tuple[int, str]] = []
    for pair in match.alignment.pairs:
        where = f"{_named(match.target, pair.target)} (source: {_named(match.source, pair.source)})"
        for key in sorted((set(pair.source.facts) | set(pair.target.facts)) - {"node"}):
            theirs, ours = pair.source.facts.get(key), pair.target.facts.get(key)
            straight = key == "strides" and {*(theirs or (1,)), *(ours or (1,))} == {1}
            if theirs != ours and not straight:
                found.append((pair.target.index, f"{key} of {where}: source {theirs}, target {ours}"))
        for before, labels in pair.target.feeds.items():
            theirs_before = partner.get(before) if isinstance(before, Site) else None
            known = pair.source.feeds.get(theirs_before) if theirs_before is not None else None
            if known is not None and known != labels:
                said = [", ".join(sorted(some)) or "nothing" for some in (known - labels, labels - known)]
                found.append((pair.target.index, f"before {where}: source {said[0]}, target {said[1]}"))
    found.extend(_outputs_apart(match, partner))
    lines = list(dict.fromkeys(text for _, text in sorted(found)))
    if departed is not None:
        lines.insert(0, f"the models depart at {_named(match.target, departed.target)}")
    elif not lines:
        lines.append("the models depart after the last layer with weights")
    return lines


def _outputs_apart(match: Match, partner: Mapping[Any, Any]) -> list[tuple[int, str]]:
    sides = [
        [place for place in half.skeleton.places if place.kind == "output"]
        for half in (match.source, match.target)
    ]
    found = []
    for index, (one, two) in enumerate(zip(*sides, strict=False)):
        for before, labels in two.feeds.items():
            known = one.feeds.get(partner.get(before))
            if known is not None and known != labels:
                said = [", ".join(sorted(some)) or "nothing" for some in (known - labels, labels - known)]
                found.append((two.index, f"before output {index}: source {said[0]}, target {said[1]}"))
    return found


def _named(half: Half, site: Site) -> str:
    """A site by the parameters it uses."""
    return " + ".join(dict.fromkeys(name for term in site.terms for name in half.numbering.owners(term)))
