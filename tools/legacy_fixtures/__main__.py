"""``python -m tools.legacy_fixtures FOLDER [NAME]``: write the files of Keras 2, each with its answers.

Runs where TensorFlow and tf_keras are installed and Keras 3 is not used. Beside every file or SavedModel
lies ``NAME.npz``: the inputs, what tf_keras computes from them (``output/...``), and for compiled models what it
computes after one more training step on the recorded batch (``target/...``, ``resumed/...``).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from numpy.typing import NDArray
from tf_keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from tools.legacy_fixtures import drawn, graphs, layers, learned, refused, subclassed, training

Arrays = dict[str, NDArray[Any]]
BATCH = 2


def main(folder: Path, only: str = "") -> None:
    """Write every fixture below `folder`, or those whose names contain `only`."""
    rows: list[tuple[Path, Callable[[], Any], dict[str, Any]]] = [
        *((folder / "h5" / f"{name}.h5", build, {}) for name, build in h5_rows().items()),
        *(
            (folder / "refused" / f"{name}.h5", build, {"answers": False})
            for name, build in refused.REFUSED.items()
        ),
        *((folder / "saved_model" / name, build, {}) for name, build in saved_model_rows().items()),
        *((folder / "keras" / f"{name}.keras", build, {}) for name, build in keras_rows().items()),
    ]
    for name, build in weights_rows().items():
        rows.append((folder / "weights" / f"{name}.h5", build, {"save": "weights"}))
        rows.append((folder / "json" / f"{name}.json", build, {"save": "json", "answers": False}))
    for path, build, options in rows:
        if only in path.name:
            write(path, build, **options)
    for name, row in drawn.DRAWN.items():
        path = folder / "drawn" / f"{name}.json"
        if only in path.name:
            drawn.write(path, *row)


def h5_rows() -> dict[str, Callable[[], Any]]:
    """Whole models in HDF5."""
    rows: dict[str, Callable[[], Any]] = {}
    for family in (*layers.FAMILIES, graphs.STRUCTURES, graphs.OPERATIONS, training.OPTIMIZERS):
        rows |= family
    return rows | {"custom_layers": subclassed.custom_layers, "custom_cell": subclassed.custom_cell}


def saved_model_rows() -> dict[str, Callable[[], Any]]:
    """SavedModels; one keeps its traced functions, for the others they would only take space."""
    rows = h5_rows()
    chosen = [
        "dense",
        "hard_sigmoid",
        "depthwise_conv2d",
        "separable_conv1d",
        "batch_normalization",
        "lstm",
        "gru_reset_before",
        "rnn_cells",
        "bidirectional",
        "time_distributed",
        "conv_lstm2d",
        "multi_head_attention",
        "normalization",
        "sequential",
        "nested",
        "shared",
        "frozen_inside",
        "wrapped_model",
        "convnet",
        "tf_math",
        "tf_operators",
        "adam",
        "legacy_adam",
        "sgd",
        "rmsprop_nested",
        "legacy_sgd",
        "schedule_cosine",
        "loss_scale",
        "custom_layers",
        "custom_cell",
    ]
    made = {"subclassed": subclassed.block, **learned.LEARNED, **learned.IN_A_FILE}
    return {name: rows[name] for name in chosen} | made


def keras_rows() -> dict[str, Callable[[], Any]]:
    """Files of the format that Keras 2.12 began and Keras 3 goes on with."""
    rows = h5_rows()
    chosen = [
        "hard_sigmoid",
        "depthwise_conv2d",
        "lstm",
        "bidirectional",
        "multi_head_attention",
        "normalization",
        "nested",
        "shared",
        "convnet",
        "tf_operators",
        "adam",
        "sgd",
        "rmsprop_nested",
        "schedule_exponential",
        "custom_layers",
    ]
    return {name: rows[name] for name in chosen} | {"subclassed": subclassed.block, **learned.LEARNED}


def weights_rows() -> dict[str, Callable[[], Any]]:
    """Weights only."""
    rows = h5_rows()
    return {n: rows[n] for n in ["convnet", "bidirectional", "shared_deep", "frozen_inside"]}


def write(
    path: Path,
    build: Callable[[], Any],
    save: str = "model",
    answers: bool = True,
    targets: Callable[[Any, Any], Any] | None = None,
) -> None:
    """Build one model, save it, and write down what it answers; `targets` makes what it is trained on."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(len(path.stem))
    model = build()
    _randomize(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(model)
    arrays: Arrays = {f"input/{name}": value for name, value in inputs.items()}
    fed = _fed(model, inputs)
    target = None
    if model.optimizer is not None:
        target = (targets or _targets)(model, fed)
        for _ in range(2):
            model.train_on_batch(fed, target)
        arrays |= {f"target/{name}": value for name, value in _named(target).items()}
    _save(model, path, save)
    if answers:
        _reset(model)
        arrays |= {f"output/{name}": value for name, value in _named(_answer(model, fed)).items()}
        if model.losses:
            arrays["penalty"] = np.asarray(sum(float(loss) for loss in model.losses))
        if target is not None:
            results = tf.nest.flatten(model.train_on_batch(fed, target, reset_metrics=True))
            arrays["loss"] = np.asarray(results[0])
            arrays["metrics"] = np.concatenate([np.ravel(one) for one in results])
            arrays |= {f"resumed/{name}": value for name, value in _named(_answer(model, fed)).items()}
        np.savez_compressed(path.with_name(f"{path.name}.npz"), allow_pickle=False, **arrays)


def _save(model: Any, path: Path, save: str) -> None:
    if save == "weights":
        model.save_weights(path)
    elif save == "json":
        path.write_text(model.to_json())
    elif path.suffix:
        model.save(path)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder, save_format="tf", save_traces=path.name == "dense")
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(folder, path)


