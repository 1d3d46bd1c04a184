"""Which ONNX operators ONNX Runtime computes on the CPU in which float types.

Float32 is everywhere, and ONNX Runtime casts float16 itself where it has no kernel. Bfloat16 it does not
cast: ``BFLOAT16`` says what it has, as ``operator.type parameter`` of the operator's schema, in every opset from
17 to 23. Float64 is not cast down by anybody, so ``WITHOUT_FLOAT64`` says which operators it cannot run: such a graph
is right, but for other runtimes. ``tests/test_dtypes.py`` holds both to the installed ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from interop.graph.typecodes import onnx_type_code

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


HALF_TYPES = {"float16": "tensor(float16)", "bfloat16": "tensor(bfloat16)"}
"""Name to how a schema names it."""


def moves_batch(perm: Sequence[int] | None) -> bool:
    """Whether a Transpose puts the first axis beside or behind the last one, and leaves the others in order.

    ONNX Runtime 1.32 takes such a Transpose into the MatMul behind it, and crashes where a half type is cast to float32
    between them.

    >>> moves_batch((1, 0, 2)), moves_batch((0, 2, 1)), moves_batch((1, 0))
    (True, False, False)
    """
    if perm is None or len(perm) < 3:
        return False
    return list(perm).index(0) >= len(perm) - 2 and [axis for axis in perm if axis] == sorted(perm)[1:]


def lacks_half_type(
    op_type: str,
    opset: int,
    operands: Sequence[str | None],
    results: Sequence[str | None],
    perm: Sequence[int] | None = None,
) -> bool:
    """Whether an operator of the default domain cannot be run as it is: ONNX, or ONNX Runtime, has it in float32 only.

    Args:
        op_type: of the operator.
        opset: of the model.
        operands: element types by place; None for what is not given or not known.
        results: the same.
        perm: the attribute of that name.
    """
    if op_type == "Cast" or not any(dtype in HALF_TYPES for dtype in (*operands, *results)):
        return False
    if moves_batch(perm):
        return True
    import onnx

    schema = onnx.defs.get_schema(op_type, opset, "")
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    found = [
        *_parameters((each.type_str for each in schema.inputs), operands),
        *_parameters((each.type_str for each in schema.outputs), results),
    ]
    return any(
        dtype in HALF_TYPES
        and not (HALF_TYPES[dtype] in allowed.get(parameter, ()) and has_kernel(op_type, parameter, dtype))
        for parameter, dtype in found
    )


def _parameters(names: Iterable[str], dtypes: Sequence[str | None]) -> list[tuple[str, str | None]]:
    """Type parameter and element type, by place; the last name is that of all that follow."""
    known = list(names)
    return [(known[min(index, len(known) - 1)], dtype) for index, dtype in enumerate(dtypes)]


# A GRU or LSTM in float64 is loaded, and fails when it runs.
WITHOUT_FLOAT64 = {
    *(
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Attention",
        "AveragePool",
        "Bernoulli",
        "Col2Im",
    ),
    *(
        "Conv",
        "ConvTranspose",
        "Cosh",
        "Det",
        "Elu",
        "Erf",
        "Gelu",
        "GRU",
        "GlobalAveragePool",
        "GlobalLpPool",
    ),
    *(
        "GlobalMaxPool",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "InstanceNormalization",
        "LRN",
    ),
    *(
        "LSTM",
        "LeakyRelu",
        "LpPool",
        "MaxRoiPool",
        "MaxUnpool",
        "Multinomial",
        "NonZero",
        "OneHot",
        "PRelu",
        "RNN",
    ),
    *("Resize", "Selu", "Sinh", "Softplus", "Softsign", "Tan", "ThresholdedRelu"),
}


def float64_gaps(model: Any) -> tuple[str, ...]:
    """The operators of an ``ir.Model``, functions included, that ONNX Runtime cannot run because they take float64."""
    double = onnx_type_code("float64")
    graphs = [model.graph, *model.functions.values()]
    found = {
        node.op_type
        for graph in graphs
        for node in graph.all_nodes()
        if node.domain == ""
        and node.op_type in WITHOUT_FLOAT64
        and any(value is not None and value.dtype == double for value in node.inputs)
    }
    return tuple(sorted(found))
