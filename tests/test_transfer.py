"""Weights between frameworks: each row in both directions, checked by the frameworks themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from cases.transfers import PAIRS, Pair, inputs_of, mlp

import interop
from interop.errors import ParityError, WeightsError
from interop.transfer.matching import matched
from interop.transfer.proof import prove

L = keras.layers
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.framework("torch")


def drawn(module: Any) -> Any:
    """A module whose every parameter differs from every other, and whose signals neither fade nor grow."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                scale = 1.3 / max(np.prod(value.shape[1:]), 1) ** 0.5 if value.ndim > 1 else 0.2
                value.copy_(noise * scale + (1.0 if "var" in name else 0.0))
                if "var" in name:
                    value.abs_().add_(0.5)
    return module.eval()


def redrawn(model: Any) -> Any:
    rng = np.random.default_rng(1)
    for variable in model.weights:
        noise = rng.standard_normal(variable.shape)
        fan = max(int(np.prod(variable.shape[:-1])), 1)
        value = noise * 1.3 / fan**0.5 if len(variable.shape) > 1 else 0.2 * noise
        variable.assign(np.abs(value) + 0.7 if "variance" in variable.name else value)
    return model


def array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def difference(pair: Pair, model: Any, module: Any) -> float:
    """The largest relative error, at two batch sizes."""
    worst = 0.0
    for batch in (3, 5):
        arrays = inputs_of(pair, model, batch)
        expected = keras.ops.convert_to_numpy(model(arrays if len(arrays) > 1 else arrays[0], training=False))
        given = [np.ascontiguousarray(np.moveaxis(a, -1, 1)) if pair.first else a for a in arrays]
        with torch.no_grad():
            made = module(*(torch.as_tensor(a) for a in given)).numpy()
        made = np.moveaxis(made, 1, -1) if pair.first and made.ndim > 2 else made
        assert np.std(expected, axis=0).mean() > 1e-2 * np.sqrt(np.mean(expected**2)), (
            "the outputs do not vary"
        )
        worst = max(worst, float(np.abs(expected - made).max() / np.sqrt(np.mean(expected**2))))
    return worst


_ROWS = [pytest.param(p, id=p.name, marks=[pytest.mark.full] if p.full else []) for p in PAIRS]


@pytest.mark.parametrize("pair", _ROWS)
def test_both_ways(pair: Pair) -> None:
    model, module = pair.make(torch.nn)
    redrawn(model), drawn(module)
    assert difference(pair, model, module) > 1e-2
    report = interop.transfer_weights(model, module)
    assert report.passed, str(report)
    assert difference(pair, model, module) < 1e-5
    values = {name: value.clone() for name, value in module.state_dict().items()}
    turned = report.plan.reversed()
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    redrawn(model)
    turned.apply()
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_allclose(old, keras.ops.convert_to_numpy(weight), rtol=1e-6, atol=1e-7)
    drawn(module)
    back = interop.transfer_weights(module, model)
    assert back.passed, str(back)
    assert difference(pair, model, module) < 1e-5
    assert values.keys() == module.state_dict().keys()


def test_trunk_into_another_head(tmp_path: Path) -> None:
    model, _ = mlp(torch.nn)
    module = torch.nn.Sequential(*mlp(torch.nn)[1][:-1], torch.nn.Linear(16, 7))
    head = module[-1].weight.clone()
    with pytest.raises(WeightsError, match=r"6\.weight .*nearest: dense\w*/kernel") as error:
        interop.transfer_weights(redrawn(model), module)
    assert "target" in str(error.value)
    report = interop.transfer_weights(model, module, partial=True)
    assert [problem.name for problem in report.plan.missing] == ["6.weight", "6.bias"]
    assert report.proof is not None
    assert report.proof.compared == 3
    assert torch.equal(module[-1].weight, head)
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))


def test_plans_are_saved_and_applied_without_models(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    plan = interop.match(redrawn(model), module)
    assert "transpose(1, 0)" in str(plan)
    read = interop.Plan.load(plan.save(tmp_path / "plan.json"))
    assert read.to_json() == plan.to_json()
    made = read.convert(_tensors(model))
    np.testing.assert_array_equal(made["0.weight"], array(model.weights[0]).T)
    read.reversed().apply(drawn(module), model)
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))
    with pytest.raises(WeightsError, match="no models"):
        read.apply()
    value = plan.to_json()
    value["entries"][0]["pieces"][0]["sizes"][0] = 10**6
    with pytest.raises(WeightsError, match="reaches from element"):
        interop.Plan.from_json(value).convert(_tensors(model))
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(WeightsError, match="no plan"):
        interop.Plan.load(tmp_path / "bad.json")


