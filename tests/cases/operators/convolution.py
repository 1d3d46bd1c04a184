"""Convolutions and pooling."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

_X = x("b", 4, "h", "w")
_W = normal(6, 4, 3, 3, scale=0.3)
_UP = normal(4, 6, 3, 3, scale=0.3)


def _conv(variant: str, *inputs, lifted: str = "Conv2D", **attributes) -> OnnxCase:
    return OnnxCase("Conv", inputs, attributes, variant=variant, lifted=lifted)


def _transposed(variant: str, *inputs, lifted: str = "Conv2DTranspose", **attributes) -> OnnxCase:
    return OnnxCase("ConvTranspose", inputs, attributes, variant=variant, lifted=lifted)


def _pool(name: str, variant: str, lifted: bool = True, **attributes) -> OnnxCase:
    layer = f"{name.removesuffix('Pool')}Pooling2D" if lifted else ""
    return OnnxCase(name, (_X,), {"kernel_shape": [3, 2], **attributes}, variant=variant, lifted=layer)


CASES = [
    _conv("valid", _X, _W, normal(6)),
    _conv("same", _X, _W, pads=[1, 1, 1, 1]),
    _conv("one side", _X, _W, pads=[0, 1, 2, 1], strides=[2, 1]),
    _conv("dilated", _X, _W, dilations=[2, 1]),
    _conv("strides and dilations", _X, _W, dilations=[2, 2], strides=[2, 2], lifted=""),
    _conv("same upper", x("b", 4, 12, 11), _W, auto_pad="SAME_UPPER", strides=[2, 2]),
    _conv("same upper, open", _X, _W, auto_pad="SAME_UPPER", strides=[2, 2]),
    _conv("depthwise", _X, normal(4, 1, 3, 3), normal(4), lifted="DepthwiseConv2D", group=4),
    _conv(
        "depthwise twice",
        _X,
        normal(8, 1, 3, 3),
        lifted="DepthwiseConv2D",
        group=4,
        strides=[2, 2],
        pads=[1, 1, 1, 1],
    ),
    _conv("smaller than its window", x("b", 4, 3, 4), normal(6, 4, 5, 5), pads=[2, 2, 2, 2], strides=[2, 2]),
    _conv("groups", _X, normal(6, 2, 3, 3, scale=0.3), group=2),
    _conv("1d", x("b", 4, "t"), normal(6, 4, 3, scale=0.3), normal(6), pads=[1, 1], lifted="Conv1D"),
    _conv("3d", x("b", 2, "t", 5, 6), normal(3, 2, 2, 2, 2, scale=0.3), lifted="Conv3D"),
    _conv("computed kernel", _X, x(6, 4, 3, 3), lifted=""),
    *[
        row
        for name in ("MaxPool", "AveragePool")
        for row in (
            _pool(name, "valid"),
            _pool(name, "strides", strides=[2, 1]),
            _pool(name, "pads", name == "MaxPool", pads=[1, 0, 1, 1], strides=[2, 2]),
            _pool(name, "same", name == "MaxPool", auto_pad="SAME_UPPER"),
        )
    ],
    _pool("AveragePool", "pads count", pads=[1, 0, 1, 1], count_include_pad=1),
    *[
        _pool("AveragePool", f"same, open, {what}", False, auto_pad="SAME_UPPER", strides=[2, 2], **counts)
        for what, counts in (("pads count", {"count_include_pad": 1}), ("pads do not count", {}))
    ],
    OnnxCase(
        "AveragePool",
        (x("b", 4, "t"),),
        {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_UPPER"},
        "1d, same, open",
    ),
    _pool("MaxPool", "dilated", False, dilations=[2, 1]),
    OnnxCase(
        "MaxPool", (x("b", 4, 12, 11),), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, "ceil"
    ),
    OnnxCase("GlobalAveragePool", (_X,), lifted="GlobalAveragePooling2D"),
    OnnxCase("GlobalMaxPool", (_X,), lifted="GlobalMaxPooling2D"),
    _transposed("valid", _X, _UP, normal(6)),
    _transposed("strides", _X, _UP, strides=[2, 3]),
    _transposed("wide strides", _X, _UP, strides=[4, 5]),
    _transposed("pads", _X, _UP, normal(6), strides=[2, 2], pads=[1, 0, 1, 1], output_padding=[1, 0]),
    _transposed("1d", x("b", 4, "t"), normal(4, 6, 3, scale=0.3), lifted="Conv1DTranspose", strides=[2]),
]
