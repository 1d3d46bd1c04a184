"""The cases of ``onnx.backend.test``: models with inputs and the outputs they must have.

Leaves: node cases, which are made in memory, and the models that the onnx package brings as files: small ones, and the
``light`` ones, which have the graphs of well-known networks and make their weights themselves. Models that would be
downloaded are left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FILE_KINDS = ("simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        name: unique.
        kind: "node", or the folder of the model.
        model: the graph.
        data: inputs and expected outputs, for one or more calls.
        rtol: relative tolerance of the test.
        atol: absolute tolerance.
    """

    name: str
    kind: str
    model: onnx.ModelProto
    data: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float


def all_cases() -> list[Case]:
    """Every case, in order of name."""
    from onnx.backend.test.loader import load_model_tests

    found = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for test in load_model_tests(kind="node"):
            if test.model is None or test.data_sets is None:
                raise ValueError(f"{test.name} has no model in memory")
            data = tuple(
                ([_array(x) for x in inputs], [_array(x) for x in outputs])
                for inputs, outputs in test.data_sets
            )
            found.append(Case(test.name, "node", test.model, data, test.rtol, test.atol))
        for kind in FILE_KINDS:
            for test in load_model_tests(kind=kind):
                folder = Path(test.model_dir or "")
                model = onnx.load(os.fspath(folder / "model.onnx"))
                data = tuple(_data_sets(folder, model))
                found.append(Case(f"{kind}/{test.name}", kind, model, data, test.rtol, test.atol))
        found += _light_cases()
    return sorted(found, key=lambda case: case.name)


def _light_cases() -> Iterator[Case]:
    """As ``onnx.backend.test.runner`` feeds them: an input that rises from 0 to 1, and the output beside the model."""
    from onnx.backend.test.loader import load_model_tests

    for test in load_model_tests(kind="real"):
        folder = Path(onnx.__file__).parent.parent
        path = folder / str(test.url)
        if not path.is_file():
            continue
        model = onnx.load(os.fspath(path))
        held = {tensor.name for tensor in model.graph.initializer}
        inputs = []
        for value in model.graph.input:
            if value.name not in held:
                shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
                size = int(np.prod(shape))
                inputs.append((np.arange(size).reshape(shape) / size).astype("float32"))
        outputs = [
            numpy_helper.to_array(onnx.load_tensor(os.fspath(path.with_name(f"{path.stem}_output_{i}.pb"))))
            for i in range(len(model.graph.output))
        ]
        yield Case(f"light/{test.name}", "light", model, ((inputs, outputs),), test.rtol, test.atol)


def _array(value: Any) -> Any:
    """Some cases hold arrays, some protos."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _data_sets(folder: Path, model: onnx.ModelProto) -> Iterator[tuple[list[Any], list[Any]]]:
    for data in sorted(folder.glob("test_data_set_*")):
        yield _read(data, "input", model.graph.input), _read(data, "output", model.graph.output)


def _read(folder: Path, what: str, values: Any) -> list[Any]:
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))
    return [_read_value(path, values[i].type) for i, path in enumerate(files)]


def _read_value(path: Path, kind: Any) -> Any:
    content = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def mismatch(got: Any, wanted: Any, case: Case) -> str:
    """Why an output is not the expected one; "" if it is."""
    if isinstance(wanted, list) or wanted is None or isinstance(got, list) or got is None:
        if type(got) is not type(wanted):
            return f"{type(got).__name__} instead of {type(wanted).__name__}"
        if wanted is None:
            return ""
        if len(got) != len(wanted):
            return f"{len(got)} items instead of {len(wanted)}"
        return next(filter(None, (mismatch(a, b, case) for a, b in zip(got, wanted, strict=True))), "")
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.dtype != wanted.dtype:
        return f"dtype {got.dtype} instead of {wanted.dtype}"
    if got.shape != wanted.shape:
        return f"shape {got.shape} instead of {wanted.shape}"
    if got.dtype == object:
        return "" if np.array_equal(got, wanted) else "strings differ"
    if wanted.dtype.kind == "V" or wanted.dtype.name not in np.sctypeDict:
        got, wanted = got.astype("float32"), wanted.astype("float32")
    close = np.isclose(got, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True)
    return "" if close.all() else f"{int((~close).sum())} of {close.size} values differ"


#: Element types that Keras has on no backend, or not on all.
_LACKING = frozenset(
    getattr(onnx.TensorProto, name)
    for name in (
        *("STRING", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"),
        *("FLOAT4E2M1", "INT4", "UINT4", "INT2", "UINT2"),
    )
)


def lacks_types(case: Case) -> bool:
    """Whether a case has inputs, outputs or weights of types that Keras lacks."""
    graph = case.model.graph
    kinds = {_element(value.type) for value in (*graph.input, *graph.output)}
    kinds |= {tensor.data_type for tensor in graph.initializer}
    return bool(kinds & _LACKING)


def _element(kind: onnx.TypeProto) -> int:
    for inner in ("sequence_type", "optional_type"):
        if kind.HasField(inner):
            return _element(getattr(kind, inner).elem_type)
    return int(kind.tensor_type.elem_type)
