"""Operations of TensorFlow that tf2onnx has no form of, or a wrong one, made by the emitters of Keras' operations.

Enters: the model of tf2onnx, in which such an operation stands as it did in TensorFlow. Leaves: the same model, where
each of them calls a local function.

A complex tensor is one of floats with a last axis of two, real and imaginary. Only the operations here know that, so
any other that would be given one is refused.

To add an operation: a function ``(e, node, *values)`` under the name it has in ``tf.raw_ops``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np

from interop.backend import choose_backend
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import find_op
from interop.capture.keras.symint import SymInt
from interop.errors import UnsupportedOp
from interop.graph.assemble import assemble_flat
from interop.graph.record import Recorder, Value
from interop.graph.typecodes import dtype_name, onnx_type_code

Form = Callable[..., Any]
F = TypeVar("F", bound=Form)

_DOMAIN = "interop.tensorflow"
_COMPLEX = {"complex64": "float32", "complex128": "float64"}
_RAISED_ERF = "RaisedErf"  # a name of ours
_FORMS: dict[str, Form] = {}
_COMPLEX_FORMS: dict[str, Form] = {}  # operators that tf2onnx made, where their tensors are complex
_ELEMENTWISE = {
    *("Erfc", "Erfinv", "Expm1", "Log1p", "MulNoNan", "Ndtri", "NextAfter", "TFL_GELU", "TruncateMod"),
    *("Xdivy", "Xlog1py", "Xlogy", _RAISED_ERF),
}
"""Operations that need not know a rank."""


class _Operation:
    """An operation as a form sees it.

    Attributes:
        node: the ``ir.Node``.
        dtypes: of its outputs; of a complex one, that of its parts.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self.dtypes = [_COMPLEX.get(dtype, dtype) for dtype in map(_dtype, node.outputs)]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; texts are decoded."""
        attribute = self.node.attributes.get(name)
        value = default if attribute is None else attribute.value
        return value.decode() if isinstance(value, bytes) else value


class _Inline(Emit):
    """Writes every constant where it is used: a function has no initializers."""

    def constant(self, array: Any, dtype: str | None = None) -> Value:
        array = np.asarray(array, dtype)
        return Value("constant", array.dtype.name, array.shape, array=np.asarray(array, order="C"))


def handlers() -> dict[str, Any]:
    """For tf2onnx: each of these operations is left as it is."""
    return {name: (_left, []) for name in _FORMS}


def _left(ctx: Any, node: Any, name: str, args: Any) -> None:
    """Do nothing."""


def describe(model: Any, graph: Any) -> None:
    """Note dtypes and shapes of inner values, which a model of tf2onnx does not carry and its graph knows."""
    import onnx_ir as ir

    graphs, known = [graph], {}
    while graphs:
        one = graphs.pop()
        for node in one.get_nodes():
            graphs += (node.get_body_graphs() or {}).values()
            for name in (*node.input, *node.output):
                if name and name not in known and one.get_dtype(name):
                    known[name] = one.get_dtype(name), one.get_shape(name)
    for node in model.graph.all_nodes():
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.name in known:
                dtype, shape = known[value.name]
                value.type = ir.TensorType(ir.DataType(dtype))
                value.shape = (
                    None if shape is None else ir.Shape([dim if dim >= 0 else None for dim in shape])
                )


def with_own_forms(model: Any, opset: int) -> Any:
    """Give every operation that is known here a function.

    Args:
        model: an ``ir.Model`` of tf2onnx, its values described; it is changed.
        opset: of the model.

    Raises:
        UnsupportedOp: complex numbers reach an operation that is not known here, or a rank is not known.
    """
    import onnx_ir as ir

    nodes = list(model.graph.all_nodes())
    parts = _complex_values(model, nodes)
    for number, node in enumerate(nodes):
        _note_gelu(node)
        if node.domain == "" and (form := _form_of(node, parts)) is not None:
            name = f"{node.op_type}_{number}"
            graph = _graph(node, form, opset, parts)
            model.functions[(_DOMAIN, name, "")] = ir.Function(_DOMAIN, name, graph=graph, attributes=[])
            node.domain, node.op_type = _DOMAIN, name
            node.attributes.clear()
            model.opset_imports[_DOMAIN] = 1
    for value in parts:
        dtype = _COMPLEX[_dtype(value)]
        value.type, value.shape = ir.TensorType(ir.DataType(onnx_type_code(dtype))), None
    return model


def _dtype(value: Any) -> str:
    """The name of a value's dtype; empty where it is not known."""
    if value.dtype is None or not int(value.dtype):
        return ""
    name = str(value.dtype.name).lower()
    return name if name in _COMPLEX else dtype_name(int(value.dtype))


