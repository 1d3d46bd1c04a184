"""Two models of any form, run on the same inputs and compared.

Enters: a reference and a candidate. Leaves: a ``ParityReport``.

Invariants:
- Outputs are compared by name, then element type, then shape, then value.
- What is compared is never empty and never constant without the report saying so: an output that does
  not vary over the batch agrees with anything, so it is reported as vacuous and the report does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.artifact.signature import Signature, TensorSpec, flatten
from interop.errors import CaptureError, InteropError, ParityError
from interop.parity.departure import first_departure
from interop.parity.difference import VARIES_ABOVE, difference, relative_std
from interop.parity.report import Departure, ParityReport, ParityRow, Verdict
from interop.parity.samples import AMPLITUDES, UNBOUNDED, Case, Largest, is_unbounded, make_cases, make_inputs
from interop.parity.sides import ForeignSide, KerasSide, Side, open_side
from interop.parity.tolerance import Tolerance, tolerance_for

Array = np.ndarray[Any, Any]


def verify(
    reference: Any,
    candidate: Any,
    inputs: Any = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
) -> ParityReport:
    """Compare two models on the same inputs.

    Each of the two may be a Keras model, a model of another framework, a ``GraphModel``, or the path
    of an artifact (opened as a graph, all digests checked), an ``.onnx`` file or a ``.keras`` file. Neither is changed.

    Args:
        reference: what is taken as right.
        candidate: what is compared with it.
        inputs: arrays in the structure the model takes, or a dict by input name; made from the signature
            when None: seeded, integers within the bounds it records, at two sizes of every named
            dimension and a batch of one.
        rtol: relative tolerance, instead of the published one of the output's element type.
        atol: absolute tolerance, likewise.
        sizes: for made inputs, the sizes of named dimensions, such as ``{"batch": [2, 5]}``.

    Returns:
        One row per output and case; on failure also the first layer whose output departs, where both
        sides have layer names.

    Raises:
        ParityError: the two cannot be compared: their inputs or outputs have other names, or one of them
            fails on the inputs.
        SignatureError: `inputs` does not have the structure of the model's inputs.
    """
    return _Comparison(open_side(reference), open_side(candidate), rtol, atol).report(inputs, sizes)


@dataclass(frozen=True, slots=True)
class _Run:
    """The outputs of both sides for one case, by the reference's output names and order."""

    case: str
    batch_size: int | None
    inputs: list[Array]
    reference: list[Array]
    candidate: list[Array]


