"""``match``: from two models to a plan.

Both graphs become skeletons, the skeletons are aligned, and each pair of sites says which elements of the target are
which of the source. Where structure leaves a choice, the numbers settle it: both graphs are run with the same drawn
weights, and what departs is chosen anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import CaptureError, WeightsError
from interop.transfer.alignment import Alignment, Choices, Pair, align
from interop.transfer.arithmetic import arranged
from interop.transfer.composites import FINDERS, Composite, apart
from interop.transfer.elements import Numbering, numbered
from interop.transfer.inputs import Meeting, meetings
from interop.transfer.joins import orders_of_joins, same_outputs
from interop.transfer.leftover import added_alone, parts_left, problem
from interop.transfer.loops import recurrent_loops
from interop.transfer.models import Model, open_model
from interop.transfer.named import Named, some
from interop.transfer.names import paired
from interop.transfer.otherwise import WAYS, composed, with_numbers
from interop.transfer.pieces import Piece, pieces_of
from interop.transfer.plan import Entry, Plan, Problem
from interop.transfer.precision import in_single
from interop.transfer.reading import read_skeleton
from interop.transfer.rows import with_other_rows
from interop.transfer.rules import Rules, ruled
from interop.transfer.skeleton import Site, Skeleton

_TRIALS = 48  # at least, to make choices that structure leaves open
_TWICE = 16  # choices that are tried together with another
_ELEMENTS = 2**25  # that the models of all trials have together, if there are more
_SEED = 0


@dataclass(frozen=True)
class Half:
    """One model as it is matched: its graph, and what was read of it.

    Attributes:
        model: the model.
        captured: flat, with inputs of fixed sizes, as it was captured.
        graph: the same, its arithmetic arranged.
        numbering: of its parameters.
        skeleton: of the graph.
        tokens: which values its inputs may have, by position, where not all are treated alike.
        notes: what was assumed of its inputs.
        sums: whether what is added is one sum, whatever its sizes.
        whole: frames that stay one although their features are used apart.
        rounded: whether the model itself computes in half precision, which the graph does not.
        composites: tensors of the model that are several parameters in truth, in the order in which they are made.
    """

    model: Model
    captured: Any
    graph: Any
    numbering: Numbering
    skeleton: Skeleton
    tokens: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sums: bool = False
    whole: frozenset[str] = frozenset()
    rounded: bool = False
    composites: tuple[Composite, ...] = ()

    @property
    def used(self) -> set[str]:
        """Parameters that the computation uses."""
        return set().union(*map(self.owners, self.skeleton.sites))

    def owners(self, site: Site) -> set[str]:
        """Parameters that a site uses."""
        return {name for term in site.terms for name in self.numbering.owners(term)}

    def unused_from(self, name: str, start: int) -> bool:
        """Whether the computation uses no element of a parameter from one on."""
        begin = self.numbering.start(name)
        end = begin + self.model.tensors[name].size
        for site in self.skeleton.sites:
            for term in site.terms:
                if name in self.numbering.owners(term):
                    numbers = numbered(term)
                    if bool(((numbers >= begin + start) & (numbers < end)).any()):
                        return False
        return True


@dataclass(frozen=True)
class Match:
    """Two models, laid side by side."""

    source: Half
    target: Half
    meeting: Meeting
    alignment: Alignment
    plan: Plan
    given: tuple[Entry, ...] = ()


def matched(
    source: Any,
    target: Any,
    *,
    rules: Rules = None,
    source_inputs: Any = None,
    target_inputs: Any = None,
) -> Match:
    """Match two models by their graphs.

    Args:
        source: where the weights are.
        target: where they go.
        rules: what is known of the mapping; it goes before what is found.
        source_inputs: shapes, specs or examples of the source's inputs.
        target_inputs: of the target's.

    Raises:
        WeightsError: one has no graph, or the models do not run on the same inputs.
        CaptureError: a graph could not be made.
    """
    left, right = open_model(source, source_inputs), open_model(target, target_inputs)
    for side in (left, right):
        if side.graph is None:
            raise WeightsError(
                f"{side.label} has names and shapes but no graph, so it matches only a model of its own framework by "
                "name. Pass that model as source_model or target_model"
            )
    left, right = left.certain, right.certain
    if left.derived is not None and right.derived is not None:
        left, right = replace(left, graph=left.derived), replace(right, graph=right.derived)
    meeting, graphs = _captured(left, right)
    halves = []
    for model, (captured, graph, rounded), orders in zip((left, right), graphs, meeting.orders, strict=True):
        numbering = Numbering(model.shapes_of(graph.graph.initializers))
        skeleton = read_skeleton(graph, numbering, orders)
        halves.append(Half(model, captured, graph, numbering, skeleton, rounded=rounded))
    if isinstance(rules, Plan):
        made = zip(halves, meeting.orders, (rules.sources, rules.targets), rules.composites, strict=True)
        halves = [_as_planned(*one) for one in made]
    given = ruled(rules, *(half.model.tensors for half in halves))
    found = _made_whole(_best_pairing(halves[0], halves[1], meeting, given), given)
    return _settled(_joined_alike(_read_otherwise(found, given), given))


def _as_planned(
    half: Half, orders: Sequence[tuple[int, ...]], tensors: Mapping[str, Named], wanted: Sequence[Composite]
) -> Half:
    """A half with the tensors that a plan has, of which some are made of its parameters."""
    half = with_numbers(half, orders, apart(tensors, wanted).keys() & half.model.doubtful.keys())
    names = {name for one in wanted for name in one.makes}
    for find in FINDERS if wanted else ():
        half = composed(half, orders, find, names.__contains__)
    for one in wanted:
        if one not in half.composites:
            raise WeightsError(
                f"the plan makes {' and '.join(one.makes)} of {some(list(one.parts))}, but {half.model.label} does not "
                "use these so: the plan is of another model"
            )
    return half


def _read_otherwise(found: Match, given: Sequence[Entry]) -> Match:
    """The match by other ways to read the graphs, each kept if fewer parameters lack a partner then."""
    for way in WAYS:
        if found.plan.complete:
            break
        halves = way(found.source, found.target, found.meeting.orders)
        if halves is not None and all(
            entry.target in halves[1].model.tensors and halves[0].model.tensors.keys() >= set(entry.sources)
            for entry in given
        ):
            other = _made_whole(_best_pairing(*halves, found.meeting, given), given)
            found = min(found, other, key=lambda match: match.plan.lacking)
    return found


def _made_whole(found: Match, given: Sequence[Entry]) -> Match:
    """The match with those products in one piece that only one of the models uses in parts, if more is found so."""
    for _ in range(2):
        halves, changed = [], False
        rests = found.alignment.source_rest, found.alignment.target_rest
        for half, orders, rest in zip((found.source, found.target), found.meeting.orders, rests, strict=True):
            apart = frozenset(site.block[0] for site in rest if site.block is not None)
            changed = changed or bool(apart)
            skeleton = half.skeleton
            if apart:
                skeleton = read_skeleton(half.graph, half.numbering, orders, apart, sums=half.sums)
            halves.append(replace(half, skeleton=skeleton, whole=apart if apart else half.whole))
        if not changed:
            return found
        other = _best_pairing(halves[0], halves[1], found.meeting, given)
        if _open(other) >= _open(found):
            return found
        found = other
    return found


def _joined_alike(found: Match, given: Sequence[Entry]) -> Match:
    """The match with tensors that both models put beside each other in the order of the source."""
    half = found.target
    joins = orders_of_joins(found.source.skeleton, half.skeleton, found.alignment.pairs)
    if not joins:
        return found
    orders = found.meeting.orders[1]
    skeleton = read_skeleton(half.graph, half.numbering, orders, half.whole, sums=half.sums, joins=joins)
    if not same_outputs(half.skeleton, skeleton):
        return found
    other = _best_pairing(found.source, replace(half, skeleton=skeleton), found.meeting, given)
    return other if other.plan.lacking <= found.plan.lacking and _open(other) <= _open(found) else found


def _open(match: Match) -> int:
    """How many sites have no partner."""
    return len(match.alignment.source_rest) + len(match.alignment.target_rest)


def by_name(source: Model, target: Model, rules: Rules) -> Plan:
    """The plan for tensors without a graph: those of one name and shape, after what rules say."""
    given = ruled(rules, source.tensors, target.tensors)
    fixed = {entry.target for entry in given}
    names = paired(source, target)
    entries, unlike = {entry.target: entry for entry in given}, {}
    for name, other in names.pairs.items():
        spec, theirs = target.tensors[name], source.tensors[other]
        if name in fixed:
            continue
        if theirs.shape == spec.shape:
            piece = Piece(other, name, (max(spec.size, 1),), 0, (1,), 0, (1,))
            entries[name] = Entry(name, (piece,), "name", names.how or str(spec))
        else:
            unlike[name] = other
    order = {name: k for k, name in enumerate(target.tensors)}
    done = _with_aliases(set(entries), target)
    gone = _with_aliases({name for entry in entries.values() for name in entry.sources}, source)
    missing = [name for name in target.tensors if name not in done | names.apart[1]]
    unexpected = [name for name in source.tensors if name not in gone | names.apart[0]]
    back = {other: name for name, other in unlike.items()}
    return Plan(
        tuple(sorted(entries.values(), key=lambda entry: order[entry.target])),
        source.tensors,
        target.tensors,
        tuple(_apart(n, unlike.get(n), target, source, unexpected) for n in missing),
        tuple(_apart(n, back.get(n), source, target, missing) for n in unexpected),
        unused=tuple(
            f"{side}: {name}"
            for side, some in zip(("source", "target"), names.apart, strict=True)
            for name in sorted(some)
        ),
        differences=tuple(_without_graph(source, target)) if missing or unexpected else (),
        models=(source, target),
    )


def _without_graph(source: Model, target: Model) -> Iterator[str]:
    """What would help where names do not: a model beside a file of tensors."""
    for model, other, name in ((source, target, "source_model"), (target, source, "target_model")):
        if model.graph is None and other.graph is not None:
            yield (
                f"{model.label} has names and shapes but no graph, so names alone were compared; pass the model that "
                f"it is of as {name} (--{name.replace('_', '-')})"
            )


def _apart(name: str, namesake: str | None, side: Model, other: Model, rest: Sequence[str]) -> Problem:
    if namesake is None:
        return problem(name, side, other, rest)
    return Problem(name, f"{side.tensors[name]}; on the other side {namesake} is {other.tensors[namesake]}")


def _captured(source: Model, target: Model) -> tuple[Meeting, list[Any]]:
    """The first inputs that both models are captured on."""
    failure: CaptureError | None = None
    for meeting in meetings(source, target):
        try:
            graphs = []
            for model, inputs in ((source, meeting.source), (target, meeting.target)):
                assert model.graph is not None
                graph = model.graph(inputs)
                rounded = in_single(graph)
                layers = recurrent_loops(inferred(graph))
                graphs.append((layers.clone(), inferred(arranged(layers, model.tensors)), rounded))
            return meeting, graphs
        except CaptureError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def inferred(graph: Any) -> Any:
    """The graph with the shapes that ONNX infers; what an exporter notes counts only where ONNX says nothing.

    jax2onnx 0.17 notes shapes of images with their axes in another order.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    noted = {value: value.shape for node in graph.graph for value in node.outputs}
    outputs = set(graph.graph.outputs)
    for value in noted:
        if value not in outputs:
            value.shape = None
    ShapeInferencePass(check_type=False)(graph)
    for value, shape in noted.items():
        if value.shape is None:
            value.shape = shape
    return graph


