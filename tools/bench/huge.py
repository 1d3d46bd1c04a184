"""Weights over 2 and 4 GB: saved and opened in both forms, run, and compared with the sources.

    python tools/bench/run.py --only huge

Needs that much disk, and memory for a tensor of 64 MB. No peer and no target but right values.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
from measure import Row
from numpy.typing import NDArray
from onnx import TensorProto, helper

from interop.artifact.bundle import open_bundle
from interop.artifact.tensors import Placement
from interop.artifact.writing import write_bundle
from interop.loading import load_graph

WIDTH = 4096


@dataclass(frozen=True)
class Kernel:
    """A square kernel made when it is read: each step of the chain rotates its input and scales it."""

    index: int
    dtype: str = "float32"
    shape: tuple[int, ...] = (WIDTH, WIDTH)

    def read(self) -> NDArray[Any]:
        kernel = np.zeros(self.shape, np.float32)
        rows = np.arange(WIDTH)
        kernel[rows, (rows + self.index) % WIDTH] = 1 + self.index / 1024
        return kernel


def serialize(count: int, placements: Mapping[str, Placement]) -> bytes:
    """A chain of `count` matrix products."""
    initializers = []
    for name, placement in placements.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            tensor.external_data.add(key=key, value=str(getattr(placement, key)))
        initializers.append(tensor)
    nodes = [
        helper.make_node("MatMul", [f"h{i}", f"step_{i:03d}/kernel"], [f"h{i + 1}"], name=f"step_{i:03d}#0")
        for i in range(count)
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in ("h0", f"h{count}")
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializers)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    ).SerializeToString()
    return data


def config(count: int, kernels: Mapping[str, Kernel]) -> dict[str, Any]:
    """The least that a config may hold."""
    ends = [{"name": name, "dtype": "float32", "shape": ["batch", WIDTH]} for name in ("h0", f"h{count}")]
    return {
        "format": "interop",
        "format_version": 1,
        "min_reader_version": 1,
        "producer": "tools/bench/huge.py",
        "source": {"framework": "none", "version": "0"},
        "model": {"name": "chain", "object": {}, "layers": []},
        "variables": [{"key": k, "dtype": v.dtype, "shape": list(v.shape)} for k, v in kernels.items()],
        "signature": {
            "inputs": ends[:1],
            "outputs": ends[1:],
            "input_structure": 0,
            "output_structure": 0,
        },
        "opset": 20,
        "ir_version": 9,
    }


def expected(x: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    for index in range(count):
        x = np.roll(x * np.float32(1 + index / 1024), index, axis=1)
    return x


def rows(quick: bool) -> Iterator[Row]:
    """A row for each form."""
    for name in ("huge", "huge.interop"):
        sample = measure.child("huge.py", name, 0.3 if quick else 4.5)
        if failed := measure.error([sample]):
            yield Row("huge", name, "", None, None, None, "right", False, failed)
            continue
        note = (
            f"{sample['gigabytes']:.2f} GB: save {sample['save_seconds']:.1f} s "
            f"(peak +{sample['save_extra_mb']:.0f} MB), hash {sample['hash_seconds']:.1f} s, "
            f"load_graph {sample['load_seconds']:.3f} s"
        )
        yield Row("huge", name, "", None, None, None, "right", sample["right"], note, sample)


def main(name: str, gigabytes: float) -> None:
    """The child: save, open, verify and run one form."""
    count = max(1, round(gigabytes * 1e9 / (4 * WIDTH * WIDTH)))
    kernels = {f"step_{index:03d}/kernel": Kernel(index) for index in range(count)}
    with tempfile.TemporaryDirectory(dir=measure.WORK) as folder:
        path = Path(folder, name)
        measure.reset_peak()
        before, started = measure.resident_mb(), time.perf_counter()
        written = write_bundle(
            path,
            config=config(count, kernels),
            graph=lambda placements: serialize(count, placements),
            weights=kernels,
        )
        saved, extra_mb = time.perf_counter() - started, measure.peak_mb() - before
        started = time.perf_counter()
        with open_bundle(path, verify_digest=True) as bundle:
            hashed = time.perf_counter() - started
            last = f"step_{count - 1:03d}/kernel"
            right = bool(np.array_equal(bundle.weights[last], kernels[last].read()))
            placed = bundle.weights.shapes[last] == (WIDTH, WIDTH)
        started = time.perf_counter()
        graph = load_graph(path, low_memory=True)
        loaded = time.perf_counter() - started
        x = np.random.default_rng(0).standard_normal((2, WIDTH), dtype=np.float32)
        right = right and placed and bool(np.allclose(graph(x), expected(x, count), rtol=1e-4, atol=1e-4))
    measure.report(
        right=right,
        gigabytes=written.size_bytes / 1e9,
        save_seconds=saved,
        save_extra_mb=extra_mb,
        hash_seconds=hashed,
        load_seconds=loaded,
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
