"""Checkpoints of this toolkit that Keras 2 is to accept (see ``keras2``).

python -m tools.other_keras.save FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import interop
from interop.backend import choose_backend


def save(folder: Path) -> None:
    """Write the weights of every model, with what it answers, and again with the state of its optimizer."""
    choose_backend()
    import keras

    from tools.other_keras.models import MODELS, slots

    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for name, make in MODELS.items():
        keras.utils.set_random_seed(5)
        model, x = make(keras)
        interop.save_weights(model, folder / name, format="tf")
        answers[name] = y = keras.ops.convert_to_numpy(model(x))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        for _ in range(2):
            model.train_on_batch(x, np.ones_like(y))
        interop.save_weights(model, folder / f"{name}-adam", format="tf", include_optimizer=True)
        answers[f"{name}:slots"] = slots(model)
        answers[f"{name}:losses"] = [float(model.train_on_batch(x, np.ones_like(y))) for _ in range(2)]
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