def _best_pairing(source: Half, target: Half, meeting: Meeting, given: Sequence[Entry]) -> Match:
    """The match with inputs paired so that structure says most."""
    inputs = target.skeleton.inputs
    best: Match | None = None
    for pairing in meeting.paired():
        for place, partner in zip(inputs, pairing.partners, strict=True):
            place.kind = f"input {partner}"
        found = _aligned(source, target, pairing, given, {})
        if best is None or _firmly(found) > _firmly(best):
            best = found
        if _firmly(best) == len(source.skeleton.sites) == len(target.skeleton.sites):
            break
    if best is None:
        raise WeightsError(
            f"the inputs of {source.model.label} and {target.model.label} are not alike: "
            f"{[str(i.shape) for i in meeting.source]} and {[str(i.shape) for i in meeting.target]}"
        )
    for place, partner in zip(inputs, best.meeting.partners, strict=True):
        place.kind = f"input {partner}"
    return best


def _firmly(match: Match) -> int:
    """How many sites structure alone has paired."""
    return sum(pair.found == "structure" for pair in match.alignment.pairs)


def _aligned(source: Half, target: Half, meeting: Meeting, given: Sequence[Entry], choices: Choices) -> Match:
    alignment = align(source.skeleton, target.skeleton, choices)
    plan = _plan(source, target, alignment, given)
    return Match(source, target, meeting, alignment, plan, tuple(given))