def _answer(model: Any, fed: Any) -> Any:
    return tf.nest.map_structure(lambda t: t.numpy(), model(fed, training=False))


def _reset(model: Any) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            layer.reset_states()


def _inputs(model: Any) -> Arrays:
    rng = np.random.default_rng(7)
    tensors = model.inputs or [tf.TensorSpec((None, 3), "float32", name="x")]
    return {
        tensor.name: _drawn(rng, tuple(size or BATCH for size in tensor.shape), tensor.dtype.name)
        for tensor in tensors
    }


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if dtype == "string":
        return rng.choice(learned.WORDS, shape)
    if dtype.startswith("int"):
        return rng.integers(0, 5, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _fed(model: Any, inputs: Arrays) -> Any:
    if model.inputs is None or len(inputs) == 1:
        return next(iter(inputs.values()))
    if isinstance(model.input, Mapping):
        return {key: inputs[tensor.name] for key, tensor in model.input.items()}
    return list(inputs.values())


def _targets(model: Any, fed: Any) -> Any:
    """Probabilities, which every loss takes."""
    rng = np.random.default_rng(8)

    def drawn(y: Any) -> NDArray[Any]:
        value = rng.random(y.shape).astype("float32") + 0.1
        normal: NDArray[Any] = value / value.sum(-1, keepdims=True)
        return normal

    return tf.nest.map_structure(drawn, model(fed))


def _named(value: Any) -> Arrays:
    if isinstance(value, Mapping):
        return {str(key): np.asarray(item) for key, item in value.items()}
    items = value if isinstance(value, list | tuple) else [value]
    return {str(index): np.asarray(item) for index, item in enumerate(items)}


def _randomize(model: Any) -> None:
    rng = np.random.default_rng(3)
    taught = [layer for layer in model._flatten_layers() if isinstance(layer, PreprocessingLayer)]
    kept = {id(variable) for layer in taught for variable in layer.variables}
    for variable in model.variables:
        if (
            isinstance(variable, tf.Variable)
            and id(variable) not in kept
            and variable.dtype.is_floating
            and variable.name not in ("mean:0", "variance:0")
        ):
            noise = rng.standard_normal(variable.shape)
            positive = "variance" in variable.name or "gamma" in variable.name
            variable.assign((np.exp(0.3 * noise) if positive else noise * 0.5).astype(variable.dtype.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
