"""Checkpoints between Keras 2 and this toolkit, with Keras 2 itself: make fixtures, and accept what we write.

    python -m venv k2 && k2/bin/pip install "tensorflow-cpu==2.21.*" tf_keras
    k2/bin/python -m tools.other_keras.keras2 write tests/fixtures/keras2    # fixtures of tests/test_weights.py
    python -m tools.other_keras.save FOLDER                                   # with this toolkit, on any backend
    k2/bin/python -m tools.other_keras.keras2 accept FOLDER  # Keras 2 loads them: assert_consumed, and trains on

Each model is trained for a step, so that no variable has its first value and optimizers have slots.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tools.other_keras.models import MODELS, slots

# Trained with: model -> optimizers, whose slots a checkpoint holds in one of two forms.
_OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "legacy_adam": lambda: keras.optimizers.legacy.Adam(0.01),
    "resumed_adam": lambda: keras.optimizers.Adam(0.01),
    "legacy_sgd": lambda: keras.optimizers.legacy.SGD(0.01, momentum=0.9),
}
_TRAINED = {
    "functional": ("adam", "legacy_adam"),
    "nested": ("adam", "resumed_adam"),
    "recurrent": ("legacy_sgd",),
    "subclassed": ("adam",),
}


def trained(name: str, optimizer: str) -> tuple[Any, Any]:
    """A model after a step of training."""
    tf.random.set_seed(3)
    keras.utils.set_random_seed(3)
    model, x = MODELS[name](keras)
    model.compile(_OPTIMIZERS[optimizer](), "mse")
    if optimizer.startswith(
        "resumed"
    ):  # that the optimizer is not built then decides what checkpoints list later
        with tempfile.TemporaryDirectory() as folder:
            model.save_weights(f"{folder}/before")
            model.load_weights(f"{folder}/before")
    model.fit(x, np.ones((len(x), model(x).shape[-1]), "float32"), verbose=0)
    return model, x


def write(folder: Path) -> None:
    """Write the weights of every model, with what it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for name in MODELS:
        for optimizer in _TRAINED.get(name, ("adam",)):
            model, x = trained(name, optimizer)
            case = f"{name}-{optimizer}"
            model.save_weights(str(folder / case))
            model.save_weights(str(folder / f"{case}.h5"))
            answers[case] = model(x).numpy()
            for slot, value in _slots(model).items():
                answers[f"{case}:{slot}"] = value
    (folder / "checkpoint").unlink()
    np.savez(folder / "answers.npz", **answers)


def _slots(model: Any) -> dict[str, Any]:
    """The slots of the first layer's first variable, by the names they had in the first optimizers."""
    optimizer = model.optimizer
    variable = next(v for layer in model.layers for v in layer.trainable_variables)
    if hasattr(optimizer, "get_slot"):
        return {name: optimizer.get_slot(variable, name).numpy() for name in optimizer.get_slot_names()}
    index = [v is variable for v in model.trainable_variables].index(True)
    return {"m": optimizer._momentums[index].numpy(), "v": optimizer._velocities[index].numpy()}


def accept(folder: Path) -> None:
    """Load what this toolkit wrote into models of Keras 2; raises unless everything matches."""
    with np.load(folder / "answers.npz") as answers:
        for name, make in MODELS.items():
            model, x = make(keras)
            model.load_weights(str(folder / name)).assert_consumed()
            error = float(np.abs(model(x).numpy() - answers[name]).max())
            print(f"{name}: consumed, error {error:.1e}")
            if not error < 1e-5:
                raise SystemExit(f"{name}: Keras 2 answers {error} apart")
            if (
                name == "subclassed"
            ):  # Keras 2 takes slots by order, and has the model's own weights last, not first
                continue
            model.compile(keras.optimizers.Adam(0.01), "mse")
            model.optimizer.build(model.trainable_variables)
            model.load_weights(str(folder / f"{name}-adam")).assert_consumed()
            y = np.ones_like(answers[name])
            np.testing.assert_allclose(slots(model), answers[f"{name}:slots"], rtol=1e-6)
            losses = [float(model.train_on_batch(x, y)) for _ in range(2)]
            print(f"{name}: goes on with losses {losses}, expected {answers[f'{name}:losses']}")
            if not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers):
                np.testing.assert_allclose(losses, answers[f"{name}:losses"], rtol=1e-4)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["write", "accept"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    {"write": write, "accept": accept}[given.what](given.folder)


if __name__ == "__main__":
    main()
