"""Parameters that only together are a tensor: normalisations that an exporter folds, matrices over their norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from cases.transfers import drawn

import interop

L = keras.layers
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.framework("torch"), pytest.mark.filterwarnings("ignore")]
IMAGES = np.random.default_rng(0).standard_normal((2, 12, 12, 3)).astype("float32")
FIRST = np.ascontiguousarray(np.moveaxis(IMAGES, -1, 1))


class Block(torch.nn.Module):
    """Two convolutions beside a projection, each with a normalisation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        nn = torch.nn

        def layer(count: int, size: int) -> Any:
            conv = nn.Conv2d(count, after, size, 1, size // 2, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(after))

        self.one, self.two, self.past = layer(before, 3), layer(after, 3), layer(before, 1)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.two(torch.relu(self.one(x))) + self.past(x))


class Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Sequential(Block(3, 6), Block(6, 8)), torch.nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).mean((2, 3)))


def residual() -> Any:
    def layer(x: Any, count: int, size: int) -> Any:
        made = L.Conv2D(count, size, padding="same", use_bias=False)(x)
        return L.BatchNormalization(epsilon=1e-5)(made)

    x = inputs = keras.Input((12, 12, 3))
    for count in (6, 8):
        past = layer(x, count, 1)
        x = L.ReLU()(past + layer(L.ReLU()(layer(x, count, 3)), count, 3))
    return keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def outputs(model: Any) -> np.ndarray:
    if isinstance(model, keras.Model):
        return np.asarray(keras.ops.convert_to_numpy(model(IMAGES, training=False)))
    with torch.no_grad():
        return model(torch.as_tensor(FIRST)).numpy()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=1e-5, atol=1e-5 * np.sqrt(np.mean(one**2)))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_graph_that_pytorch_wrote(tmp_path: Path, exporter: str) -> None:
    """Into models of both frameworks, also by a plan from a file, and back into the graph."""
    source, path = drawn(Residual(), 1), tmp_path / "m.onnx"
    options: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "dynamo": False}
    if exporter == "dynamo":
        options = {"dynamic_shapes": ({0: torch.export.Dim("n")},), "dynamo": True, "verbose": False}
    torch.onnx.export(source, (torch.as_tensor(FIRST),), path, **options)
    for target in (drawn(residual(), 2), drawn(Residual(), 3)):
        report = interop.transfer_weights(path, target)
        assert report.passed, str(report)
        assert same(outputs(source), outputs(target))
        (note,) = report.plan.notes
        assert "and 8 more of the target are neutral (mean 0, variance 1 - epsilon)" in note
        assert f"note: {note}" in str(report)
        assert report.to_json()["notes"] == [note]
    rows = [line.split() for line in str(report).splitlines()]
    assert ["body.0.one.1.running_var", "1", "-", "1e-05", "folded"] in rows
    plan = interop.Plan.load(report.plan.save(tmp_path / "plan.json"))
    assert plan.to_json() == report.plan.to_json()
    applied, ruled = drawn(Residual(), 4), drawn(Residual(), 5)
    plan.apply(path, applied)
    assert interop.transfer_weights(path, ruled, rules=plan).passed
    with interop.load_tensors(plan.apply(path, tmp_path / "new.safetensors")) as tensors:
        for entry_of in (applied.state_dict(), ruled.state_dict(), tensors):
            for name, value in target.state_dict().items():
                if "num_batches" not in name:
                    np.testing.assert_array_equal(entry_of[name], value)
    assert interop.transfer_weights(drawn(source, 6), path).passed
    assert same(outputs(source), interop.load_graph(path)(FIRST))


def test_a_graph_that_keras_wrote(tmp_path: Path) -> None:
    """The same model made anew, from its own flat graph and into it."""
    source, target, path = drawn(residual(), 1), drawn(residual(), 2), tmp_path / "m.onnx"
    interop.export_onnx(source, path, verify=False)
    report = interop.transfer_weights(path, target)
    assert report.passed, str(report)
    assert same(outputs(source), outputs(target))
    assert interop.transfer_weights(drawn(source, 3), path).passed
    assert same(outputs(source), interop.load_graph(path)(IMAGES))


@pytest.mark.parametrize("form", ["parametrizations", "hooks"])
def test_matrices_over_their_norms(form: str) -> None:
    """What they make goes to plain layers, and plain layers into them."""
    nn = torch.nn
    over_norm = nn.utils.parametrizations.spectral_norm if form != "hooks" else nn.utils.spectral_norm
    source = nn.Sequential(
        over_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), over_norm(nn.ConvTranspose2d(4, 3, 3)), nn.Flatten(2)
    )
    source(torch.as_tensor(FIRST))
    source.eval()
    layers = [L.Conv2D(4, 3, activation="relu"), L.Conv2DTranspose(3, 3), L.Reshape((144, 3))]
    target = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    report = interop.transfer_weights(source, target)
    assert report.passed, str(report)
    assert same(outputs(source), np.moveaxis(outputs(target), -1, 1))
    drawn(source, 3), drawn(target, 4)
    back = interop.transfer_weights(target, source)
    assert same(np.moveaxis(outputs(target), -1, 1), outputs(source))
    assert "training divides by it" in back.plan.notes[0]
