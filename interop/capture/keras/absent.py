"""Public ``keras.ops`` functions that have no ONNX form, each with the reason that its error gives.

A reason names the ONNX operator that is missing, or says why the function has no place in a graph.
"""

from __future__ import annotations

_COMPLEX = "ONNX operators do not compute with complex tensors"
_NOT_A_COMPUTATION = "it does not compute a tensor, so it leaves nothing in a graph"

#: Public name in ``keras.ops`` -> reason.
ABSENT: dict[str, str] = {
    "convert_to_numpy": "it reads a value while the model is traced, when there is none yet",
    "dtype": _NOT_A_COMPUTATION,
    "eig": "ONNX has no operator for the eigenvalues of a general matrix, which are complex",
    "is_tensor": _NOT_A_COMPUTATION,
    "jvp": "ONNX has no operator for derivatives of a function",
    "polar": _COMPLEX,
    "view_as_complex": _COMPLEX,
    "view_as_real": _COMPLEX,
}


def reason(name: str) -> str | None:
    """Why an operation has no ONNX form, by public name or class name (``eigh``, ``Eigh``); None if it may."""
    wanted = name.replace("_", "").lower()
    return next((why for known, why in ABSENT.items() if known.replace("_", "") == wanted), None)
