"""ONNX versions: which opsets are written and the IR version each one goes with.

Source: the versions table of the ONNX specification
(https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
"""

from __future__ import annotations

from interop.errors import CaptureError

DEFAULT_OPSET = 20

# The lowest IR version that carries the opset. Never "the newest installed": runtimes refuse newer ones.
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


def check_opset(opset: int | None) -> int:
    """The opset to write.

    Args:
        opset: requested opset of the default ONNX domain, or None for the default.

    Raises:
        CaptureError: the opset is not one that is written.
    """
    if opset is None:
        return DEFAULT_OPSET
    if opset not in IR_VERSIONS:
        low, high = min(IR_VERSIONS), max(IR_VERSIONS)
        raise CaptureError(f"opset must be between {low} and {high}. Received: opset={opset!r}")
    return int(opset)