def _form_of(node: Any, parts: set[Any]) -> Form | None:
    if node.op_type in _FORMS:
        return _FORMS[node.op_type]
    return _COMPLEX_FORMS.get(node.op_type) if parts & {*node.inputs, *node.outputs} else None


def _complex_values(model: Any, nodes: Collection[Any]) -> set[Any]:
    """All complex tensors.

    Raises:
        UnsupportedOp: an operation that is not known here makes or takes one, or one is an input or output.
    """
    found = set()
    for node in nodes:
        touched = {v for v in (*node.inputs, *node.outputs) if v is not None and _dtype(v) in _COMPLEX}
        if touched and node.op_type not in (*_FORMS, *_COMPLEX_FORMS, "Identity"):
            raise UnsupportedOp(
                f"the TensorFlow operation {node.op_type} on complex numbers has no ONNX form. Write it with the real "
                "and the imaginary part: tf.math.real, tf.math.imag, tf.complex"
            )
        found |= touched
    if found & {*model.graph.inputs, *model.graph.outputs}:
        raise UnsupportedOp(
            "ONNX Runtime takes and returns no complex numbers. Let the function take and return real and imaginary "
            "parts: tf.math.real, tf.math.imag"
        )
    return found


def _graph(node: Any, form: Form, opset: int, parts: set[Any]) -> Any:
    """The ``ir.Graph`` of an operation, with the inputs and outputs of its node."""
    choose_backend()
    recorder = Recorder(opset)
    e = _Inline(recorder)
    operation = _Operation(node)
    values = [
        _value(recorder, index, value, node.op_type, value in parts)
        for index, value in enumerate(node.inputs)
        if value is not None
    ]
    specs = [
        SimpleNamespace(dtype=dtype, shape=_dims(value, node.op_type, f"output_{index}"))
        for index, (dtype, value) in enumerate(zip(operation.dtypes, node.outputs, strict=True))
    ]
    e.spec = specs[0] if len(specs) == 1 else specs
    e.arguments = [value for value in values if value.kind == "input"]
    made = form(e, operation, *values)
    made = list(made) if isinstance(made, list | tuple) else [made]
    outputs = [
        (f"output_{index}", e.node("Identity", e.cast(value, dtype), shape=()))
        for index, (value, dtype) in enumerate(zip(made, operation.dtypes, strict=True))
    ]
    graph = assemble_flat(recorder.finish(outputs), lambda value: None).graph
    graph.opset_imports[""] = opset
    for value in graph.outputs:
        value.shape = None
    return graph


def _value(recorder: Recorder, index: int, value: Any, operation: str, is_complex: bool) -> Value:
    """An input of the function; what is known is a constant for the form."""
    dtype = _COMPLEX.get(_dtype(value), _dtype(value))
    if value.shape is None and operation not in _ELEMENTWISE:
        raise UnsupportedOp(f"the rank of an input of the TensorFlow operation {operation} is not known")
    dims = _dims(value, operation, f"input_{index}") or ()
    made = recorder.input(f"input_{index}", dtype, (*dims, 2) if is_complex else dims)
    if value.const_value is None:
        return made
    array = value.const_value.numpy()
    if is_complex:
        array = np.stack([array.real, array.imag], axis=-1)
    return Value("constant", dtype, array.shape, array=array)


