"""Both graphs run with the same drawn weights, the source first and then the target.

Enters: a match. Leaves: how far each pair of sites is apart, and each pair of outputs.

Invariants: a weight is drawn from its name's place alone, so it is the same however often it is read, and never two
elements are; the weights of one side are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import ParityError
from interop.transfer.alignment import Pair
from interop.transfer.matching import Half, Match
from interop.transfer.models import Input
from interop.transfer.setting_aside import Aside, changed
from interop.transfer.skeleton import Joint, Place, Probe, Site

Array = NDArray[Any]

TOLERANCE = 1e-4  # of an error relative to the root mean square; float32 through a hundred layers
_EXAMPLES = 2
_AS_IT_IS = Aside()


@dataclass(frozen=True)
class Errors:
    """How far the target is off, relative to what the source gives.

    Attributes:
        sites: pairs of sites whose results can be compared, in the order of the target.
        outputs: of the outputs that can be compared.
        ends: the places of those in the target, as far as they are known.
        cuts: sites of the target that took what the source's take.
    """

    sites: list[tuple[Pair, float]]
    outputs: list[float]
    ends: Sequence[Place | None] = ()
    cuts: frozenset[Place] = frozenset()

    @property
    def worst(self) -> float:
        """The largest that counts; infinite if nothing was compared."""
        return max([error for _, error in self.lasting()] + self.outputs, default=math.inf)

    def lasting(self) -> list[tuple[Pair, float]]:
        """The sites without those that depart although what comes of them agrees: parts of a sum, in another order."""
        agreed: list[Place] = [pair.target for pair, error in self.sites if error <= TOLERANCE]
        ends = zip(self.ends, self.outputs, strict=False)
        agreed += [end for end, error in ends if end is not None and error <= TOLERANCE]
        before: set[Place] = set()
        while agreed:
            place = agreed.pop()
            if place not in self.cuts:
                agreed += [one for one in place.feeds if one not in before]
                before.update(place.feeds)
        return [
            (pair, error) for pair, error in self.sites if error <= TOLERANCE or pair.target not in before
        ]


def relative(expected: Array, made: Array) -> float:
    """The largest error, relative to the root mean square of what is expected."""
    if not np.issubdtype(expected.dtype, np.floating):
        return float(not np.array_equal(expected, made))
    error, scale = _error_and_scale(expected, made)
    return _ratio(float(np.max(error, initial=0.0)), scale)


def deviation(expected: Array, made: Array) -> float:
    """The root mean square of the error, relative to that of what is expected."""
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected != made))
    error, scale = _error_and_scale(expected, made)
    return _ratio(math.sqrt(float(np.mean(np.square(error)))), scale)


def _error_and_scale(expected: Array, made: Array) -> tuple[Array, float]:
    """The error of each element, and the root mean square of what is expected; infinities are the same or they are not.

    What is no number agrees with nothing, not with another either: nothing is known of it.
    """
    wanted = expected.astype("float64")
    finite = np.isfinite(wanted)
    error = np.abs(np.subtract(wanted, made, out=np.zeros_like(wanted), where=wanted != made))
    scale = math.sqrt(float(np.mean(np.square(wanted[finite])))) if finite.any() else 1.0
    return np.nan_to_num(error, nan=math.inf, posinf=math.inf), scale


def _ratio(error: float, scale: float) -> float:
    return error / scale if scale else float(error > 0)


class Expected:
    """What the source's graph gives with drawn weights: of every site and output, for each example.

    Attributes:
        seed: of the weights and inputs.
        entering: for each example, what enters the sites of the pairs in ``cuts``.
    """

    def __init__(self, match: Match, seed: int, cuts: Sequence[Pair] = ()) -> None:
        half = match.source
        self.seed = seed
        probes: dict[Any, Probe] = {
            site: site.probe for site in half.skeleton.sites if site.probe is not None
        }
        probes |= dict(enumerate(half.skeleton.outputs))
        entering = [pair.source.entering for pair in cuts if pair.source.entering is not None]
        runner = _Runner(half, [*probes.values(), *entering])
        drawn = _Drawn(half, seed)
        weights = {name: drawn.read(name) for name in runner.parameters}
        self._made: list[dict[Any, Array | None]] = []
        self.entering: list[list[Array]] = []
        for feeds in examples(match, seed):
            values = runner.run(weights, feeds[0])
            self._made.append(
                {
                    key: probe.canonical(value) if value.size == probe.places.size else None
                    for (key, probe), value in zip(probes.items(), values, strict=False)
                }
            )
            self.entering.append(
                [probe.inner(value) for probe, value in zip(entering, values[len(probes) :], strict=True)]
            )

    def of(self, key: Site | int) -> list[Array | None]:
        """The canonical elements of a site, or of an output by its position, for each example."""
        return [made[key] for made in self._made]


class Trial:
    """The target's graph with the weights that a plan makes of those drawn for the source.

    Args:
        match: the two models and the plan.
        expected: of the source; it does not depend on the plan.
        wanted: what the target's graph is to do as the source's; `expected` must tell what enters its cuts.
    """

    def __init__(
        self,
        match: Match,
        expected: Expected,
        wanted: Aside = _AS_IT_IS,
    ) -> None:
        self._pairs = [
            pair
            for pair in match.alignment.pairs
            if pair.source.probe is not None
            and pair.target.probe is not None
            and pair.source.probe.places.size == pair.target.probe.places.size
        ]
        outputs = [(i, j) for i, j in paired_outputs(match) if j not in wanted.outputs]
        ends = match.target.skeleton.ends
        self._ends = [ends[j] if ends else None for _, j in outputs]
        self._cuts = frozenset(pair.target for pair in wanted.cuts)
        self._expected = [expected.of(pair.source) for pair in self._pairs]
        self._expected += [expected.of(i) for i, _ in outputs]
        self._probes = [pair.target.probe for pair in self._pairs if pair.target.probe is not None]
        self._probes += [match.target.skeleton.outputs[j] for _, j in outputs]
        self._runner = _Runner(match.target, self._probes, wanted)
        entering = [pair.target.entering for pair in wanted.cuts if pair.target.entering is not None]
        self._feeds = [
            [*feeds[1], *(probe.placed(value) for probe, value in zip(entering, values, strict=True))]
            for feeds, values in zip(examples(match, expected.seed), expected.entering, strict=True)
        ]
        self.weights = _converted(match, expected.seed, self._runner.parameters)

    def errors(
        self,
        replaced: Mapping[str, Array] = MappingProxyType({}),
        measure: Callable[[Array, Array], float] = relative,
    ) -> Errors:
        """How far the target is off.

        Args:
            replaced: other values of some of its parameters.
            measure: how far two arrays are apart.
        """
        worst = np.full(len(self._expected), -1.0)
        for example, feeds in enumerate(self._feeds):
            made = self._runner.run({**self.weights, **replaced}, feeds)
            for k, (expected, probe, value) in enumerate(
                zip(self._expected, self._probes, made, strict=True)
            ):
                one = expected[example]
                if one is not None and value.size == probe.places.size:
                    worst[k] = np.maximum(worst[k], measure(one, probe.canonical(value)))
        count = len(self._pairs)
        sites = zip(self._pairs, worst[:count].tolist(), strict=True)
        return Errors(
            [(pair, error) for pair, error in sites if not error < 0],
            *_compared(worst[count:].tolist(), self._ends),
            self._cuts,
        )


def _compared(
    errors: Sequence[float], ends: Sequence[Place | None]
) -> tuple[list[float], list[Place | None]]:
    kept = [k for k, error in enumerate(errors) if not error < 0]
    return [errors[k] for k in kept], [ends[k] for k in kept]


@dataclass(frozen=True)
class Departure:
    """Where the target first departs from the source, as the index of its place, and how far."""

    index: int
    error: float


def departure(match: Match, expected: Expected) -> Departure | None:
    """Run both graphs; None if they do not depart."""
    errors = Trial(match, expected).errors(measure=deviation)
    for pair, error in errors.lasting():
        if not error <= TOLERANCE:
            return Departure(pair.target.index, error)
    worst = max(errors.outputs, default=0.0)
    return None if worst <= TOLERANCE else Departure(len(match.target.skeleton.places), worst)


def paired_outputs(match: Match) -> list[tuple[int, int]]:
    """Positions of outputs that are the same: of one size, and made by the same layers or in the same position."""
    if match.plan.missing:
        return []
    source, target = match.source.skeleton, match.target.skeleton
    partner: dict[Any, Any] = {pair.target: pair.source for pair in match.alignment.pairs}
    ends = source.ends, target.ends
    if not ends[0] or not ends[1]:
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


class DoesNotRun(ParityError):
    """ONNX Runtime does not run a graph on the inputs that were drawn."""


@contextmanager
def _named_errors(label: str) -> Iterator[None]:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    kinds = (runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.RuntimeException)
    try:
        yield
    except (*kinds, runtime.NotImplemented) as error:
        raise DoesNotRun(
            f"the graph of {label} does not run with drawn weights and inputs, so nothing is proven: {error!s:.300}. "
            "verify=False transfers without proof, if structure alone tells the parameters apart"
        ) from error


class _Runner:
    """A graph on ONNX Runtime that takes its parameters as inputs.

    Attributes:
        parameters: those that it takes.
    """

    def __init__(
        self,
        half: Half,
        probes: Sequence[Probe],
        wanted: Aside = _AS_IT_IS,
    ) -> None:
        import onnx_ir as ir
        import onnxruntime

        self._probes = probes
        model = half.graph.clone()
        graph = model.graph
        self._inputs = [value.name for value in graph.inputs]
        if wanted != _AS_IT_IS:
            layers = {site.node for site in half.skeleton.sites}
            self._inputs += [value.name for value in changed(graph, wanted, layers)]
            for value in (value for node in graph for value in node.outputs):
                value.shape = None
        self.parameters: list[str] = []
        for name, value in list(graph.initializers.items()):
            if name in half.numbering.shapes:
                del graph.initializers[name]
                value.shape = ir.Shape(value.const_value.shape)
                value.dtype = value.const_value.dtype
                value.const_value = None
                graph.inputs.append(value)
                self.parameters.append(name)
        values = {value.name: value for node in graph for value in node.outputs}
        present = {value.name for value in graph.outputs}
        self._shown = list(dict.fromkeys(probe.value for probe in probes))
        graph.outputs.extend(values[name] for name in self._shown if name not in present and name in values)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # they keep what was used once
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._label = half.model.label
        written = ir.to_proto(model).SerializeToString()
        with _named_errors(self._label):
            self._session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])

    def run(self, weights: Mapping[str, Array], inputs: Sequence[Array]) -> list[Array]:
        """The values that the probes show; some may have another size than they had."""
        feed = {name: weights[name] for name in self.parameters} | dict(
            zip(self._inputs, inputs, strict=True)
        )
        shown = [name for name in self._shown if name not in feed]
        with _named_errors(self._label):
            made = feed | dict(zip(shown, self._session.run(shown, feed), strict=True))
        return [made[probe.value] for probe in self._probes]


class _Drawn:
    """Weights of the source that keep signals alive, drawn when they are read; what has no role keeps its values."""

    def __init__(self, half: Half, seed: int) -> None:
        self._model, self._seed = half.model, seed
        self._place = {name: k for k, name in enumerate(half.model.tensors)}
        self._roles: dict[str, Site] = {}
        for site in half.skeleton.sites:
            for term in site.terms:
                for name in half.numbering.owners(term):
                    self._roles.setdefault(name, site)

    def read(self, name: str) -> Array:
        """The value of a parameter, the same each time."""
        spec = self._model.tensors[name]
        if name not in self._roles or "float" not in spec.dtype:
            return self._model.read(name)
        rng = np.random.default_rng((self._seed, self._place[name]))
        noise = np.asarray(rng.standard_normal(spec.shape, "float32"))
        return np.asarray(_scaled(noise, self._roles[name]), spec.dtype)


def _converted(match: Match, seed: int, wanted: Sequence[str]) -> dict[str, Array]:
    """The target's parameters by the plan; what it does not fill is what the target has."""
    held, drawn = match.target.model, _Drawn(match.source, seed)
    made = match.plan.made(match.plan.sources, _last_kept(drawn.read), held.tensors, held.read)
    entries = sorted(match.plan.entries, key=lambda entry: entry.sources)  # what one source becomes, together
    weights = {entry.target: made[entry.target].read() for entry in entries if entry.target in wanted}
    return {name: weights[name] if name in weights else held.read(name) for name in wanted}


