"""Whether files of tf_keras compute what they did: ``python -m tools.legacy_arguments.compare FOLDER [WORDS]``.

Opens the files that `tools.legacy_arguments` wrote whose names contain `WORDS`, and compares outputs, the penalties of
regularizers, losses and metrics of one more training step, and the outputs after it. Prints what is refused, and what
differs with the lines of the report; what differs and is in no report is silently wrong.
"""

from __future__ import annotations

import collections
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import interop
from interop.errors import InteropError

Arrays = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-4


def main(folder: Path, only: str = "") -> None:
    """Compare, and print."""
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    for answers in sorted(folder.glob("*.h5.npz")):
        name = answers.name.removesuffix(".h5.npz")
        if only not in name:
            continue
        with np.load(answers, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        reports: list[Any] = []
        try:
            model = interop.load_model(folder / f"{name}.h5", report=reports.append)
        except InteropError as error:
            counts["refused"] += 1
            print(f"refused   {name}: {str(error).splitlines()[0]:.200}")
            continue
        found = list(_differences(model, arrays))
        told = [str(change) for change in reports[0].changes]
        kind = "same" if not found else "reported" if told else "DIFFERS"
        counts[kind] += 1
        if found:
            print(f"{kind:9} {name}: {'; '.join(found)} {told}")
    print(dict(counts))


def _differences(model: Any, arrays: Arrays) -> Iterator[str]:
    given = {k.removeprefix("input/"): v for k, v in arrays.items() if k.startswith("input/")}
    try:
        x: Any = [given[tensor.name] for tensor in model.inputs]
        x = x[0] if len(x) == 1 else x
        yield from _unequal("output", _called(model, x), arrays)
        if "penalty" in arrays:
            yield from _unequal(
                "penalty", {"": np.asarray(sum(float(loss) for loss in model.losses))}, arrays
            )
        if "loss" in arrays:
            made = model.train_on_batch(x, arrays["target/0"])
            listed = made if isinstance(made, list | tuple) else [made]
            flat = np.concatenate([np.ravel(keras.ops.convert_to_numpy(value)) for value in listed])
            yield from _unequal("metrics", {"": flat}, arrays)
            yield from _unequal("resumed", _called(model, x), arrays)
    except Exception as error:  # noqa: BLE001  whatever a framework fails with is told
        yield f"{type(error).__name__}: {str(error).splitlines()[0]:.120}"


def _called(model: Any, x: Any) -> dict[str, NDArray[Any]]:
    if isinstance(x, np.ndarray) and x.dtype.kind == "U":
        if keras.backend.backend() == "tensorflow":
            x = keras.ops.convert_to_tensor(x)
        else:  # models have no text there, but layers have
            for layer in model.layers[1:]:
                x = layer(x)
            return {"0": keras.ops.convert_to_numpy(x)}
    made = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    return {str(i): value for i, value in enumerate(made if isinstance(made, list | tuple) else [made])}


def _unequal(kind: str, made: Mapping[str, NDArray[Any]], arrays: Arrays) -> Iterator[str]:
    for key, value in made.items():
        name = f"{kind}/{key}".rstrip("/")
        expected = arrays.get(name)
        if expected is None or expected.shape != value.shape:
            yield f"{name} has shape {value.shape}, not {None if expected is None else expected.shape}"
        elif not np.allclose(value.astype("float64"), expected, TOLERANCE, TOLERANCE, equal_nan=True):
            yield f"{name} differs by {np.abs(value.astype('float64') - expected).max():.1e}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