def _dims(value: Any, operation: str, label: str) -> tuple[Any, ...] | None:
    """The shape of a value, where the rank is known; a size that is not known is a symbol.

    Of an elementwise operation the sizes of one axis from the right are one, else those of the first axis.
    """
    if value.shape is None:
        return None
    rank = len(value.shape)
    names = [
        f"right_{rank - axis}" if operation in _ELEMENTWISE else f"{label}_{axis}" for axis in range(rank)
    ]
    if operation not in _ELEMENTWISE:
        names[:1] = ["first"] * len(names[:1])
    return tuple(
        dim if isinstance(dim, int) and dim >= 0 else SymInt.symbol(name, 5 + 2 * axis)
        for axis, (name, dim) in enumerate(zip(names, value.shape, strict=True))
    )


def _known(value: Value, what: str) -> np.ndarray[Any, Any]:
    if value.array is None:
        raise UnsupportedOp(f"{what} must be a constant to be exported")
    return value.array


# --- forms


def _form(*names: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        _FORMS.update(dict.fromkeys(names, function))
        return function

    return decorate


def _keras(e: Emit, key: str, *values: Any, **attributes: Any) -> Any:
    """What the emitter of an operation of Keras makes."""
    emitter = find_op(key, e.opset)
    assert emitter is not None
    return emitter.function(e, *values, **attributes)


def _where(e: Emit, condition: Value, yes: Value, no: Value) -> Value:
    return e.node("Where", condition, yes, no, dtype=no.dtype)


def _zero_if_zero(e: Emit, x: Value, result: Value) -> Value:
    return _where(e, e.binary("Equal", x, e.like(0, x), dtype="bool"), e.like(0, result), result)


for _name in ("Erfinv", "Log1p", "Expm1"):
    _FORMS[_name] = lambda e, node, x, key=_name: _keras(e, key, x)


@_form("Erfc")
def _erfc(e: Emit, node: _Operation, x: Value) -> Any:
    return _keras(e, "Erfc", x)


@_form("TFL_GELU")
def _gelu(e: Emit, node: _Operation, x: Value) -> Value:
    half = e.binary("Mul", x, e.like(0.5, x))
    if node.get("approximate", False):
        cubed = e.binary("Mul", e.binary("Mul", x, x), e.binary("Mul", x, e.like(0.044715, x)))
        inner = e.binary("Mul", e.binary("Add", x, cubed), e.like(math.sqrt(2 / math.pi), x))
        return e.binary("Mul", half, e.binary("Add", e.unary("Tanh", inner), e.like(1, x)))
    return e.binary("Mul", half, _raised_erf(e, node, x))


@_form(_RAISED_ERF)
def _raised_erf(e: Emit, node: _Operation, x: Value) -> Value:
    """1 + erf(x / sqrt(2)), written as runtimes look for it where they fuse Gelu."""
    return e.binary("Add", e.unary("Erf", e.binary("Div", x, e.like(math.sqrt(2), x))), e.like(1, x))


def _note_gelu(node: Any) -> None:
    """Make the erfc(-x / sqrt(2)) of ``tf.nn.gelu`` 1 + erf: the tail that this loses is multiplied by 0."""
    scaled = node.inputs[0].producer() if node.op_type == "Erfc" else None
    if scaled is None or scaled.op_type != "Mul":
        return
    for turned, factor in (scaled.inputs, reversed(scaled.inputs)):
        negated = turned.producer()
        known = factor.const_value
        if negated is None or negated.op_type != "Neg" or known is None or known.size != 1:
            continue
        if math.isclose(known.numpy().item(), math.sqrt(0.5), rel_tol=1e-2):
            node.op_type = _RAISED_ERF
            node.replace_input_with(0, negated.inputs[0])
            return


@_form("Ndtri")
def _ndtri(e: Emit, node: _Operation, p: Value) -> Value:
    centred = e.binary("Sub", e.binary("Mul", p, e.like(2, p)), e.like(1, p))
    return e.binary("Mul", _keras(e, "Erfinv", centred), e.like(math.sqrt(2), p))


@_form("Xlogy")
def _xlogy(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Mul", x, e.unary("Log", y)))


@_form("Xlog1py")
def _xlog1py(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Mul", x, _keras(e, "Log1p", y)))


@_form("Xdivy")
def _xdivy(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Div", x, y))


@_form("MulNoNan")
def _mul_no_nan(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, y, e.binary("Mul", x, y))


@_form("NextAfter")
def _next_after(e: Emit, node: _Operation, x: Value, y: Value) -> Any:
    return _keras(e, "Nextafter", x, y)


@_form("TruncateMod")
def _truncate_mod(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    return e.node("Mod", x, y, fmod=1)


@_form("L2Loss")
def _l2_loss(e: Emit, node: _Operation, x: Value) -> Value:
    return e.binary("Mul", e.reduce("ReduceSumSquare", x, None), e.like(0.5, x))


@_form("EuclideanNorm")
def _euclidean_norm(e: Emit, node: _Operation, x: Value, axes: Value) -> Value:
    axes = e.node("Reshape", e.cast(axes, "int64"), [-1])
    return e.node("ReduceL2", x, axes, keepdims=int(node.get("keep_dims", False)), noop_with_empty_axes=1)


@_form("Cross")
def _cross(e: Emit, node: _Operation, a: Value, b: Value) -> Value:
    def turned(x: Value, by: int) -> Value:
        return e.node("Gather", x, np.roll(np.arange(3), by), shape=x.shape, axis=-1)

    left = e.binary("Mul", turned(a, -1), turned(b, 1))
    return e.binary("Sub", left, e.binary("Mul", turned(a, 1), turned(b, -1)))


@_form("InTopKV2", "InTopK")
def _in_top_k(e: Emit, node: _Operation, predictions: Value, targets: Value, *k: Value) -> Any:
    count = int(_known(k[0], "k of tf.math.in_top_k")) if k else node.get("k")
    return _keras(e, "InTopK", targets, predictions, k=count)


def _counted(e: Emit, op_type: str, edges: Value, values: Value, dtype: str) -> Value:
    before = e.cast(e.node(op_type, edges, values, dtype="bool"), "int32")
    return e.cast(e.node("ReduceSum", before, [-1], keepdims=0), dtype)


@_form("LowerBound", "UpperBound")
def _bound(e: Emit, node: _Operation, edges: Value, values: Value) -> Value:
    """How many of a row's edges lie before each value of that row."""
    op_type = "Less" if node.node.op_type == "LowerBound" else "LessOrEqual"
    edges, values = e.node("Unsqueeze", edges, [1]), e.node("Unsqueeze", values, [2])
    return _counted(e, op_type, edges, values, node.dtypes[0])


@_form("Bucketize")
def _bucketize(e: Emit, node: _Operation, x: Value) -> Value:
    edges = e.constant(np.asarray(list(node.get("boundaries", ())), "float32"))
    x = e.node("Unsqueeze", e.cast(x, "float32"), [-1])
    return _counted(e, "LessOrEqual", edges, x, node.dtypes[0])


@_form("ShapeN")
def _shapes(e: Emit, node: _Operation, *tensors: Value) -> list[Value]:
    return [
        e.cast(e.node("Shape", x, dtype="int64"), dtype)
        for x, dtype in zip(tensors, node.dtypes, strict=True)
    ]


@_form("UnravelIndex")
def _unravel(e: Emit, node: _Operation, places: Value, dims: Value) -> Value:
    sizes = _known(dims, "the shape given to tf.unravel_index")
    rows = []
    for axis, size in enumerate(sizes):
        stride = e.like(int(np.prod(sizes[axis + 1 :])), places)
        row = e.node("Mod", e.binary("Div", places, stride), e.like(int(size), places), shape=places.shape)
        rows.append(e.node("Unsqueeze", row, [0]))
    return e.node("Concat", *rows, axis=0)


@_form("InvertPermutation")
def _inverted(e: Emit, node: _Operation, places: Value) -> Any:
    return _keras(e, "Argsort", places, axis=0)


@_form("ScatterNd")
def _scatter(e: Emit, node: _Operation, places: Value, updates: Value, dims: Value) -> Value:
    """What goes to one place adds up."""
    zero = np.zeros(1, updates.dtype)
    base = e.node("ConstantOfShape", e.cast(dims, "int64"), dtype=updates.dtype, value=zero)
    return e.node("ScatterND", base, e.cast(places, "int64"), updates, reduction="add")


@_form("FakeQuantWithMinMaxVarsPerChannel")
def _fake_quantised(e: Emit, node: _Operation, x: Value, low: Value, high: Value) -> Value:
    """Source: tensorflow/core/kernels/fake_quant_ops_functor.h (Nudge)."""
    first = e.like(float(bool(node.get("narrow_range", False))), x)
    last = e.like(float(2 ** node.get("num_bits", 8) - 1), x)
    step = e.binary("Div", e.binary("Sub", high, low), e.binary("Sub", last, first))
    zero = e.binary("Sub", first, e.binary("Div", low, step))
    half_up = e.unary("Floor", e.binary("Add", zero, e.like(0.5, x)))
    zero = e.node("Min", e.node("Max", half_up, first), last)
    low, high = (e.node("Mul", e.node("Sub", end, zero), step) for end in (first, last))
    inside = e.node("Min", e.node("Max", x, low), high)
    steps = e.node("Div", e.node("Sub", inside, low), step)
    whole = e.unary("Floor", e.node("Add", steps, e.like(0.5, x)))
    return e.node("Add", e.node("Mul", whole, step), low)


@_form("RGBToHSV")
def _rgb_to_hsv(e: Emit, node: _Operation, images: Value) -> Value:
    from interop.capture.keras.ops.image import to_hsv

    return to_hsv(e, images, images.rank - 1, as_tensorflow=True)


@_form("HSVToRGB")
def _hsv_to_rgb(e: Emit, node: _Operation, images: Value) -> Value:
    from interop.capture.keras.ops.image import from_hsv

    return from_hsv(e, images, images.rank - 1, as_tensorflow=True)


@_form("ScaleAndTranslate")
def _scaled(e: Emit, node: _Operation, images: Value, size: Value, scale: Value, translation: Value) -> Any:
    """``tf.image.resize`` with ``antialias``, and by the methods that always take it."""
    kernel = node.get("kernel_type", "lanczos3")
    methods = {"lanczos3": "lanczos3", "lanczos5": "lanczos5", "triangle": "linear", "keyscubic": "cubic"}
    if kernel not in methods:
        raise UnsupportedOp(
            f"tf.image.resize with the kernel {kernel!r} has no ONNX form. Take bilinear, bicubic, lanczos3 or lanczos5"
        )
    height, width = (int(n) for n in _known(size, "the size given to tf.image.resize"))
    return _keras(
        e,
        "ScaleAndTranslate",
        e.cast(images, "float32"),
        (images.dims[0], height, width, images.dims[3]),
        scale,
        translation,
        spatial_dims=(1, 2),
        method=methods[kernel],
        antialias=bool(node.get("antialias", True)),
    )


@_form("AdjustSaturation")
def _saturated(e: Emit, node: _Operation, images: Value, factor: Value) -> Value:
    from interop.capture.keras.ops.image import from_hsv, to_hsv

    three = [(images.dtype, (*images.dims[:-1], 1))] * 3
    colours = to_hsv(e, images, images.rank - 1, as_tensorflow=True)
    hue, saturation, value = e.nodes("Split", colours, [1, 1, 1], outputs=three, axis=images.rank - 1)
    scaled = e.node("Mul", saturation, e.cast(factor, images.dtype))
    scaled = e.node("Clip", scaled, e.like(0, images), e.like(1, images), shape=hue.shape)
    made = e.concat([hue, scaled, value], images.rank - 1)
    return from_hsv(e, made, images.rank - 1, as_tensorflow=True)


@_form("ExtractImagePatches")
def _patches(e: Emit, node: _Operation, images: Value) -> Any:
    return _keras(
        e,
        "ExtractPatches",
        images,
        size=tuple(node.get("ksizes"))[1:3],
        strides=tuple(node.get("strides"))[1:3],
        dilation_rate=tuple(node.get("rates"))[1:3],
        padding=str(node.get("padding")).lower(),
        data_format="channels_last",
    )


@_form("ResizeArea", "ResizeBicubic")
def _resized(e: Emit, node: _Operation, images: Value, size: Value) -> Value:
    """As ``tf.image.resize`` asks for it: samples at the centres of pixels."""
    from interop.capture.keras.ops import resampling

    area = node.node.op_type == "ResizeArea"
    if node.get("align_corners", False) or not (area or node.get("half_pixel_centers", False)):
        raise UnsupportedOp(f"{node.node.op_type} as in TensorFlow 1 has no ONNX form. Take tf.image.resize")
    do, x = resampling.Terms(e), e.cast(images, "float32")
    for axis, count in enumerate(_known(size, "the size given to tf.image.resize").tolist(), 1):
        known = x.dims[axis]
        step = do("Div", do.size(known), do.size(count))
        if area:
            weights = resampling.shares(do, known, count, step)
        else:
            weights = resampling.bicubic_as_tensorflow(do, known, count, step)
        x = resampling.weighted(e, x, axis, do.value(weights, x.dtype), count)
    return x


@_form("StringLower", "StringUpper")
def _cased(e: Emit, node: _Operation, text: Value) -> Value:
    """ASCII letters only, unless UTF-8 is asked for."""
    change = node.node.op_type.removeprefix("String").upper()
    locale = "en_US.UTF-8" if node.get("encoding", "") == "utf-8" else "C"
    flat = e.node("Reshape", text, [-1])
    made = e.node("StringNormalizer", flat, case_change_action=change, locale=locale)
    return e.node("Reshape", made, e.node("Shape", text, dtype="int64"))


# Linear algebra


def _matrix(e: Emit, node: _Operation, x: Value) -> Value:
    """A matrix, or its transpose where the operation asks for the adjoint."""
    if not node.get("adjoint", False):
        return x
    return e.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


@_form("Cholesky")
def _cholesky(e: Emit, node: _Operation, x: Value) -> Any:
    return _keras(e, "Cholesky", x, upper=False)


@_form("MatrixInverse")
def _inverse(e: Emit, node: _Operation, x: Value) -> Any:
    return _keras(e, "Inv", _matrix(e, node, x))


@_form("MatrixSolve")
def _solve(e: Emit, node: _Operation, a: Value, b: Value) -> Any:
    return _keras(e, "Solve", _matrix(e, node, a), b)


@_form("MatrixTriangularSolve")
def _solve_triangular(e: Emit, node: _Operation, a: Value, b: Value) -> Any:
    lower = bool(node.get("lower", True)) != bool(node.get("adjoint", False))
    return _keras(e, "SolveTriangular", _matrix(e, node, a), b, lower=lower)


@_form("LogMatrixDeterminant")
def _slogdet(e: Emit, node: _Operation, x: Value) -> Any:
    return _keras(e, "Slogdet", x)


# Complex numbers


def _parts(e: Emit, x: Value) -> tuple[Value, Value]:
    def part(place: int) -> Value:
        return e.node("Gather", x, e.scalar(place, "int64"), shape=x.dims[:-1], axis=x.rank - 1)

    return part(0), part(1)


def _joined(e: Emit, real: Value, imaginary: Value) -> Value:
    pair = [e.node("Unsqueeze", part, [-1]) for part in (real, imaginary)]
    return e.node("Concat", *pair, axis=-1)


@_form("Complex")
def _complex(e: Emit, node: _Operation, real: Value, imaginary: Value) -> Value:
    shape = e.node("Shape", e.node("Add", real, imaginary), dtype="int64")
    return _joined(e, e.node("Expand", real, shape), e.node("Expand", imaginary, shape))


@_form("Real")
def _real(e: Emit, node: _Operation, x: Value) -> Value:
    return _parts(e, x)[0]


@_form("Imag")
def _imag(e: Emit, node: _Operation, x: Value) -> Value:
    return _parts(e, x)[1]


@_form("Conj")
def _conj(e: Emit, node: _Operation, x: Value) -> Value:
    real, imaginary = _parts(e, x)
    return _joined(e, real, e.unary("Neg", imaginary))


@_form("ComplexAbs")
def _complex_abs(e: Emit, node: _Operation, x: Value) -> Value:
    return e.node("ReduceL2", x, [-1], keepdims=0)


@_form("Angle")
def _angle(e: Emit, node: _Operation, x: Value) -> Any:
    real, imaginary = _parts(e, x)
    return _keras(e, "Arctan2", imaginary, real)


@_form("FFT")
def _fft(e: Emit, node: _Operation, x: Value) -> Value:
    return _joined(e, *_keras(e, "FFT", _parts(e, x)))


def _on_complex(*names: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        _COMPLEX_FORMS.update(dict.fromkeys(names, function))
        return function

    return decorate


@_on_complex("Cast")
def _cast(e: Emit, node: _Operation, x: Value) -> Value:
    """From and to complex numbers; a real one that was complex keeps its real part."""
    given, wanted = (_dtype(values[0]) in _COMPLEX for values in (node.node.inputs, node.node.outputs))
    if given and wanted:
        return e.cast(x, node.dtypes[0])
    if given:
        return _parts(e, x)[0]
    x = e.cast(x, node.dtypes[0])
    return _joined(e, x, e.binary("Mul", x, e.like(0, x)))


@_on_complex("Add", "Sub", "Neg")
def _alike(e: Emit, node: _Operation, *values: Value) -> Value:
    return e.node(node.node.op_type, *values)


@_on_complex("Mul")
def _product(e: Emit, node: _Operation, x: Value, y: Value) -> Value:
    (a, b), (c, d) = _parts(e, x), _parts(e, y)
    real = e.node("Sub", e.node("Mul", a, c), e.node("Mul", b, d))
    return _joined(e, real, e.node("Add", e.node("Mul", a, d), e.node("Mul", b, c)))


@_on_complex("Slice")
def _slice(
    e: Emit, node: _Operation, x: Value, starts: Value, ends: Value, axes: Value, *steps: Value
) -> Value:
    """Axes counted from the end move by the one that the parts are along."""
    axes = _where(
        e, e.node("Less", axes, e.like(0, axes), dtype="bool"), e.node("Sub", axes, e.like(1, axes)), axes
    )
    return e.node("Slice", x, starts, ends, axes, *steps)


@_form("RFFT2D")
def _rfft2(e: Emit, node: _Operation, x: Value, length: Value) -> Value:
    count = int(_known(length, "fft_length of tf.signal.rfft2d")[-1])
    joined = _joined(e, *_keras(e, "FFT2", (x, e.binary("Mul", x, e.like(0, x)))))
    return e.node("Slice", joined, [0], [count // 2 + 1], [-2])


@_form("FFT2D")
def _fft2(e: Emit, node: _Operation, x: Value) -> Value:
    return _joined(e, *_keras(e, "FFT2", _parts(e, x)))


@_form("IFFT2D")
def _ifft2(e: Emit, node: _Operation, x: Value) -> Value:
    return _joined(e, *_keras(e, "IFFT2", _parts(e, x)))


@_form("RFFT")
def _rfft(e: Emit, node: _Operation, x: Value, length: Value) -> Value:
    count = int(_known(length, "fft_length of tf.signal.rfft").item())
    e.spec = [SimpleNamespace(dtype=x.dtype)]
    return _joined(e, *_keras(e, "RFFT", x, fft_length=count))


@_form("IRFFT")
def _irfft(e: Emit, node: _Operation, x: Value, length: Value) -> Any:
    count = int(_known(length, "fft_length of tf.signal.irfft").item())
    return _keras(e, "IRFFT", _parts(e, x), fft_length=count)
