"""A graph over many samples: cut into batches, run one after the other, written into place.

What enters: bound inputs with any number of samples. What leaves: one array per output over all samples.

Invariants: inputs are cut before they are cast, so a mapped file is read a batch at a time; outputs are
allocated once, after the first batch has told their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.artifact.signature import Signature, TensorSpec
from interop.errors import SignatureError
from interop.runtime.inputs import check, to_array

Run = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
Report = Callable[[int, int], None]


def in_batches(
    signature: Signature,
    values: Sequence[Any],
    run: Run,
    batch_size: int,
    progress: bool | Report | None,
) -> list[NDArray[Any]]:
    """Run over all samples of `values` (one per input); outputs in graph order.

    Raises:
        SignatureError: inputs that do not fit or differ in samples, or an output without samples.
    """
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise SignatureError(f"batch_size is {batch_size!r}; expected an integer of at least 1")
    arrays = [
        value if hasattr(value, "__array__") else to_array(spec, value)
        for spec, value in zip(signature.inputs, values, strict=True)
    ]
    cut = _cut(signature.inputs)
    if not any(cut):
        raise SignatureError("no input of the graph has an axis of samples; call the graph directly")
    samples = _samples(signature.inputs, arrays, cut)
    batch_size = _fixed_batch(signature.inputs, cut, samples) or batch_size
    whole: list[NDArray[Any]] = []
    with _reporter(progress) as report:
        report(0, samples)
        for start in range(0, max(samples, 1), batch_size):
            stop = min(start + batch_size, samples)
            batch = [
                array[start:stop] if sliced else array for array, sliced in zip(arrays, cut, strict=True)
            ]
            outputs = run(check(signature.inputs, batch))
            whole = whole or [
                _allocate(spec, output, stop - start, samples)
                for spec, output in zip(signature.outputs, outputs, strict=True)
            ]
            for spec, target, output in zip(signature.outputs, whole, outputs, strict=True):
                if output.shape != (stop - start, *target.shape[1:]):
                    raise SignatureError(
                        f"output {spec.name!r} has shape {list(output.shape)} for samples {start} to {stop} "
                        f"but {list(target.shape[1:])} per sample before; call the graph directly"
                    )
                target[start:stop] = output
            report(stop, samples)
    return whole


def _cut(specs: Sequence[TensorSpec]) -> list[bool]:
    """Which inputs are cut into batches: those whose first dim is that of the first input."""
    first = next((spec.shape[0] for spec in specs if spec.shape), None)
    return [bool(spec.shape) and (spec.shape[0] == first or _is_own(spec)) for spec in specs]


def _is_own(spec: TensorSpec) -> bool:
    """Whether the first dim has no name in the graph, so that nothing says it differs from the others."""
    return spec.shape[0] == f"{spec.name}.0"


def _samples(specs: Sequence[TensorSpec], arrays: Sequence[Any], cut: Sequence[bool]) -> int:
    counts = {}
    for spec, array, sliced in zip(specs, arrays, cut, strict=True):
        if sliced:
            if np.ndim(array) == 0:
                raise SignatureError(f"input {spec.name!r} is a scalar; expected samples of {spec}")
            counts[spec.name] = len(array)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise SignatureError(f"the inputs differ in their number of samples: {listed}")
    return next(iter(counts.values()))


def _fixed_batch(specs: Sequence[TensorSpec], cut: Sequence[bool], samples: int) -> int | None:
    """The batch size that the graph insists on, or None."""
    fixed = next(
        (s.shape[0] for s, c in zip(specs, cut, strict=True) if c and isinstance(s.shape[0], int)), None
    )
    if isinstance(fixed, int) and (fixed == 0 or samples % fixed):
        raise SignatureError(
            f"the graph takes batches of {fixed} only; {samples} samples do not divide into them"
        )
    return fixed if isinstance(fixed, int) else None


def _allocate(spec: TensorSpec, output: NDArray[Any], batch: int, samples: int) -> NDArray[Any]:
    if not isinstance(output, np.ndarray) or output.ndim == 0 or output.shape[0] != batch:
        shape = list(output.shape) if isinstance(output, np.ndarray) else type(output).__name__
        raise SignatureError(
            f"output {spec.name!r} has shape {shape} for {batch} samples: it has no axis of samples to put "
            "batches together on; call the graph directly"
        )
    return np.empty((samples, *output.shape[1:]), output.dtype)


@contextmanager
def _reporter(progress: bool | Report | None) -> Iterator[Report]:
    """A function to report progress to: the caller's, a bar's, or one that does nothing."""
    if callable(progress):
        yield progress
    elif progress:
        from rich.progress import Progress

        with Progress() as bar:
            task = bar.add_task("predict", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield show
    else:
        yield lambda done, total: None
