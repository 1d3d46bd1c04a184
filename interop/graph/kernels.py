"""Which ONNX operators ONNX Runtime computes on the CPU in which float types.

Float32 is everywhere, and ONNX Runtime casts float16 itself where it has no kernel. Bfloat16 it does not
cast: the sets below say what it has, as ``operator.type parameter`` of the operator's schema, in every opset
from 17 to 23. ``tests/test_dtypes.py`` holds them to the installed ONNX Runtime.
"""

from __future__ import annotations

_T = (
    *(
        "Concat",
        "Constant",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "LayerNormalization",
        "Reshape",
    ),
    *("ScatterElements", "ScatterND", "Shape", "Sign", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
_V = ("Identity", "If", "Loop", "Scan")
BFLOAT16 = {
    *("Cast.T1", "Cast.T2", "ConstantOfShape.T2", "IsInf.T1"),
    *(f"{name}.T" for name in _T),
    *(f"{name}.V" for name in _V),
}


def has_kernel(op_type: str, parameter: str, dtype: str) -> bool:
    """Whether an operator of the default domain runs with a float type for one of its type parameters.

    >>> has_kernel("Conv", "T", "bfloat16"), has_kernel("Reshape", "T", "bfloat16")
    (False, True)
    """
    return dtype != "bfloat16" or f"{op_type}.{parameter}" in BFLOAT16