class _Comparison:
    """Everything that stays the same over the cases of one comparison."""

    def __init__(self, reference: Side, candidate: Side, rtol: float | None, atol: float | None) -> None:
        self._reference = reference
        self._candidate = candidate
        self._rtol = rtol
        self._atol = atol
        self._computed_in = reference.computed_in | candidate.computed_in
        self._rounded_to = reference.rounded_to | candidate.rounded_to

    def report(self, inputs: Any, sizes: Mapping[str, Sequence[int]] | None) -> ParityReport:
        if inputs is not None and sizes is not None:
            raise ParityError("inputs and sizes exclude each other: given inputs have the sizes they have")
        ours, theirs = self._signatures(inputs)
        input_order = _pair([s.name for s in ours.inputs], [s.name for s in theirs.inputs], "input")
        output_order = _pair([s.name for s in ours.outputs], [s.name for s in theirs.outputs], "output")

        def run(largest: Largest) -> Iterator[_Run]:
            for case, batch_size, values in self._inputs(inputs, sizes, ours, largest):
                wanted = _run(self._reference, values, ours, case)
                got = _run(self._candidate, [values[i] for i in input_order], theirs, case)
                placed = [got[output_order.index(i)] for i in range(len(wanted))]
                yield _Run(case, batch_size, values, wanted, placed)

        made_up = inputs is None and any(is_unbounded(spec) for spec in ours.inputs)
        runs = _first_that_runs(run, UNBOUNDED if made_up else UNBOUNDED[:1])
        rows = tuple(self._rows(ours, runs))
        departure, notes = None, list[str]()
        failed = next((run for run in runs if _failed(rows, run.case)), None)
        if failed is not None:
            departure, note = self._localise(failed, ours, theirs, input_order)
            notes += [note] if note else []
        return ParityReport(self._reference.label, self._candidate.label, rows, departure, tuple(notes))

    def _signatures(self, inputs: Any) -> tuple[Signature, Signature]:
        """A signature for each side; layer objects take over the one of an artifact."""
        ours, theirs = self._reference.signature, self._candidate.signature
        if ours is None and theirs is None and isinstance(self._reference, KerasSide):
            if isinstance(self._candidate, KerasSide) and inputs is not None:
                theirs = self._reference.observe_signature(inputs)
            else:
                theirs = _derived(self._reference)
            if not self._candidate.adopts:
                return theirs, _derived(self._candidate)
            return theirs, theirs
        if ours is None:
            ours = theirs if self._reference.adopts and theirs else None
        if ours is None:
            ours = _derived(self._candidate if isinstance(self._reference, ForeignSide) else self._reference)
        if theirs is None:
            theirs = ours if self._candidate.adopts and self._reference.signature else None
        return ours, theirs or _derived(self._candidate)

    def _inputs(
        self, inputs: Any, sizes: Mapping[str, Sequence[int]] | None, signature: Signature, largest: Largest
    ) -> list[tuple[str, int | None, list[Array]]]:
        """Cases, each with its name, its batch size and its arrays in the order of the signature."""
        if inputs is not None:
            values = _given(inputs, signature)
            leading = {array.shape[0] for array in values if array.ndim}
            return [("given", leading.pop() if len(leading) == 1 else None, values)]
        cases = make_cases(signature.inputs, sizes)

        def made(case: Case, amplitude: float) -> list[Array]:
            arrays = make_inputs(signature.inputs, case, amplitude=amplitude, largest=largest)
            return list(arrays.values())

        amplitude = self._amplitude(signature, max(cases, key=lambda case: case.batch_size or 0), made)
        return [(str(case), case.batch_size, made(case, amplitude)) for case in cases]

    def _amplitude(
        self, signature: Signature, case: Case, made: Callable[[Case, float], list[Array]]
    ) -> float:
        """The amplitude of float inputs at which the reference's outputs vary most clearly."""
        if not any("float" in spec.dtype for spec in signature.inputs) or case.batch_size is None:
            return AMPLITUDES[0]
        least: dict[float, float] = {}
        for amplitude in AMPLITUDES:
            outputs = _run(self._reference, made(case, amplitude), signature, str(case))
            least[amplitude] = min((relative_std(output) or 0.0 for output in outputs), default=0.0)
            if least[amplitude] > VARIES_ABOVE:
                break
        return max(least, key=lambda amplitude: least[amplitude])

    def _tolerance(self, dtype: str) -> Tolerance:
        published = tolerance_for(dtype, computed_in=self._computed_in, rounded_to=self._rounded_to)
        return Tolerance(
            rtol=published.rtol if self._rtol is None else self._rtol,
            atol=published.atol if self._atol is None else self._atol,
            share=published.share if self._rtol is None and self._atol is None else 0.0,
        )

    def _rows(self, signature: Signature, runs: Sequence[_Run]) -> list[ParityRow]:
        variation = [
            _variation([(run.batch_size, run.reference[i]) for run in runs], spec)
            for i, spec in enumerate(signature.outputs)
        ]
        return [
            self._row(run.case, spec.name, run.reference[i], run.candidate[i], variation[i])
            for run in runs
            for i, spec in enumerate(signature.outputs)
        ]

    def _row(self, case: str, name: str, wanted: Array, got: Array, variation: float | None) -> ParityRow:
        tolerance = self._tolerance(wanted.dtype.name).of(wanted)

        def row(
            verdict: Verdict, reason: str, numbers: tuple[float | None, float | None, float | None]
        ) -> ParityRow:
            return ParityRow(
                case=case,
                output=name,
                dtype=wanted.dtype.name,
                shape=wanted.shape,
                max_abs=numbers[0],
                max_rel=numbers[1],
                mean_abs=numbers[2],
                rtol=tolerance.rtol,
                atol=tolerance.atol,
                relative_std=variation,
                verdict=verdict,
                reason=reason,
            )

        nothing = (None, None, None)
        if wanted.dtype != got.dtype:
            return row("fail", f"dtype {got.dtype.name}, expected {wanted.dtype.name}", nothing)
        if wanted.shape != got.shape:
            return row("fail", f"shape {got.shape}, expected {wanted.shape}", nothing)
        found = difference(wanted, got, tolerance)
        numbers = (found.max_abs, found.max_rel, found.mean_abs)
        if found.disagreeing:
            assert found.worst is not None
            return row(
                "fail",
                f"{found.disagreeing} of {found.elements} elements beyond rtol={tolerance.rtol:g} "
                f"atol={tolerance.atol:g}; worst at {list(found.worst)}: {got[found.worst]}, "
                f"expected {wanted[found.worst]}",
                numbers,
            )
        if variation is None:
            reason = "cannot tell whether the output depends on the input: nothing finite, or one sample only"
            return row("vacuous", reason, numbers)
        if variation <= VARIES_ABOVE:
            reason = (
                f"constant over the batch (relative std {variation:.1e}); agrees whatever the weights are"
            )
            return row("vacuous", reason, numbers)
        return row("pass", "", numbers)

    def _localise(
        self, run: _Run, ours: Signature, theirs: Signature, input_order: Sequence[int]
    ) -> tuple[Departure | None, str]:
        """The first layer call that departs; or None and why it is not known."""
        wanted = self._reference.layer_outputs(run.inputs, ours)
        got = self._candidate.layer_outputs([run.inputs[i] for i in input_order], theirs)
        if not wanted or not got:
            which = self._candidate if wanted else self._reference
            return None, f"no layer can be named: {which.label} has no layer names"
        departure, compared = first_departure(wanted, got, self._tolerance)
        if departure is None:
            return None, f"{compared} layer calls compared, all agree: the outputs depart after them"
        return departure, ""


