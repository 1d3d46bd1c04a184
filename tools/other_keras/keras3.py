"""Files of an older Keras 3, the fixtures of tests/test_weights.py and tests/test_legacy.py.

pip install --no-deps --target k30 keras==3.0.5 namex dm-tree
PYTHONPATH=k30:. KERAS_BACKEND=torch python -m tools.other_keras.keras3 tests/fixtures/keras3
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tools.other_keras.models import MODELS


def write(folder: Path) -> None:
    """Write ``<version>-<model>.weights.h5`` and, trained for a step, ``.keras``; and what each model answers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        keras.utils.set_random_seed(5)
        model, x = make(keras)
        for weight in model.weights:  # no two tensors alike, and none at its first value
            weight.assign(np.random.default_rng(len(weight.path)).uniform(0.1, 0.5, weight.shape))
        stem = f"{keras.__version__}-{name}"
        if not (folder / f"{stem}.weights.h5").exists():
            model.save_weights(folder / f"{stem}.weights.h5")
            np.save(folder / f"{stem}.npy", _answers(model, x))
        if name != "subclassed":  # its classes are known to nobody else
            model.compile("adam", "mse", metrics=["mae"])
            model.fit(x, np.zeros_like(_answers(model, x)), verbose=0)
            model.save(folder / f"{stem}.keras")
            np.save(folder / f"{stem}.keras.npy", _answers(model, x))


def write_optimizers(folder: Path) -> None:
    """Write a model trained for a step with each optimizer whose state Keras stores otherwise today.

    And what it answers after another step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(1).standard_normal((4, 3)).astype("float32")
    for name in ("nadam", "adafactor"):
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
        model.compile(keras.optimizers.get(name), "mse")
        model.optimizer.learning_rate = 0.05
        model.train_on_batch(x, np.ones((4, 2), "float32"))
        path = folder / f"{keras.__version__}-{name}.keras"
        model.save(path)
        model.train_on_batch(x, np.ones((4, 2), "float32"))
        np.savez(f"{path}.npz", x=x, y=_answers(model, x))


def _answers(model: Any, x: Any) -> Any:
    return keras.ops.convert_to_numpy(model(x))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    write_optimizers(Path(sys.argv[1]) / "optimizers")
