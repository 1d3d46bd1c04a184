"""A small two-layer artifact, made without a framework: what the artifact, runtime and fault tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from interop.artifact.tensors import Placement
from interop.artifact.writing import BundleFiles, write_bundle
from interop.formats.source import ArraySource

DOMAIN = "interop.layers"
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
DIRECTORY, ZIP = "model", "model.interop"
FORMS = (DIRECTORY, ZIP)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "first/kernel": rng.standard_normal((4, 3), dtype=np.float32),
        "first/bias": rng.standard_normal(3, dtype=np.float32),
        "second/kernel": rng.standard_normal((3, 16), dtype=np.float32),
        "second/bias": rng.standard_normal(16, dtype=np.float32),
    }


SEED_STATE = {"dropout/seed_generator_state": np.array([1, 2], np.uint32)}
OPTIMIZER = {"iterations": np.array(7, np.int64), "first/kernel/momentum": np.full((4, 3), 0.5, np.float32)}


def expected(x: np.ndarray, seed: int = 0) -> np.ndarray:
    w = weights(seed)
    return (x @ w["first/kernel"] + w["first/bias"]) @ w["second/kernel"] + w["second/bias"]


def external(name: str, array: np.ndarray, placement: Placement) -> TensorProto:
    tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    for key in ("location", "offset", "length"):
        tensor.external_data.add(key=key, value=str(getattr(placement, key)))
    return tensor


def dense() -> Any:
    """The local function that both layers call."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    return helper.make_function(DOMAIN, "Dense", ["x", "w", "b"], ["y"], nodes, OPSETS)


def graph(placements: Mapping[str, Placement], seed: int = 0) -> ModelProto:
    calls = [
        helper.make_node(
            "Dense", [x, f"{layer}/kernel", f"{layer}/bias"], [y], name=f"{layer}#0", domain=DOMAIN
        )
        for layer, x, y in (("first", "x", "h"), ("second", "h", "y"))
    ]
    made = helper.make_graph(
        calls,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [external(name, array, placements[name]) for name, array in weights(seed).items()],
    )
    return helper.make_model(made, functions=[dense()], opset_imports=OPSETS, ir_version=9)


def config(variables: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "format": "interop",
        "format_version": 1,
        "min_reader_version": 1,
        "producer": "interop 0.1.0",
        "source": {"framework": "keras", "version": "3.10.0"},
        "model": {
            "name": "model",
            "object": {"class_name": "Sequential", "config": {}},
            "build": None,
            "compile": None,
            "optimizer": None,
            "layers": [],
        },
        "variables": [
            {"key": key, "dtype": a.dtype.name, "shape": list(a.shape), "trainable": True, "role": "weight"}
            for key, a in variables.items()
        ],
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4], "bounds": None}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 16]}],
            "input_structure": 0,
            "output_structure": 0,
        },
        "opset": 20,
        "ir_version": 9,
    }


def save(
    path: Path,
    seed: int = 0,
    *,
    change: Callable[[ModelProto], None] | None = None,
    overwrite: bool = True,
) -> BundleFiles:
    """Write the artifact; `change` edits its graph first."""
    variables = weights(seed) | SEED_STATE

    def serialize(placements: Mapping[str, Placement]) -> bytes:
        model = graph(placements, seed)
        if change is not None:
            change(model)
        return model.SerializeToString()

    return write_bundle(
        path,
        config=config(variables),
        graph=serialize,
        weights={key: ArraySource(array) for key, array in variables.items()},
        optimizer={key: ArraySource(array) for key, array in OPTIMIZER.items()},
        overwrite=overwrite,
    )


def contents(path: Path) -> bytes | dict[str, bytes]:
    """Every byte of an artifact of either form."""
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())} if path.is_dir() else path.read_bytes()
