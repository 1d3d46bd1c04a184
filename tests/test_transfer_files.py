"""Weights that come from files and go into files: every kind, as source and as target."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import interop
from interop.cli.main import main
from interop.errors import FormatError, InteropError, WeightsError
from interop.formats import open_tensors
from interop.transfer.rules import Rule, transpose

L = keras.layers
on_torch = pytest.mark.framework("torch")


def net(seed: int = 0, *, norm: bool = True) -> Any:
    """A model with weights, statistics and a recurrent layer; names are its own."""
    keras.utils.set_random_seed(seed)
    layers = [L.Conv1D(6, 3, name="conv"), L.GRU(5, name="gru"), L.Dense(3, name="head")]
    if norm:
        layers.insert(1, L.BatchNormalization(name="norm"))
    model = keras.Sequential([keras.Input((9, 4)), *layers])
    rng = np.random.default_rng(seed)
    for variable in weights(model):
        variable.assign(np.abs(rng.standard_normal(variable.shape)) + 0.1)
    return model


def weights(model: Any) -> list[Any]:
    return [v for v in model.weights if "seed" not in v.name]


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in weights(model)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def _orbax(model: Any, path: Path) -> None:
    checkpoint = pytest.importorskip("orbax.checkpoint")
    with interop.load_tensors(interop.save_weights(model, path.with_suffix(".npz"))) as tensors:
        checkpoint.PyTreeCheckpointer().save(
            path, {"params": {name: np.array(a) for name, a in tensors.items()}}
        )


def _torch_file(model: Any, path: Path) -> None:
    torch = pytest.importorskip("torch")
    with interop.load_tensors(interop.save_weights(model, path.with_suffix(".npz"))) as tensors:
        torch.save({"model": {n: torch.as_tensor(np.array(a)) for n, a in tensors.items()}, "epoch": 3}, path)


def _shards(model: Any, path: Path) -> None:
    """Two files and their index, as Hugging Face writes them."""
    path.mkdir()
    with interop.load_tensors(interop.save_weights(model, path.parent / "whole.npz")) as tensors:
        names = list(tensors)
        for k, some in enumerate((names[:4], names[4:])):
            _save_safetensors(path / f"model-{k}.safetensors", {name: tensors[name] for name in some})
    where = {name: f"model-{int(k >= 4)}.safetensors" for k, name in enumerate(names)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _save_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, {"format": "pt"})


KINDS: dict[str, Callable[[Any, Path], Any]] = {
    "w.safetensors": interop.save_weights,
    "sharded": _shards,
    "w.npz": interop.save_weights,
    "w.weights.h5": interop.save_weights,
    "keras.weights.h5": lambda model, path: model.save_weights(path),
    "w.h5": interop.save_weights,
    "ckpt": interop.save_weights,
    "w.pt": _torch_file,
    "orbax": _orbax,
    "m.keras": lambda model, path: model.save(path),
    "m.interop": interop.save_model,
    "m.onnx": lambda model, path: interop.export_onnx(model, path, verify=False),
}
_ANYWHERE = ("w.safetensors", "keras.weights.h5", "ckpt", "m.keras", "m.interop")
_ROWS = [pytest.param(k, id=k, marks=[] if k in _ANYWHERE else [on_torch]) for k in KINDS]


@pytest.mark.parametrize("kind", _ROWS)
def test_every_kind_is_a_source_and_a_target(tmp_path: Path, kind: str) -> None:
    """A file into a live model and back; what else is in the file stays."""
    norm = kind != "m.onnx"  # into which a normalisation is folded
    saved, target = net(1, norm=norm), net(2, norm=norm)
    path = tmp_path / kind
    KINDS[kind](saved, path)
    assert not same(saved, target)
    report = interop.transfer_weights(path, target)
    assert same(saved, target), str(report)
    other = net(3, norm=norm)
    done = interop.transfer_weights(other, path)
    assert done.target == path
    again = net(4, norm=norm)
    interop.transfer_weights(path, again)
    assert same(other, again)
    if kind.startswith("m."):
        assert report.passed
        assert done.passed
        assert done.error is not None


@pytest.mark.parametrize(
    "kind", [k for k in _ROWS if not str(k.values[0]).startswith(("m.interop", "m.onnx"))]
)
def test_what_is_written_is_what_others_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    KINDS[kind](net(1), path)
    model = net(2)
    interop.transfer_weights(model, path)
    if kind == "w.pt":
        torch = pytest.importorskip("torch")
        read = torch.load(path, weights_only=True)
        assert read["epoch"] == 3
        np.testing.assert_array_equal(read["model"]["head/bias"], values(model)[-1])
    elif kind == "orbax":
        read = pytest.importorskip("orbax.checkpoint").PyTreeCheckpointer().restore(path)
        np.testing.assert_array_equal(read["params"]["head/bias"], values(model)[-1])
    elif kind == "sharded":
        from safetensors import safe_open

        with safe_open(path / "model-1.safetensors", "numpy") as file:
            assert file.metadata() == {"format": "pt"}
            name = next(n for n in file.keys() if n.endswith("head/bias"))  # noqa: SIM118
            np.testing.assert_array_equal(file.get_tensor(name), values(model)[-1])
    elif kind == "m.keras":
        assert same(keras.models.load_model(path), model)
    elif kind.endswith(".weights.h5"):
        other = net(3)
        other.load_weights(path)
        assert same(other, model)
    else:
        other = net(3)
        interop.load_weights(other, path)
        assert same(other, model)


@on_torch
def test_a_model_file_keeps_everything_else(tmp_path: Path) -> None:
    """Optimizer and training config of a ``.keras`` and of an artifact."""
    model = net(1)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(7)
    model.save(tmp_path / "m.keras")
    interop.save_model(model, tmp_path / "m.interop")
    other = net(2)
    for name in ("m.keras", "m.interop"):
        interop.transfer_weights(other, tmp_path / name)
        made = interop.load_model(tmp_path / name)
        assert int(made.optimizer.iterations) == 7
        assert same(made, other)


@on_torch
def test_weights_of_a_trained_model_leave_its_optimizer_out(tmp_path: Path) -> None:
    model, target = net(1), net(2)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "w.weights.h5")
    report = interop.transfer_weights(tmp_path / "w.weights.h5", target)
    assert same(model, target)
    assert any(name.startswith("source: optimizer/") for name in report.plan.unused)


def modules() -> tuple[Any, Any]:
    """A Keras model and the same in PyTorch."""
    torch = pytest.importorskip("torch")
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu", name="a"), L.Dense(8), L.Dense(3)])
    nn = torch.nn
    return model, nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))


@on_torch
def test_a_tied_tensor_that_a_file_has_once(tmp_path: Path) -> None:
    """As Hugging Face writes them: one of the names is left out."""
    import torch
    from safetensors.torch import save_file

    def tied() -> Any:
        made = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(2)))
        made[1].weight = made[0].weight
        return made

    source, target, path = tied(), tied(), tmp_path / "w.safetensors"
    state = source.state_dict()
    for left_out in ("1.weight", "0.weight"):
        save_file({name: value for name, value in state.items() if name != left_out}, path)
        for given in ({"source_model": tied(), "source_inputs": [(None, 4)]}, {}):
            torch.nn.init.zeros_(target[0].weight)
            interop.transfer_weights(path, target, **given)
            assert torch.equal(target[1].weight, source[0].weight)
    with torch.no_grad():
        source[0].weight.add_(1)
    interop.transfer_weights(source, path, target_model=tied(), source_inputs=[(None, 4)])
    with interop.load_tensors(path) as tensors:
        np.testing.assert_array_equal(tensors["1.weight"], source[0].weight.detach())


@on_torch
@pytest.mark.parametrize("kind", ["w.pt", "w.safetensors", "whole.pt", "parallel.pth", "old.pt"])
def test_a_file_beside_a_model_of_its_framework(tmp_path: Path, kind: str) -> None:
    """Names say which tensor is which of the PyTorch model, and its graph the rest."""
    import torch
    from safetensors.torch import save_file

    model, module = modules()
    path = tmp_path / kind
    state = module.state_dict()
    if kind == "w.safetensors":
        save_file(state, path)
    elif kind == "whole.pt":
        torch.save(module, path)
    elif kind == "parallel.pth":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind != "old.pt")
    kept = [tensor.clone() for tensor in state.values()]
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.zero_()
    report = interop.transfer_weights(path, model, source_model=module)
    assert report.passed, str(report)
    assert not module[0].weight.any(), "the model beside the file is not changed"
    for variable, tensor in zip(model.weights, kept, strict=True):
        np.testing.assert_array_equal(np.transpose(keras.ops.convert_to_numpy(variable)), tensor)
    for variable in model.weights:
        variable.assign(variable + 1)
    if kind == "old.pt":
        with pytest.raises(FormatError, match=r"before 1\.6"):
            interop.transfer_weights(model, path, target_model=module)
        return
    interop.transfer_weights(model, path, target_model=module)
    interop.transfer_weights(path, module)
    np.testing.assert_allclose(module[0].weight.detach(), kept[0] + 1, rtol=1e-6)


@on_torch
def test_a_plan_converts_files_without_models(tmp_path: Path) -> None:
    import torch

    model, module = modules()
    plan = interop.Plan.load(interop.match(module, model).save(tmp_path / "plan.json"))
    torch.save(module.state_dict(), tmp_path / "w.pt")
    assert plan.apply(tmp_path / "w.pt", tmp_path / "new.safetensors") == tmp_path / "new.safetensors"
    interop.transfer_weights(tmp_path / "new.safetensors", model)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.weights[0]), module[0].weight.detach().T)
    first = module[0].weight.detach().clone()
    plan.reversed().apply(tmp_path / "new.safetensors", tmp_path / "back.npz")
    with interop.load_tensors(tmp_path / "back.npz") as tensors:
        np.testing.assert_array_equal(tensors["0.weight"], first)
    with pytest.raises(WeightsError, match=r"\.safetensors or \.npz"):
        plan.apply(tmp_path / "w.pt", tmp_path / "new.h5")
    before = (tmp_path / "new.safetensors").read_bytes()
    with pytest.raises(WeightsError, match=r"the source has no '0\.weight'; nearest: "):
        plan.apply(tmp_path / "new.safetensors", tmp_path / "new.safetensors")
    assert (tmp_path / "new.safetensors").read_bytes() == before


def test_rules_are_read_in_both_directions() -> None:
    rng = np.random.default_rng(0)
    source = {f"enc.{k}.qkv.weight": rng.standard_normal((6, 2)) for k in range(2)}
    target = {f"enc/{k}/{n}/kernel": np.zeros((2, 2)) for k in range(2) for n in "qkv"}
    from interop.transfer.rules import split

    plan = interop.match(
        source, target, rules=[Rule("enc.*.qkv.weight", "enc/*/{q,k,v}/kernel", [split(3), transpose])]
    )
    made = plan.convert(source)
    np.testing.assert_array_equal(made["enc/1/k/kernel"], source["enc.1.qkv.weight"][2:4].T)
    back = interop.Plan.from_json(json.loads(json.dumps(plan.reversed().to_json()))).convert(made)
    for name, array in source.items():
        np.testing.assert_array_equal(back[name], array)


FAILURES = {
    "missing": ({"a": (3, 4)}, {"a": (3, 4), "b": (4, 5)}, r"target have no source: b \(float32\[4, 5\]"),
    "unexpected": ({"a": (3,), "old": (5, 2)}, {"a": (3,)}, r"source go nowhere: old \(float32\[5, 2\]"),
    "nearest": (
        {"a": (3,), "c.kernel": (4, 5)},
        {"a": (3,), "b.weight": (5, 4)},
        r"b\.weight \(float32\[5, 4\]; nearest: c\.kernel float32\[4, 5\]\)",
    ),
    "shape": (
        {"a": (3, 4), "b": (2,)},
        {"a": (4, 3), "b": (2,)},
        r"a \(float32\[4, 3\]; on the other side a is float32\[3, 4\]\)",
    ),
    "nothing": ({"x": (3,)}, {"y": (4,)}, r"0 of 1 parameters of the target were found"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_name_parameters_sides_and_candidates(name: str) -> None:
    source, target, message = FAILURES[name]
    made = [{key: np.ones(shape, "float32") for key, shape in side.items()} for side in (source, target)]
    with pytest.raises(WeightsError, match=message):
        interop.transfer_weights(*made)


@on_torch
def test_a_file_that_is_of_another_model(tmp_path: Path) -> None:
    _, module = modules()
    np.savez(
        tmp_path / "w.npz", **{"0.weight": np.zeros((9, 6), "float32"), "0.bias": np.zeros(8, "float32")}
    )
    with pytest.raises(WeightsError, match=r"0\.weight \(float32\[8, 6\]; the file has float32\[9, 6\]\)"):
        interop.match(tmp_path / "w.npz", module, source_model=module)


@on_torch
def test_a_damaged_source_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    saved, target = net(1), net(2)
    interop.save_weights(saved, tmp_path / "ckpt")
    (data,) = tmp_path.glob("ckpt.data*")
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    before = values(target)
    interop.save_weights(target, tmp_path / "w.npz")
    kept = (tmp_path / "w.npz").read_bytes()
    for goal in (target, tmp_path / "w.npz"):
        with pytest.raises(InteropError):
            interop.transfer_weights(tmp_path / "ckpt", goal)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(target), strict=True))
    assert (tmp_path / "w.npz").read_bytes() == kept
    assert len(list(tmp_path.iterdir())) == 3, "nothing is left behind"


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    """A pickle that would write a file when it is loaded; also what looks like a call of a tensor's function."""
    import zipfile

    mark = tmp_path / "mark"
    evil = b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
        archive.writestr("archive/data/0", b"\0" * 16)
    with pytest.raises(FormatError, match="no tensors are in it"):
        open_tensors(tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(evil)
    with pytest.raises(FormatError, match=r"not what torch\.save writes"):
        open_tensors(tmp_path / "evil.bin")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "no weight_map"),
        ("{", "not JSON"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "no file beside the index"),
        ('{"weight_map": {"a": "x.safetensors"}}', "x.safetensors is missing"),
        ('{"weight_map": {"a": "y.safetensors.index.json"}}', "another index"),
    ],
)
def test_bad_indices_of_shards(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(index)
    with pytest.raises(FormatError, match=message):
        open_tensors(tmp_path)


def test_command_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.standard_normal((3, 2)), "b.weight": rng.standard_normal(4)}
    np.savez(tmp_path / "s.npz", **tensors)
    np.savez(tmp_path / "t.npz", **{f"module.{name}": np.zeros_like(a) for name, a in tensors.items()})
    source, target, report = (str(tmp_path / name) for name in ("s.npz", "t.npz", "out.json"))
    assert main(["transfer", source, target, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["found"] == "name"
    assert not np.load(target)["module.a.weight"].any()
    assert main(["transfer", source, target, "--report", report]) == 0
    assert "not proven" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(target)["module.a.weight"], tensors["a.weight"])
    assert json.loads(Path(report).read_text())["plan"]["entries"]
    np.savez(tmp_path / "t.npz", **{"a.weight": np.zeros((3, 2)), "c": np.zeros(9)})
    assert main(["transfer", source, target]) == 1
    assert "1 parameters of the target have no source: c" in capsys.readouterr().err
    assert main(["transfer", source, target, "--partial"]) == 0
    np.testing.assert_array_equal(np.load(target)["a.weight"], tensors["a.weight"])
    np.savez(tmp_path / "t.npz", other=np.zeros(9))
    capsys.readouterr()
    assert main(["transfer", source, target, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "WeightsError"
    assert main(["transfer", source, str(tmp_path / "none.npz")]) == 1
    assert "none.npz does not exist" in capsys.readouterr().err
    assert main(["transfer", source]) == 2


@on_torch
def test_command_with_models_beside_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of PyTorch into a Keras file, then by the plan alone into a new file."""
    import torch

    model, module = modules()
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef net():\n"
        "    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    model.save("m.keras")
    torch.save(module.state_dict(), "w.pt")
    given = ["transfer", "w.pt", "m.keras", "--source-model", "nets:net"]
    assert main([*given, "--dry-run", "--report", "plan.json"]) == 0
    assert main(given) == 0
    assert "PASS" in capsys.readouterr().out
    np.testing.assert_array_equal(values(keras.models.load_model("m.keras"))[0], module[0].weight.detach().T)
    assert main(["transfer", "w.pt", "new.safetensors", "--rules", "plan.json"]) == 0
    with interop.load_tensors("new.safetensors") as tensors:
        np.testing.assert_array_equal(tensors["a/kernel"], module[0].weight.detach().T)
    assert main(["transfer", "w.pt", "m.keras", "--source-model", "nets:absent"]) == 1
    assert "nets:absent was not found" in capsys.readouterr().err


@on_torch
def test_saved_models(tmp_path: Path) -> None:
    """Of Keras 2, without TensorFlow: a source with a graph, and a target."""
    path = tmp_path / "lstm"
    shutil.copytree(Path(__file__).parent / "fixtures" / "legacy" / "saved_model" / "lstm", path)
    model = interop.load_model(path, compile=False)
    kept = values(model)
    for variable in weights(model):
        variable.assign(variable * 0.5 + 0.1)
    changed = values(model)
    assert interop.transfer_weights(model, path).passed
    again = interop.load_model(path, compile=False)
    assert all(np.array_equal(a, b) for a, b in zip(changed, values(again), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(changed, kept, strict=True))
    assert interop.transfer_weights(path, model).passed


@pytest.mark.framework("tensorflow")
@pytest.mark.parametrize("kind", ["keras", "module"])
def test_saved_models_of_traced_functions(tmp_path: Path, kind: str) -> None:
    """A graph of TensorFlow's as source and as target of a Keras model; the functions in it use the new values."""
    import tensorflow as tf

    def made(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = [L.Conv2D(4, 3), L.BatchNormalization(epsilon=1e-5), L.ReLU(), L.Flatten(), L.Dense(3)]
        model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        for variable in model.weights:
            variable.assign(np.random.default_rng(seed).uniform(0.2, 1, variable.shape))
        return model

    class Module(tf.Module):
        def __init__(self, model: Any) -> None:
            self.kernel, self.bias, *self.norm, self.last, self.offset = (v.value for v in model.weights)

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def __call__(self, x):  # type: ignore[no-untyped-def]
            gamma, beta, mean, variance = self.norm
            x = tf.nn.conv2d(x, self.kernel, 1, "VALID") + self.bias
            x = tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-5))
            return tf.reshape(x, (-1, 144)) @ self.last + self.offset

    path, saved, target = tmp_path / "saved", made(1), made(2)
    if kind == "keras":
        saved.export(path, verbose=False)
    else:
        module = Module(saved)
        tf.saved_model.save(module, path, signatures=module.__call__)
    report = interop.transfer_weights(path, target)
    assert report.passed, str(report)
    assert same(saved, target)
    other = made(3)
    assert interop.transfer_weights(other, path).passed
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    (result,) = tf.saved_model.load(path).signatures["serving_default"](tf.constant(x)).values()
    np.testing.assert_allclose(result, keras.ops.convert_to_numpy(other(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.framework("tensorflow")
def test_saved_models_of_recurrent_layers(tmp_path: Path) -> None:
    """Their weights are constants of the graph that TensorFlow tells; where they are stored, their values tell."""
    import tensorflow as tf

    def made(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = [L.LSTM(4, return_sequences=True), L.Bidirectional(L.LSTM(3)), L.Dense(3)]
        return keras.Sequential([keras.Input((6, 5)), *layers])

    path, saved, target = tmp_path / "saved", made(1), made(2)
    saved.export(path, verbose=False)
    assert interop.transfer_weights(path, target).passed
    assert same(saved, target)
    other = made(3)
    assert interop.transfer_weights(other, path).passed
    x = np.random.default_rng(0).standard_normal((2, 6, 5)).astype("float32")
    (result,) = tf.saved_model.load(path).signatures["serving_default"](tf.constant(x)).values()
    np.testing.assert_allclose(result, keras.ops.convert_to_numpy(other(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.framework("tensorflow")
def test_a_saved_model_of_steps(tmp_path: Path) -> None:
    """A layer that becomes steps in the graph that TensorFlow tells."""
    saved, target = (keras.Sequential([keras.Input((3, 5)), L.GRU(4), L.Dense(3)]) for _ in range(2))
    saved.export(tmp_path / "saved", verbose=False)
    assert interop.transfer_weights(tmp_path / "saved", target).passed
    assert same(saved, target)


def test_files_need_no_framework(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.ones(3))
    np.savez(tmp_path / "t.npz", a=np.zeros(3))
    code = (
        "import sys, interop; interop.transfer_weights(*sys.argv[1:])\n"
        "assert not {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s.npz"), str(tmp_path / "t.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
