"""``interop demo``: the whole way of one trained model, on real images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from interop.cli import output

MODELS = Path(__file__).resolve().parents[2] / "models"
#: Of one backend after 23 steps in float32 the losses are equal or nearly so; a fresh optimizer is 0.001 off.
LOSS_TOLERANCE = 1e-5
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Door:
    """One way to run the model: its accuracy on the held-out images, and how far it is from the source."""

    name: str
    accuracy: float
    max_abs: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """One epoch of training that went on from the restored optimizer.

    Attributes:
        step_before: optimizer steps the source had taken.
        step_after: steps after the epoch.
        loss: training loss of the epoch.
        source_loss: the same epoch from the source model itself.
        accuracy: on the held-out images, afterwards.
    """

    step_before: int
    step_after: int
    loss: float
    source_loss: float
    accuracy: float


def demo(
    folder: Annotated[Path, typer.Option("--output", help="Where the files go.")] = Path("out/demo"),
    models: Annotated[Path, typer.Option(help="Folder with digits_cnn.keras and digits.npz.")] = MODELS,
    as_json: output.Json = False,
) -> None:
    """Convert a model trained on handwritten digits, open it through every door, and train on.

    The exit code is 0 only if layers and graph give the source's answers on the held-out images.

    Examples:

    \b
      interop demo
      KERAS_BACKEND=torch interop demo --output /tmp/demo
    """
    from interop.backend import choose_backend

    data_path, model_path = models / "digits.npz", models / "digits_cnn.keras"
    for path in (data_path, model_path):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: run the demo in a checkout, or name the folder with --models"
            )
    backend = choose_backend()
    with output.working(f"importing Keras on {backend}") as say:
        import keras

        import interop

        with np.load(data_path) as data:
            train, held_out = _part(data, "train"), _part(data, "held_out")
        folder.mkdir(parents=True, exist_ok=True)
        artifact, flat = folder / "digits.interop", folder / "digits.onnx"
        say(f"converting {model_path.name}")
        source = keras.saving.load_model(model_path)
        started = time.perf_counter()
        interop.save_model(source, artifact)
        interop.export_onnx(source, flat, verify=False)
        seconds = time.perf_counter() - started
        say("opening every door")
        layers = interop.load_model(artifact)
        graph = interop.load_graph(artifact)
        say("answering on the held-out images")
        doors = _doors(source, layers, graph, interop.load_graph(flat), held_out)
        reports = [interop.verify(source, door, held_out[0]) for door in (artifact, layers, flat)]
        say("training on")
        resumed = _resume(source, layers, train, held_out)
    same_answers = all(report.passed for report in reports) and len({door.accuracy for door in doors}) == 1
    same_training = resumed.step_before > 0 and abs(resumed.loss - resumed.source_loss) < LOSS_TOLERANCE
    passed = same_answers and same_training
    if as_json:
        output.show_json(
            {
                "backend": backend,
                "passed": passed,
                "artifact": str(artifact),
                "onnx": str(flat),
                "seconds": seconds,
                "images": len(held_out[0]),
                "doors": [asdict(door) for door in doors],
                "resumed": asdict(resumed),
                "parity": [report.to_json() for report in reports],
            }
        )
    else:
        _show(backend, model_path, artifact, flat, seconds, len(held_out[0]), doors, resumed)
        for report in reports:
            if not report.passed:
                output.show(str(report))
    if not passed:
        raise typer.Exit(1)


def _part(data: Any, name: str) -> tuple[Array, Array]:
    """Images as float32 of shape (n, 8, 8, 1), labels as int32 of shape (n,)."""
    images, labels = data[f"{name}_images"], data[f"{name}_labels"]
    return images[..., None].astype("float32"), labels.astype("int32")


def _doors(source: Any, layers: Any, graph: Any, flat: Any, held_out: tuple[Array, Array]) -> list[Door]:
    images, labels = held_out
    ways: dict[str, Callable[[], Any]] = {
        "source (Keras)": lambda: source.predict(images, verbose=0),
        "layers (reloaded)": lambda: layers.predict(images, verbose=0),
        "graph (artifact)": lambda: graph.predict(images),
        "graph (flat .onnx)": lambda: flat.predict(images),
    }
    answers, doors = {}, []
    for name, run in ways.items():
        started = time.perf_counter()
        answers[name] = np.asarray(run())
        seconds = time.perf_counter() - started
        expected = answers["source (Keras)"]
        accuracy = float(np.mean(answers[name].argmax(axis=-1) == labels))
        doors.append(Door(name, accuracy, float(np.abs(answers[name] - expected).max()), seconds))
    return doors


def _resume(source: Any, layers: Any, train: tuple[Array, Array], held_out: tuple[Array, Array]) -> Resumed:
    """Train both for one epoch in the same order; what was restored goes on as what was saved."""
    before = int(layers.optimizer.iterations.numpy())
    losses = []
    for model in (layers, source):
        history = model.fit(*train, batch_size=64, epochs=1, shuffle=False, verbose=0)
        losses.append(float(history.history["loss"][0]))
    images, labels = held_out
    accuracy = float(np.mean(layers.predict(images, verbose=0).argmax(axis=-1) == labels))
    return Resumed(before, int(layers.optimizer.iterations.numpy()), losses[0], losses[1], accuracy)


def _show(
    backend: str,
    model_path: Path,
    artifact: Path,
    flat: Path,
    seconds: float,
    images: int,
    doors: list[Door],
    resumed: Resumed,
) -> None:
    size_kb = artifact.stat().st_size / 1000
    output.show(
        f"{model_path.name} on {backend} -> {artifact} ({size_kb:.0f} kB) and {flat} in {seconds:.1f} s\n"
    )
    table = Table("opened as", "accuracy", "max difference", "seconds", title=f"{images} held-out images")
    for column in table.columns[1:]:
        column.justify = "right"
    for door in doors:
        table.add_row(door.name, f"{door.accuracy:.2%}", f"{door.max_abs:.1e}", f"{door.seconds:.2f}")
    Console().print(table)
    output.show(
        f"\ntraining resumed at step {resumed.step_before} and went on to {resumed.step_after}: "
        f"loss {resumed.loss:.6f}, from the source itself {resumed.source_loss:.6f}; "
        f"accuracy now {resumed.accuracy:.2%}"
    )
    output.show(
        f"""
What to type next:
  interop inspect {artifact}
  interop verify {model_path} {artifact}
  interop convert {artifact} {artifact.with_suffix("")}
  python -c 'import interop; print(interop.load_tensors("{artifact}").shapes)'"""
    )