def rematched(match: Match, choices: Choices) -> Match:
    """The same models with other choices among what structure leaves open."""
    return _aligned(match.source, match.target, match.meeting, match.given, choices)


def _settled(found: Match) -> Match:
    """The match with the choices that structure left open made by running both graphs."""
    if not found.alignment.ties:
        return found
    from interop.transfer.trial import Expected, departure

    expected = Expected(found, _SEED)
    best, at = found, departure(found, expected)
    trials = max(_TRIALS, _ELEMENTS // max(sum(spec.size for spec in found.plan.targets.values()), 1))
    improved = True
    while at is not None and improved:
        improved = False
        for other in _exchanged(best, at.index):
            if trials == 0:
                return best
            trials -= 1
            then = departure(other, expected)
            if then is None:
                return other
            if (-then.index, then.error) < (-at.index, at.error):
                best, at, improved = other, then, True
                break
    return best


def _exchanged(match: Match, reached: int) -> Iterator[Match]:
    """The match with other choices: first one of them otherwise, then two."""
    once = []
    for choices in exchanges(match.alignment, reached):
        once.append(rematched(match, choices))
        yield once[-1]
    for other in once[:_TWICE]:
        for choices in exchanges(other.alignment, reached):
            yield rematched(match, choices)


def exchanges(alignment: Alignment, reached: int) -> Iterator[Choices]:
    """Choices among what structure leaves open: two partners exchanged, those decided last first.

    Args:
        alignment: with the choices as they are.
        reached: up to which place of the target a choice can matter.
    """
    partner = {pair.source: pair.target for pair in alignment.pairs}
    chosen = {tie.pair.target: tie.pair.source for tie in alignment.ties}
    for tie in reversed(alignment.ties):
        if tie.pair.target.index > reached:
            continue
        for source in tie.sources:
            if source is not tie.pair.source and source in partner:
                yield {**chosen, partner[source]: tie.pair.source, tie.pair.target: source}


def _plan(source: Half, target: Half, alignment: Alignment, given: Sequence[Entry]) -> Plan:
    sides = source.numbering, target.numbering
    pieces: dict[str, dict[tuple[Any, ...], Piece]] = defaultdict(dict)
    how: dict[str, Pair] = {}
    ambiguous: dict[str, set[str]] = defaultdict(set)
    for pair in alignment.pairs:
        for piece in pieces_of(pair.source, pair.target, sides):
            key = (*piece.place, piece.adds and piece.source)
            known = pieces[piece.target].setdefault(key, piece)
            how.setdefault(piece.target, pair)
            if known.source != piece.source and not (known.zeros and piece.zeros):
                ambiguous[piece.target] |= {name for name in (known.source, piece.source) if name}
    entries = []
    for name, made in pieces.items():
        whole = _whole(tuple(made.values()), source.model.tensors, target.model.tensors)
        if whole[0].source is not None:
            specs = source.model.tensors[whole[0].source], target.model.tensors[name]
            whole = with_other_rows(whole, *specs, (source.unused_from, target.unused_from))
        entries.append(Entry(name, whole, *_said(how[name])))
    fixed = {entry.target for entry in given}
    entries = [entry for entry in entries if entry.target not in fixed] + list(given)
    done = _with_aliases({entry.target for entry in entries}, target.model)
    gone = _with_aliases({name for entry in entries for name in entry.sources}, source.model)
    unused = [f"source: {name}" for name in _idle(source)] + [f"target: {name}" for name in _idle(target)]
    missing = [name for name in target.model.tensors if name not in done and name not in _idle(target)]
    unexpected = [name for name in source.model.tensors if name not in gone and name not in _idle(source)]
    order = {name: k for k, name in enumerate(target.model.tensors)}
    added = [
        added_alone(half, rest, other)
        for half, rest, other in (
            (target, alignment.target_rest, "source"),
            (source, alignment.source_rest, "target"),
        )
    ]
    if not set(missing + unexpected) <= added[0].keys() | added[1].keys() or (missing and unexpected):
        added = [{}, {}]
    forth = [piece for entry in entries if entry not in given for piece in entry.pieces]
    back = [piece.reversed() for piece in forth if piece.source is not None]
    missing_parts = parts_left(target, source.model, "source", alignment.target_rest, forth, unexpected)
    unexpected_parts = parts_left(source, target.model, "target", alignment.source_rest, back, missing)
    return Plan(
        tuple(sorted(entries, key=lambda entry: order[entry.target])),
        source.model.tensors,
        target.model.tensors,
        tuple(problem(n, target.model, source.model, unexpected, added[0].get(n, "")) for n in missing)
        + missing_parts,
        tuple(problem(n, source.model, target.model, missing, added[1].get(n, "")) for n in unexpected)
        + unexpected_parts,
        tuple(
            Problem(n, "several sources", tuple(sorted(names)))
            for n, names in ambiguous.items()
            if n not in fixed
        ),
        tuple(unused),
        source.notes + target.notes,
        (source.composites, target.composites),
        models=(source.model, target.model),
    )


def _said(pair: Pair) -> tuple[str, str]:
    shape = " x ".join(map(str, pair.target.shape))
    alike = f"; {pair.alike} alike" if pair.alike > 1 else ""
    return pair.found, f"{pair.target.kind} {shape}{alike}"


def _whole(
    pieces: tuple[Piece, ...], sources: Mapping[str, Named], targets: Mapping[str, Named]
) -> tuple[Piece, ...]:
    """The pieces; if they copy part of a tensor to the same part of one of its shape, the rest goes with it."""
    first = pieces[0]
    plain = not any(piece.zeros or piece.sign < 0 for piece in pieces)
    if first.source is None or not plain or any(piece.source != first.source for piece in pieces):
        return pieces
    shape = targets[first.target].shape
    same = all(
        (p.source_start, p.source_steps) == (p.target_start, p.target_steps) and not p.adds for p in pieces
    )
    size = targets[first.target].size
    if not same or sources[first.source].shape != shape or sum(p.count for p in pieces) == size:
        return pieces
    return (Piece(first.source, first.target, (size,), 0, (1,), 0, (1,)),)


def _with_aliases(names: set[str], model: Model) -> set[str]:
    """The names, and all others of the same tensors."""
    first = {model.aliases.get(name, name) for name in names}
    return names | {name for name in model.tensors if model.aliases.get(name, name) in first}


def _idle(half: Half) -> list[str]:
    """Tensors that the computation does not use, and that share no memory with one it uses."""
    used = _with_aliases(half.used, half.model)
    return [name for name in half.model.tensors if name not in used]
