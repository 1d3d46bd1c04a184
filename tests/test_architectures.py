"""PyTorch networks through ``torch.onnx`` and ``import_onnx``: the same numbers, and they train.

Each is exported twice: as it is by default, with BatchNorm folded into what is before it, and as it trains, with
every parameter of its own name. A row passes if both agree with PyTorch at several batch sizes; a ``.keras`` file of
the first gives back the same bits, one step of training moves every weight of it, and twenty lower the loss; and the
gradient of every parameter of the second is that of PyTorch.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from cases.architectures import Architecture, all_architectures

import interop
from interop.status import ImportReport

ROWS = all_architectures()


def in_short_runs(row: Architecture) -> bool:
    """The quick rows, on one backend: the export takes most of their time, and is the same on all."""
    return row.quick and keras.backend.backend() == "torch"


#: Variances of norms over those measured.
DAMPING = 1.1

#: The most that outputs may be off, of the largest number.
TOLERANCE = 1e-4


def randomized(module: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Weights that keep the spread of what they multiply, scales and offsets that are not 1 and 0, statistics of
    norms that were measured: every parameter counts in what comes out.

    Variances are a little more than those measured. At exactly those of a few examples, a deep network without a norm
    at its end, such as EfficientNet, enlarges whatever is unlike them in every block; PyTorch in float32 is then 4e-4
    off PyTorch in float64, and comparing with it proves nothing.
    """
    for parameter in module.parameters():
        if parameter.ndim < 2:
            parameter.data += 0.1 * torch.randn_like(parameter)
            continue
        wanted = parameter[0].numel() ** -0.5
        # Layers that were copied differ: what is equal, the TorchScript exporter makes one weight.
        parameter.data += 0.01 * wanted * torch.randn_like(parameter)
        if parameter.std() < 0.1 * wanted:  # ones, zeros or nearly
            parameter.data += wanted * torch.randn_like(parameter)
        elif parameter.std() < wanted:
            parameter.data *= wanted / parameter.std()
    norms = [each for each in module.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what it sees
    module.train()
    with torch.no_grad():
        module(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_var *= DAMPING
    return module.eval()


def exported(row: Architecture, module: torch.nn.Module, folder: Path) -> tuple[Path, Path]:
    """The graph that is exported by default, and the one in which every parameter is what it is in PyTorch."""
    x = torch.from_numpy(row.array(2))
    default, plain = folder / "default.onnx", folder / "plain.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row.dynamo:
            axes = ({0: torch.export.Dim("batch", min=2, max=64)},)
            program = torch.onnx.export(
                module, (x,), dynamo=True, dynamic_shapes=axes, verbose=False, optimize=False
            )
            program.save(plain)
            program.optimize()
            program.save(default)
            return default, plain
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
        axes = {"x": {0: "batch"}, "y": {0: "batch"}}
        torch.onnx.export(module, (x,), str(default), dynamo=False, dynamic_axes=axes, **names)
        torch.onnx.export(
            module, (x,), str(plain), dynamo=False, dynamic_axes=axes, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE, **names,
        )  # fmt: skip
    return default, plain


def numbers(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


def computed(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """On JAX by a compiled function, as operations one by one take longer to compile; on TensorFlow not, as it rounds
    otherwise in every one that it compiles."""
    return np.asarray(model.predict_on_batch(x)) if keras.backend.backend() == "jax" else numbers(model(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=() if in_short_runs(row) else pytest.mark.full) for row in ROWS],
)
def test_architecture(row: Architecture, tmp_path: Path, record_property: Any) -> None:
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    module = randomized(row.make(), torch.from_numpy(row.array(8)))
    default, plain = exported(row, module, tmp_path)
    reports: list[ImportReport] = []
    model = interop.import_onnx(default, report=reports)
    record_property("layers", len(reports[0].lifted))
    record_property("nodes", sum(reports[0].operations.values()))
    record_property("held", len(reports[0].held))
    record_property("frozen", len(reports[0].frozen))
    errors: list[float] = []
    record_property("max_rel", errors)
    for batch in (3, 5):
        x = row.array(batch)
        errors.append(error_of(model, module, x))
        assert errors[-1] <= TOLERANCE
    got = computed(model, x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(computed(again, x), got)
    parameters = dict(module.named_parameters())
    frozen = [
        f"{key}: {why}"
        for key, why in reports[0].frozen.items()
        if key in parameters or not why.startswith(NOT_TRAINED)
    ]
    assert not frozen, f"frozen: {frozen}"
    gradients = gradients_of(module, row, got)
    largest = max(float(np.abs(gradient).max()) for gradient in gradients.values())
    moved = {name: g for name, g in gradients.items() if np.abs(g).max() >= IDLE * largest}
    idle = {place for name in gradients.keys() - moved for place in reports[0].weights.get(name, ())}
    trains(model, row, got, idle)
    model = interop.import_onnx(plain, report=reports)
    assert error_of(model, module, row.array(4)) <= TOLERANCE
    values = {name: parameter.detach().numpy() for name, parameter in parameters.items()}
    has_gradients(model, reports[1], row, got, moved, values)


def error_of(model: keras.Model, module: torch.nn.Module, x: np.ndarray) -> float:
    """The largest difference from PyTorch in float64, relative to the largest number."""
    exact = torch.from_numpy(x if x.dtype.kind == "i" else x.astype("float64"))
    with torch.no_grad():
        wanted = copy.deepcopy(module).eval().double()(exact).numpy()
        theirs = copy.deepcopy(module).eval()(torch.from_numpy(x)).numpy()
    largest = np.abs(wanted).max()
    rounding = np.abs(theirs - wanted).max() / largest
    assert rounding <= TOLERANCE / 2, (
        f"PyTorch itself is {rounding:.1e} off: the network enlarges what is rounded"
    )
    got = computed(model, x)
    assert got.shape == wanted.shape
    spread = wanted.std(axis=0).mean() / np.abs(wanted).mean()
    assert spread > 1e-2, f"outputs differ by {spread:.1e}: the comparison would prove nothing"
    return float(np.abs(got - wanted).max() / largest)


def target_of(like: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, *like.shape[1:])).astype("float32")


#: Why numbers that are no parameters of the network need not train.
NOT_TRAINED = ("a scalar", "a buffer", "Resize needs it", "used by nothing that stays")

#: Gradients smaller than the largest by this are rounding, such as those of the bias of an attention's keys.
IDLE = 1e-6


#: Where a ReLU or a maximum turns over by rounding, a gradient jumps: so much of it, deep down.
TURNING = 5e-2


def gradients_of(module: torch.nn.Module, row: Architecture, like: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch computes, with dropout out and BatchNorm as it trains; zeros where nothing comes."""
    for each in module.eval().modules():
        if isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
            each.train()
            each.momentum = 0.0  # its statistics stay
    loss = ((module(torch.from_numpy(row.array(8))) - torch.from_numpy(target_of(like))) ** 2).mean()
    loss.backward()
    return {
        name: np.zeros(parameter.shape, "float32") if parameter.grad is None else parameter.grad.numpy()
        for name, parameter in module.named_parameters()
    }


def has_gradients(
    model: keras.Model,
    report: ImportReport,
    row: Architecture,
    like: np.ndarray,
    wanted: dict[str, np.ndarray],
    parameters: dict[str, np.ndarray],
) -> None:
    """One step of gradient descent moves each parameter as far as in PyTorch, and as much along itself; both are
    what they are in whatever order the axes of a weight lie."""
    rate = 1 / max(float(np.abs(gradient).max()) for gradient in wanted.values())
    before = {weight.path: numbers(weight).astype("float64") for weight in model.trainable_weights}
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.train_on_batch(row.array(8), target_of(like))
    after = {weight.path: numbers(weight) for weight in model.trainable_weights}
    wrong = []
    for name, gradient in wanted.items():
        places = [place for place in report.weights.get(name, ()) if place in before]
        if not places:
            wrong.append(f"{name} is no weight")
            continue
        steps = [((before[place] - after[place]) / rate, before[place]) for place in places]
        ours = _along(
            *(np.concatenate([part.ravel() for part in parts]) for parts in zip(*steps, strict=True))
        )
        theirs = _along(gradient, parameters[name])
        if not np.allclose(ours, theirs, rtol=0, atol=TURNING * theirs[0]):
            wrong.append(f"{name}: {ours}, in PyTorch {theirs}")
    assert not wrong, f"gradients are not those of PyTorch: {wrong}"


def _along(step: np.ndarray, value: np.ndarray) -> tuple[float, float]:
    """How far a step goes, and how far along what it changes."""
    step, value = step.ravel().astype("float64"), value.ravel().astype("float64")
    length = float(np.linalg.norm(step))
    return length, float(step @ value) / float(np.linalg.norm(value))


def matters(model: keras.Model, weight: Any, x: np.ndarray) -> bool:
    """Whether a weight changes what comes out: exporters split weights, and a part may be the bias of keys."""
    value, before = numbers(weight), computed(model, x)
    weight.assign(value + np.random.default_rng(0).standard_normal(value.shape))
    after = computed(model, x)
    weight.assign(value)
    return bool(np.abs(after - before).max() > 1e-5 * np.abs(before).max())


def trains(model: keras.Model, row: Architecture, like: np.ndarray, idle: set[str]) -> None:
    """One step moves every weight but those that are idle in PyTorch too, and twenty lower the loss."""
    x = row.array(8)
    wanted = target_of(like)
    # A small step: exporters fold BatchNorm into convolutions, and without it these networks take no large ones.
    model.compile(keras.optimizers.Adam(1e-5), "mse")
    before = [numbers(weight).copy() for weight in model.trainable_weights]
    first = float(model.train_on_batch(x, wanted))
    still = [
        weight.path
        for old, weight in zip(before, model.trainable_weights, strict=True)
        if weight.path not in idle and (old == numbers(weight)).all() and matters(model, weight, x)
    ]
    assert not still, f"did not move: {still}"
    losses = [float(model.train_on_batch(x, wanted)) for _ in range(20)]
    assert losses[-1] < first
