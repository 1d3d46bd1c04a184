"""How many files of old Keras open and compute what they did: ``python tools/legacy_table.py [--write]``.

Models of text are called on TensorFlow only: ``KERAS_BACKEND=tensorflow``.

Opens every fixture under ``tests/fixtures/legacy`` twice, with interop and with Keras 3's own loader, and compares
what each model computes with what the Keras that wrote it computed. Writes ``README.md`` beside the fixtures.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "legacy"
TOLERANCE = 1e-4
# Mixed precision rounds to 8 or 11 bits of mantissa in every product.
ROUNDED = {"mixed_precision": 4e-3, "mixed_policy_object": 3e-2}


def main() -> None:
    """Count, and print or write the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    warnings.simplefilter("ignore")
    import keras
    import legacy_classes  # type: ignore[import-not-found]  # noqa: F401  registers the classes of the fixtures

    import interop

    loaders: dict[str, Callable[[Path], Any]] = {
        "interop": lambda path: interop.load_model(path, report=[]),
        "Keras": lambda path: keras.saving.load_model(path),
    }
    lines = [
        "# Files of old Keras",
        "",
        "Written by `tools/legacy_fixtures` with tf_keras and with the old versions themselves, read on "
        f"Keras {keras.__version__} ({keras.backend.backend()}). Counted are the models that compute what the Keras "
        "that wrote them did; both loaders are called with their defaults. Made by "
        "`python tools/legacy_table.py --write`.",
        "",
        "| written by | format | files | interop | Keras 3's own loader |",
        "|---|---|---|---|---|",
    ]
    failed: list[str] = []
    unpacked = tempfile.TemporaryDirectory()
    for (writer, kind), files in sorted(_files(Path(unpacked.name)).items()):
        right = dict.fromkeys(loaders, 0)
        for path in files:
            for name, load in loaders.items():
                error = _error(path, load)
                right[name] += error is None
                if error is not None and name == "interop":
                    failed.append(f"- {path.name}: {error}")
        lines.append(f"| {writer} | {kind} | {len(files)} | {right['interop']} | {right['Keras']} |")
    lines += ["", *(["Not by interop:", "", *failed, ""] if failed else [])]
    text = "\n".join(lines).rstrip() + "\n"
    if "--write" in sys.argv:
        (FIXTURES / "README.md").write_text(text, encoding="utf-8")
    print(text)


def _files(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Files with answers, by who wrote them and their format; what is packed is unpacked into a folder."""
    found: dict[tuple[str, str], list[Path]] = {}
    for answers in sorted(FIXTURES.rglob("*.npz")):
        path = answers.with_name(answers.name.removesuffix(".npz"))
        parts = path.relative_to(FIXTURES).parts
        if parts[0] in ("weights", "drawn"):
            continue
        writer = parts[1].replace("_", " ").replace("keras", "Keras").replace("tf", "TensorFlow")
        kind = {".h5": "HDF5", ".keras": "`.keras`"}.get(path.suffix, "SavedModel")
        if parts[0] == "traced":
            kind = "SavedModel without layers"
        if Path(f"{path}.zip").exists():
            shutil.unpack_archive(f"{path}.zip", folder / path.name)
            path = folder / path.name
            shutil.copy(answers, folder)
        found.setdefault((writer if parts[0] == "old" else "tf_keras 2.21", kind), []).append(path)
    return found


def _error(path: Path, load: Callable[[Path], Any]) -> str | None:
    """Why a file does not open, or what differs; None if all is right."""
    import keras

    with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    inputs = {k.removeprefix("input/"): v for k, v in arrays.items() if k.startswith("input/")}
    try:
        model = load(path)
        one = next(iter(inputs.values()))
        fed = one if len(inputs) == 1 else inputs
        if len(inputs) > 1 and not isinstance(model.input, dict):
            fed = [inputs[tensor.name] for tensor in model.inputs]
        if (
            isinstance(fed, np.ndarray) and fed.dtype.kind == "U"
        ):  # text, which models take on TensorFlow only
            fed = keras.ops.convert_to_tensor(fed)
        made = keras.tree.map_structure(keras.ops.convert_to_numpy, model(fed, training=False))
    except Exception as error:  # noqa: BLE001  whatever a loader fails with is what is counted
        return f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    listed = made if isinstance(made, list | tuple) else [made]
    names = [name.removeprefix("output/") for name in arrays if name.startswith("output/")]
    names = names if len(names) == 1 else [str(i) for i in range(len(listed))]
    outputs = made if isinstance(made, dict) else dict(zip(names, listed, strict=True))
    atol = ROUNDED.get(path.name.split(".")[0], TOLERANCE)
    for name, expected in arrays.items():
        if name.startswith("output/"):
            value = outputs.get(name.removeprefix("output/"))
            if value is None or value.shape != expected.shape:
                return f"{name} is missing or has another shape"
            if not np.allclose(value.astype("float64"), expected, rtol=atol, atol=atol):
                return f"{name} differs by {np.abs(value - expected).max():.1e}"
    return None


if __name__ == "__main__":
    main()
