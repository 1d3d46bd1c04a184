"""Any two forms of a model, compared output by output and, where they disagree, layer by layer."""

from interop.parity.report import Departure, ParityReport, ParityRow
from interop.parity.tolerance import TOLERANCES, Tolerance, tolerance_for
from interop.parity.verification import verify

__all__ = [
    "TOLERANCES",
    "Departure",
    "ParityReport",
    "ParityRow",
    "Tolerance",
    "tolerance_for",
    "verify",
]