def _tensors(model: Any) -> dict[str, np.ndarray]:
    from interop.capture.keras import paths

    return {name: keras.ops.convert_to_numpy(v) for name, v in paths.walk(model).by_key.items()}


def test_wrong_mappings_fail_the_proof() -> None:
    model, module = mlp(torch.nn)
    good = matched(model, module)
    assert prove(good).passed
    assert prove(good).idle == ()
    entries = {entry.target: entry for entry in good.plan.entries}
    one, two = entries["2.weight"], entries["4.weight"]
    swapped = [
        dataclasses.replace(one, pieces=tuple(dataclasses.replace(p, target=one.target) for p in two.pieces)),
        dataclasses.replace(two, pieces=tuple(dataclasses.replace(p, target=two.target) for p in one.pieces)),
    ]
    rest = [entry for name, entry in entries.items() if name not in ("2.weight", "4.weight")]
    wrong = dataclasses.replace(good, plan=dataclasses.replace(good.plan, entries=(*rest, *swapped)))
    proof = prove(wrong)
    assert not proof.passed
    assert proof.inner > 0.2
    assert proof.differences[0] == "the models depart at 2.bias"


def test_what_models_do_differently_is_named() -> None:
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), L.Conv2D(8, 3, 2, "same"), L.BatchNormalization(), L.Conv2D(4, 3)]
    )
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).eval()
    report = interop.transfer_weights(model, module)
    assert not report.passed
    said = report.plan.differences
    assert said[0] == "the models depart at 0.bias"
    assert any(line.startswith("padding of 0.weight (source: conv2d") for line in said)
    assert any(line.startswith("epsilon of 1.bias") for line in said)
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "gelu"), L.Dense(3)])
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU("tanh"), nn.Linear(8, 3))
    (_, line) = interop.transfer_weights(model, module).plan.differences
    assert "Erf" in line
    assert "Tanh" in line


def test_rules_go_before_structure() -> None:
    from interop.transfer.rules import split, transpose

    model = keras.Sequential([keras.Input((4,)), *(L.Dense(4, name=name) for name in "ab")])
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    rules = [
        interop.Rule("a/kernel", "1.weight", [transpose]),
        interop.Rule("b/kernel", "0.weight", [transpose]),
    ]
    plan = interop.match(redrawn(model), module, rules=rules)
    plan.apply()
    np.testing.assert_array_equal(module[1].weight.detach().numpy().T, array(model.layers[0].kernel))
    with pytest.raises(ParityError, match="Nothing was changed"):
        interop.transfer_weights(model, module, rules=rules)
    with pytest.raises(WeightsError, match=r"c/kernel.*nearest: [ab]/kernel"):
        interop.match(model, module, rules=[interop.Rule("c/kernel", "0.weight")])
    with pytest.raises(WeightsError, match="makes 2 tensors"):
        interop.match(model, module, rules=[interop.Rule("a/kernel", "0.weight", [split(2)])])


def test_neither_tells_its_inputs() -> None:
    nn = torch.nn
    with pytest.raises(WeightsError, match="source_inputs"):
        interop.match(nn.Linear(3, 2), nn.Linear(3, 2))
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    assert interop.transfer_weights(source, target, source_inputs=[(None, 3)]).passed
    assert torch.equal(source.weight, target.weight)
    with pytest.raises(WeightsError, match="does not run on"):
        interop.match(nn.Linear(3, 2), nn.Linear(5, 2), source_inputs=[(None, 3)])