def _derived(side: Side) -> Signature:
    try:
        return side.derive_signature()
    except CaptureError as e:
        raise ParityError(
            f"the inputs of {side.label} cannot be worked out, because it cannot be captured. Pass inputs=, "
            f"or compare with an artifact, which carries a signature. {e}"
        ) from e


def _pair(reference: Sequence[str], candidate: Sequence[str], kind: str) -> list[int]:
    """For each name of the candidate, the position of that name in the reference.

    One on each side belong together whatever they are called.
    """
    if len(reference) == len(candidate) == 1:
        return [0]
    if sorted(reference) != sorted(candidate):
        raise ParityError(
            f"the {kind}s do not correspond: the reference has {', '.join(reference)}; "
            f"the candidate has {', '.join(candidate)}"
        )
    return [list(reference).index(name) for name in candidate]


def _given(inputs: Any, signature: Signature) -> list[Array]:
    names = [spec.name for spec in signature.inputs]
    if isinstance(inputs, Mapping) and set(inputs) == set(names):
        return [np.asarray(inputs[name]) for name in names]
    found = flatten(signature.input_structure, inputs, "inputs")
    return [np.asarray(found[index]) for index in range(len(names))]


def _first_that_runs(run: Callable[[Largest], Iterator[_Run]], largest: Sequence[Largest]) -> list[_Run]:
    """The runs on made-up integers as large as both sides take: a table may be smaller than any that is usual."""
    failure: InteropError | None = None
    for number in largest:
        try:
            return list(run(number))
        except InteropError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _run(side: Side, values: Sequence[Array], signature: Signature, case: str) -> list[Array]:
    try:
        return side.run(values, signature)
    except InteropError as e:
        raise type(e)(f"{side.label} at {case}: {e}") from e
    except Exception as e:
        raise ParityError(f"{side.label} failed at {case}: {type(e).__name__}: {e}") from e


def _failed(rows: Sequence[ParityRow], case: str) -> bool:
    return any(row.case == case and row.verdict == "fail" for row in rows)


def _variation(outputs: Sequence[tuple[int | None, Array]], spec: TensorSpec) -> float | None:
    """How much an output varies: over its batch axis if it has one, else over the cases of one shape.

    Where the inputs have no batch in common (nodes and edges of a graph), a leading dimension of any size will do.

    Args:
        outputs: the batch size and the output of each case.
        spec: of the output.
    """
    if all(size is not None and array.ndim and array.shape[0] == size for size, array in outputs):
        return relative_std(max((array for _, array in outputs), key=lambda array: array.shape[0]))
    by_shape: dict[tuple[int, ...], list[Array]] = {}
    for _, array in outputs:
        by_shape.setdefault(array.shape, []).append(array)
    alike = max(by_shape.values(), key=len)
    if len(alike) == 1 and spec.shape and isinstance(spec.shape[0], str):
        return relative_std(max((array for _, array in outputs), key=lambda array: array.shape[0]))
    return relative_std(np.stack(alike))
