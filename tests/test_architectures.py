"""PyTorch networks through ``torch.onnx`` and ``import_onnx``: the same numbers, and they train.

A row passes if two batch sizes agree with PyTorch, a ``.keras`` file gives back the same bits, one step of training
moves every parameter, and twenty lower the loss.
"""

from __future__ import annotations

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


def randomized(module: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Weights that keep the spread of what they multiply, scales and offsets that are not 1 and 0, statistics of
    norms that were measured: every parameter counts in what comes out."""
    for parameter in module.parameters():
        if parameter.ndim < 2:
            parameter.data += 0.1 * torch.randn_like(parameter)
            continue
        wanted = parameter[0].numel() ** -0.5
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
    return module.eval()


def exported(row: Architecture, module: torch.nn.Module, path: Path) -> None:
    x = torch.from_numpy(row.array(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row.dynamo:
            axes = ({0: torch.export.Dim("batch", min=2, max=64)},)
            torch.onnx.export(
                module, (x,), path, dynamo=True, dynamic_shapes=axes, verbose=False, optimize=True
            )
        else:
            torch.onnx.export(
                module, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"],
                dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
            )  # fmt: skip


def numbers(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=() if in_short_runs(row) else pytest.mark.full) for row in ROWS],
)
def test_architecture(row: Architecture, tmp_path: Path, record_property: Any) -> None:
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    module = randomized(row.make(), torch.from_numpy(row.array(8)))
    exported(row, module, tmp_path / "model.onnx")
    reports: list[ImportReport] = []
    model = interop.import_onnx(tmp_path / "model.onnx", report=reports)
    record_property("layers", len(reports[0].lifted))
    record_property("nodes", sum(reports[0].operations.values()))
    record_property("held", len(reports[0].held))
    record_property("frozen", len(reports[0].frozen))
    errors: list[float] = []
    record_property("max_rel", errors)
    for batch in (3, 5):
        x = row.array(batch)
        with torch.no_grad():
            wanted = module(torch.from_numpy(x)).numpy()
        got = numbers(model(x))
        assert got.shape == wanted.shape
        spread = wanted.std(axis=0).mean() / np.abs(wanted).mean()
        assert spread > 1e-2, f"outputs differ by {spread:.1e}: the comparison would prove nothing"
        errors.append(float(np.abs(got - wanted).max() / np.abs(wanted).max()))
        assert errors[-1] <= 1e-4
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numbers(again(x)), got)
    parameters = dict(module.named_parameters())
    frozen = [
        f"{key}: {why}"
        for key, why in reports[0].frozen.items()
        if key in parameters or not (why == "a scalar" or why.startswith("Resize needs it"))
    ]
    assert not frozen, f"frozen: {frozen}"
    idle = {place for key in without_gradient(module, row, got) for place in reports[0].weights.get(key, ())}
    trains(model, row, got, idle)


def target_of(like: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, *like.shape[1:])).astype("float32")


def without_gradient(module: torch.nn.Module, row: Architecture, like: np.ndarray) -> list[str]:
    """Parameters that PyTorch does not move but by rounding, such as the bias of the keys of an attention."""
    loss = ((module.train()(torch.from_numpy(row.array(8))) - torch.from_numpy(target_of(like))) ** 2).mean()
    loss.backward()
    sizes = {
        name: 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        for name, parameter in module.named_parameters()
    }
    return [name for name, size in sizes.items() if size < 1e-6 * max(sizes.values())]


def matters(model: keras.Model, weight: Any, x: np.ndarray) -> bool:
    """Whether a weight changes what comes out: exporters split weights, and a part may be the bias of keys."""
    value, before = numbers(weight), numbers(model(x))
    weight.assign(value + np.random.default_rng(0).standard_normal(value.shape))
    after = numbers(model(x))
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