def _last_kept(read: Callable[[str], Array]) -> Callable[[str], Array]:
    """The same, without reading a tensor again that was the last."""
    last: dict[str, Array] = {}

    def kept(name: str) -> Array:
        if name not in last:
            last.clear()
            last[name] = read(name)
        return last[name]

    return kept


def _scaled(noise: Array, site: Site) -> Array:
    if site.kind in ("mul", "div"):
        return 1 + 0.2 * noise
    if site.kind in ("rsqrt", "Log"):  # of what is positive
        return np.asarray(np.exp(0.2 * noise))
    if len(site.shape) < 2:
        return 0.3 * noise
    if site.kind == "table":
        return noise
    inputs = site.shape[0] if site.kind == "linear" else math.prod(site.shape[1:])
    noise *= np.float32(1.3 / math.sqrt(max(inputs, 1)))
    return noise


def examples(match: Match, seed: int, count: int = _EXAMPLES) -> list[tuple[list[Array], list[Array]]]:
    """Inputs for both models that are the same, each in its own order of axes."""
    rng = np.random.default_rng(seed)
    return [_feeds(match, rng) for _ in range(count)]


def _feeds(match: Match, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """One example."""
    limits = [_vocabulary(half) for half in (match.source, match.target)]
    source: list[Array] = []
    target: list[Array] = []
    meeting = match.meeting
    tokens = dict(match.source.tokens)
    for index, some in match.target.tokens.items():
        partner = meeting.partners[index]
        tokens[partner] = np.intersect1d(tokens.get(partner, some), some)
    commons: dict[int, Array] = {}
    for index, spec in enumerate(meeting.source):
        commons[index] = _common(spec, meeting.orders[0][index], limits, tokens, index, rng)
        source.append(_own(commons[index], spec, meeting.orders[0][index]))
    for index, spec in enumerate(meeting.target):
        partner, order = meeting.partners[index], meeting.orders[1][index]
        if partner not in commons:
            commons[partner] = _common(spec, order, limits, tokens, partner, rng)
        target.append(_own(commons[partner], spec, order))
    return source, target


def _common(
    spec: Input,
    order: Sequence[int],
    limits: Sequence[Mapping[int, int]],
    tokens: Mapping[int, NDArray[np.int64]],
    index: int,
    rng: np.random.Generator,
) -> Array:
    """Values of an input, in the order of axes that both models share."""
    bounds = [limit[index] for limit in limits if index in limit]
    sizes = [spec.sizes[axis] for axis in order]
    some = tokens.get(index, np.empty(0, np.int64))
    some = some[some < min(bounds, default=0)]
    return rng.choice(some, sizes) if some.size else _values(spec, sizes, min(bounds, default=0), rng)


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
            for place, labels in site.feeds.items():
                if isinstance(place, Joint) and place.kind.startswith("input ") and not labels:
                    index = int(place.kind.split()[1])
                    found[index] = min(found.get(index, site.shape[0]), site.shape[0])
    return found
