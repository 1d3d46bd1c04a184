"""Which ONNX operators ONNX Runtime computes on the CPU in which float types.

Float32 is everywhere, and ONNX Runtime casts float16 itself where it has no kernel. Bfloat16 it does not
cast: ``BFLOAT16`` says what it has, as ``operator.type parameter`` of the operator's schema, in every opset from
17 to 23. Float64 is not cast down by anybody, so ``WITHOUT_FLOAT64`` says which operators it cannot run: such a graph
is right, but for other runtimes. ``tests/test_dtypes.py`` holds both to the installed ONNX Runtime.
"""

from __future__ import annotations

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