def test_graphs_in_files(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    interop.export_onnx(redrawn(model), tmp_path / "model.onnx", verify=False)
    assert interop.transfer_weights(tmp_path / "model.onnx", module).passed
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))
    interop.transfer_weights(drawn(module), tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((3, 10)).astype("float32")
    made = interop.load_graph(tmp_path / "model.onnx")(x)
    np.testing.assert_allclose(made, module(torch.as_tensor(x)).detach(), rtol=1e-5, atol=1e-6)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from interop.cli.main import main

    model, other = mlp(torch.nn)[0], mlp(torch.nn)[0]
    redrawn(model).save(tmp_path / "a.keras")
    other.save(tmp_path / "b.keras")
    paths = [str(tmp_path / name) for name in ("a.keras", "b.keras")]
    plan = str(tmp_path / "plan.json")
    assert main(["transfer", *paths, "--dry-run", "--report", plan]) == 0
    assert "found by" in capsys.readouterr().out
    assert main(["transfer", *paths, "--rules", plan]) == 0
    assert "PASS" in capsys.readouterr().out
    made = keras.models.load_model(tmp_path / "b.keras")
    for one, two in zip(model.weights, made.weights, strict=True):
        np.testing.assert_array_equal(array(one), array(two))


def flax_net() -> tuple[Any, Any]:
    """A Flax module and the Keras model of the same."""
    pytest.importorskip("flax")
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm = nnx.LayerNorm(12, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(3, 12, decode=False, rngs=rngs)
            self.first = nnx.Linear(12, 12, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            h = self.first(x)
            return self.norm(h + self.attention(h))

    inputs = keras.Input((6, 12))
    h = L.Dense(12)(inputs)
    h = L.LayerNormalization(epsilon=1e-6)(h + L.MultiHeadAttention(3, 4)(h, h))
    return Net(nnx.Rngs(0)), keras.Model(inputs, h)


@pytest.mark.full
def test_flax() -> None:
    module, model = flax_net()
    x = np.random.default_rng(0).standard_normal((3, 6, 12)).astype("float32")
    assert interop.transfer_weights(module, model).passed
    np.testing.assert_allclose(array(model(x)), np.asarray(module(x)), rtol=1e-4, atol=1e-5)
    assert interop.transfer_weights(redrawn(model), module).passed
    np.testing.assert_allclose(array(model(x)), np.asarray(module(x)), rtol=1e-4, atol=1e-5)


def test_artifacts(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    interop.save_model(redrawn(model), tmp_path / "model.interop")
    assert interop.transfer_weights(tmp_path / "model.interop", module).passed
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))
    written = interop.transfer_weights(drawn(module), tmp_path / "model.interop")
    assert written.passed
    assert written.target == tmp_path / "model.interop"
    made = interop.load_model(tmp_path / "model.interop")
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(made.weights[0]))


def _bert(kinds: Any, hub: Any) -> tuple[Any, Any, tuple[str, ...]]:
    config = kinds.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=32,
        hidden_act="gelu_new",
    )
    backbone = hub.BertBackbone(50, 2, 3, 24, 40, max_sequence_length=32)
    return kinds.BertModel(config), backbone, ("input_ids", "attention_mask", "token_type_ids")


def _gpt2(kinds: Any, hub: Any) -> tuple[Any, Any, tuple[str, ...]]:
    sizes = {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
    config = kinds.GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=0)
    backbone = hub.GPT2Backbone(50, 2, 3, 24, 96, max_sequence_length=32)
    return kinds.GPT2Model(config), backbone, ("input_ids",)


def _llama(kinds: Any, hub: Any) -> tuple[Any, Any, tuple[str, ...]]:
    config = kinds.LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        intermediate_size=40,
        use_cache=False,
    )
    return kinds.LlamaModel(config), hub.LlamaBackbone(50, 2, 3, 24, 40, 1), ("input_ids",)


def _vit(kinds: Any, hub: Any) -> tuple[Any, Any, tuple[str, ...]]:
    config = kinds.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        image_size=32,
        patch_size=8,
    )
    backbone = hub.ViTBackbone((32, 32, 3), 8, 2, 3, 24, 40, layer_norm_epsilon=1e-12)
    return kinds.ViTModel(config, add_pooling_layer=False), backbone, ()


@pytest.mark.full
@pytest.mark.parametrize("make", [_bert, _gpt2, _llama, _vit])
def test_hugging_face_and_kerashub(make: Any) -> None:
    """Where transformers is installed, which no extra brings."""
    module, backbone, names = make(
        pytest.importorskip("transformers"), pytest.importorskip("keras_hub").models
    )
    signature = {name: {"shape": (None, 8), "dtype": "int64"} for name in names} or None
    report = interop.transfer_weights(drawn(module), backbone, source_inputs=signature)
    assert report.passed, str(report)
    assert report.error is not None
    assert report.error < 1e-5
    back = interop.transfer_weights(redrawn(backbone), module, target_inputs=signature)
    assert back.passed, str(back)
    assert back.error is not None
    assert back.error < 1e-5


def test_tensors_without_a_graph_match_by_name(tmp_path: Path) -> None:
    module = drawn(mlp(torch.nn)[1])
    tensors = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    other = mlp(torch.nn)[1]
    report = interop.transfer_weights(tensors, other)
    assert not report.passed, "nothing was proven"
    assert {entry.found for entry in report.plan.entries} == {"name"}
    assert torch.equal(other[2].weight, module[2].weight)
    tensors["second.weight"] = tensors.pop("2.weight")
    with pytest.raises(WeightsError, match=r"2\.weight .*nearest: second\.weight"):
        interop.transfer_weights(tensors, other)
    np.savez(tmp_path / "weights.npz", **tensors)
    rules = [interop.Rule("second.*", "2.*")]
    interop.transfer_weights(tmp_path / "weights.npz", mlp(torch.nn)[1], rules=rules)
