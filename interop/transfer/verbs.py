"""The two verbs: ``match`` makes a plan, ``transfer_weights`` also applies and proves it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import ParityError, WeightsError
from interop.transfer.differences import differences
from interop.transfer.files import with_values_of
from interop.transfer.matching import Match, by_name, matched
from interop.transfer.models import Model, open_model
from interop.transfer.plan import Plan
from interop.transfer.proof import Proof, prove
from interop.transfer.rules import Rules
from interop.transfer.trial import TOLERANCE, examples, paired_outputs, relative

_SEED = 7
_ROUNDED = 0.05  # of outputs in half precision: bfloat16 has 8 bits


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        plan: what went where.
        target: the model with the weights; another object than was passed where its framework's do not change; for
            a file its path.
        proof: both graphs with drawn weights; None if it was not asked for.
        error: of the models' own outputs with the weights that were transferred, relative to the root mean square; None
            if they have none in common.
        seconds: that it took.
        tolerance: of the error: larger where a model computes in half precision, which the proof does not.
    """

    plan: Plan
    target: Any
    proof: Proof | None
    error: float | None
    seconds: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the transfer was proven: graphs and models agree."""
        return (
            self.proof is not None
            and self.proof.passed
            and (self.error is None or self.error <= self.tolerance)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        proof = self.proof
        return {
            "passed": self.passed,
            "error": self.error,
            "proof": None
            if proof is None
            else {
                "error": proof.error,
                "inner": proof.inner,
                "compared": proof.compared,
                "idle": list(proof.idle),
                "aside": proof.aside,
                "explained": proof.explained,
            },
            "notes": list(self.plan.notes),
            "seconds": self.seconds,
            "plan": self.plan.to_json(),
        }

    def __str__(self) -> str:
        lines = [str(self.plan)]
        if self.proof is not None:
            word = "PASS" if self.passed else "DIFFERENT" if self.proof.explained else "FAIL"
            said = [f"{self.proof.compared} layers to {self.proof.inner:.1e}"]
            said += [f"outputs to {self.proof.error:.1e}"] if self.proof.error is not None else []
            said += [f"the models' own outputs to {self.error:.1e}"] if self.error is not None else []
            if self.proof.aside is not None:
                said.append(f"all to {self.proof.aside:.1e} with what is different set aside")
            lines.append(f"{word}: with drawn weights the same in {', '.join(said)}")
            lines += [f"no effect on what was compared: {name}" for name in self.proof.idle]
        else:
            lines.append(
                "not proven: nothing was run" + ("" if self.plan.complete else ", and not all was found")
            )
        return "\n".join(lines)


def match(
    source: Any,
    target: Any,
    *,
    rules: Rules = None,
    source_model: Any = None,
    target_model: Any = None,
    source_inputs: Any = None,
    target_inputs: Any = None,
) -> Plan:
    """Find which weights of one model are which of another; nothing is changed.

    Args:
        source: where the weights are: a Keras, PyTorch or Flax model, or the path of an artifact, an ``.onnx``,
            ``.keras`` or whole ``.h5`` file, or a SavedModel. Any other file that ``load_tensors`` opens, or a
            mapping of arrays, has no graph: it matches what has the same names and shapes, without proof.
        target: where they are to go, likewise; a file is replaced by one with the new values.
        rules: what you know of the mapping, as ``Rule``; or a plan, such as ``Plan.load`` reads.
        source_model: where the source has no graph, a live or saved model of the same framework, which has: they match
            by name, and its graph is aligned with the target's. The model itself is not changed.
        target_model: the same for the target.
        source_inputs: shapes, specs or examples of the inputs, for a model that does not tell them. By default those of
            the other model are tried, as they are and with channels moved.
        target_inputs: the same for the target.

    Returns:
        The plan; it prints as a table, ``save`` writes it as JSON, ``apply`` transfers, ``reversed`` turns it around.

    Raises:
        WeightsError: the models tell no inputs, or do not run on the same.
        CaptureError: a model could not become a graph.
    """
    left = _side(source, source_model, source_inputs)
    right = _side(target, target_model, target_inputs)
    if left.graph is None or right.graph is None:
        return by_name(left, right, rules)
    return matched(left, right, rules=rules).plan


def _side(given: Any, model: Any, inputs: Any) -> Model:
    """One side; with a graph of another model, where it has none itself."""
    opened = open_model(given, None if model is not None else inputs)
    if model is None:
        return opened
    if opened.graph is not None:
        raise WeightsError(f"{opened.label} has a graph; a model beside it is for files that have none")
    return with_values_of(open_model(model, inputs), opened)


def transfer_weights(
    source: Any,
    target: Any,
    *,
    rules: Rules = None,
    verify: bool = True,
    partial: bool = False,
    source_model: Any = None,
    target_model: Any = None,
    source_inputs: Any = None,
    target_inputs: Any = None,
) -> TransferReport:
    """Write the weights of one model into another, in whatever framework, and prove that it was right.

    The graphs of both are run with the same drawn weights, and compared layer by layer; then the models themselves with
    the weights that were transferred. What the models do differently (padding, an epsilon, a form of GELU) is in the
    report's ``plan.differences``.

    Args:
        source: as in ``match``.
        target: as in ``match``; it is changed, all of it or nothing.
        rules: as in ``match``.
        source_model: as in ``match``.
        target_model: as in ``match``.
        verify: prove it.
        partial: transfer what was found although something was not, such as the trunk of a model with another head.
        source_inputs: as in ``match``.
        target_inputs: as in ``match``.

    Raises:
        WeightsError: something has no partner and `partial` is false; names it, its side, and what is nearest.
        ParityError: the models depart, and not only by what they do differently: with that set aside (the target's
            graph with the source's padding, strides and epsilons) they still do. Nothing was changed.
    """
    started = time.perf_counter()
    left = _side(source, source_model, source_inputs)
    right = _side(target, target_model, target_inputs)
    if left.graph is None or right.graph is None:
        named = by_name(left, right, rules)
        made = named.apply(partial=partial)
        return TransferReport(named, made, None, None, time.perf_counter() - started)
    found = matched(left, right, rules=rules)
    plan = found.plan
    if not partial and not plan.complete:
        said = tuple(one.text for one in differences(found) if one.fact)
        replace(plan, differences=plan.differences + said).check()
    if not plan.entries:
        raise WeightsError("the two models have nothing in common")
    proof = prove(found) if verify else None
    if proof is not None:
        plan = replace(plan, differences=plan.differences + proof.differences)
        if not proof.passed and not proof.explained:
            aside = "" if proof.aside is None else f", and {proof.aside:.2g} with what differs set aside"
            raise ParityError(
                f"with the same drawn weights the models give different results (error {proof.inner:.2g} inside, "
                f"{proof.error} at the outputs{aside}): {_first(proof.differences)}. Nothing was changed. If the "
                "models are the same, give rules for the layers named; verify=False transfers without proof"
            )
    result = plan.apply(partial=True)
    error = _error(found, result) if verify and not plan.missing else None
    tolerance = _ROUNDED if found.source.rounded or found.target.rounded else TOLERANCE
    return TransferReport(plan, result, proof, error, time.perf_counter() - started, tolerance)


def _first(differences: tuple[str, ...]) -> str:
    more = f"; and {len(differences) - 8} more" if len(differences) > 8 else ""
    return ("; ".join(differences[:8]) or "nothing could be compared") + more


def _error(found: Match, result: Any) -> float | None:
    """The largest relative error of the models' own outputs."""
    source = found.source.model
    target = found.target.model if result is None else replace(found.target.model)
    if source.elsewhere or target.elsewhere:
        return None
    if result is not None and (target.framework == "jax" or isinstance(result, Path)):
        reopened = open_model(result)
        target = replace(reopened, structure=target.structure)
    if source.runs is None or target.runs is None:
        return None
    outputs = found.source.skeleton.outputs, found.target.skeleton.outputs
    (given,) = examples(found, _SEED, 1)
    expected, made = source.runs(given[0]), target.runs(given[1])
    if len(expected) != len(outputs[0]) or len(made) != len(outputs[1]):
        return None
    errors = [
        relative(outputs[0][i].canonical(_numbers(expected[i])), outputs[1][j].canonical(_numbers(made[j])))
        for i, j in paired_outputs(found)
    ]
    return max(errors, default=None)


def _numbers(output: Any) -> NDArray[Any]:
    """An output as NumPy computes with it, which bfloat16 is not."""
    array = np.asarray(output)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
