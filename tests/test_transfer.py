"""Weights between frameworks: each row in both directions, checked by the frameworks themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from cases.transfers import Pair, all_pairs, difference, drawn
from cases.transfers.plain import mlp

import interop
from interop.errors import ParityError, WeightsError
from interop.transfer.matching import matched
from interop.transfer.models import open_model
from interop.transfer.proof import prove

L = keras.layers
torch = pytest.importorskip("torch")
#: What does not depend on the backend of Keras.
once = pytest.mark.framework("torch")


def array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


_ROWS = [pytest.param(p, id=p.name, marks=[] if p.quick else [pytest.mark.full]) for p in all_pairs()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", _ROWS)
def test_both_ways(pair: Pair, record_property: Any) -> None:
    one, other = pair.make(torch.nn)
    one, other = drawn(one, 1), drawn(other)
    if not pair.differs:
        assert difference(pair, one, other) > 1e-2
    errors: list[float] = []
    record_property("max_rel", errors)
    signatures = pair.signatures.get("one"), pair.signatures.get("other")
    there = moved(one, other, signatures)
    other = there.target
    checked(pair, there, one, other, errors)
    if not any(piece.zeros for entry in there.plan.reversed().entries for piece in entry.pieces):
        turned_around(pair, there, one)
    other = drawn(other, 2)
    back = moved(other, one, signatures[::-1])
    one = back.target
    checked(pair, back, one, other, errors)
    record_property("compared", back.proof.compared)


def moved(source: Any, target: Any, signatures: tuple[Any, Any]) -> interop.TransferReport:
    return interop.transfer_weights(source, target, source_inputs=signatures[0], target_inputs=signatures[1])


def checked(pair: Pair, report: Any, one: Any, other: Any, errors: list[float]) -> None:
    """The models agree, or depart where and as the row says."""
    assert report.plan.complete, str(report)
    for word in pair.differs:
        assert any(word in line for line in report.plan.differences), str(report)
    assert report.passed == (not pair.differs), str(report)
    if pair.differs:
        assert report.proof.explained, str(report)
        errors.append(report.proof.aside)
        assert errors[-1] < 1e-5
    else:
        errors.append(difference(pair, one, other))
        assert errors[-1] < 1e-5


def turned_around(pair: Pair, report: Any, source: Any) -> None:
    """The same plan, from the target to the source, gives back what was there, or what computes the same."""
    opened = open_model(source)
    before = {name: opened.read(name).copy() for name in opened.tensors}
    changed = drawn(source, 3)
    plan = report.plan.reversed()
    made = plan.apply(open_model(report.target), open_model(changed))
    if plan.notes:
        assert difference(pair, made, report.target) < 1e-5
        return
    back = open_model(made)
    unused = {name.partition(": ")[2] for name in report.plan.unused}
    for name, value in before.items():
        if name not in unused:
            np.testing.assert_allclose(back.read(name), value, rtol=1e-6, atol=1e-6, err_msg=name)


@once
def test_a_recurrent_layer_of_flax() -> None:
    """A loop over a cell with one product for all gates into one layer."""
    (pair,) = (p for p in all_pairs() if p.name == "linen LSTM of one product, PyTorch")
    one, other = pair.make(torch.nn)
    report = interop.transfer_weights(drawn(one), other, source_inputs=pair.signatures["one"])
    assert report.passed, str(report)
    assert difference(pair, drawn(one), other) < 1e-5


def test_trunk_into_another_head(tmp_path: Path) -> None:
    model, _ = mlp(torch.nn)
    module = torch.nn.Sequential(*mlp(torch.nn)[1][:-1], torch.nn.Linear(16, 7))
    head = module[-1].weight.clone()
    with pytest.raises(WeightsError, match=r"6\.weight .*nearest: dense\w*/kernel") as error:
        interop.transfer_weights(drawn(model), module)
    assert "target" in str(error.value)
    report = interop.transfer_weights(model, module, partial=True)
    assert [problem.name for problem in report.plan.missing] == ["6.weight", "6.bias"]
    assert report.proof is not None
    assert report.proof.compared == 3
    assert torch.equal(module[-1].weight, head)
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))


@once
def test_plans_are_saved_and_applied_without_models(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    plan = interop.match(drawn(model), module)
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


@once
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


@once
def test_what_models_do_differently_is_named() -> None:
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), L.Conv2D(8, 3, 2, "same"), L.BatchNormalization(), L.Conv2D(4, 3)]
    )
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).eval()
    report = interop.transfer_weights(model, module)
    assert not report.passed
    said = report.plan.differences
    assert said[0] == "the models depart at 1.bias"
    assert report.proof is not None
    assert report.proof.explained, "with the same padding and epsilon the graphs agree"
    assert report.proof.aside is not None
    assert report.proof.aside < 1e-5
    assert any(line.startswith("padding of 0.weight (source: conv2d") for line in said)
    assert any(line.startswith("epsilon of 1.running_var") for line in said)
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "gelu"), L.Dense(3)])
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU("tanh"), nn.Linear(8, 3))
    (_, line) = interop.transfer_weights(model, module).plan.differences
    assert "Erf" in line
    assert "Tanh" in line


@once
def test_rules_go_before_structure() -> None:
    from interop.transfer.rules import split, transpose

    model = keras.Sequential([keras.Input((4,)), *(L.Dense(4, name=name) for name in "ab")])
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    rules = [
        interop.Rule("a/kernel", "1.weight", [transpose]),
        interop.Rule("b/kernel", "0.weight", [transpose]),
    ]
    plan = interop.match(drawn(model), module, rules=rules)
    plan.apply()
    np.testing.assert_array_equal(module[1].weight.detach().numpy().T, array(model.layers[0].kernel))
    with pytest.raises(ParityError, match="Nothing was changed"):
        interop.transfer_weights(model, module, rules=rules)
    with pytest.raises(WeightsError, match=r"c/kernel.*nearest: [ab]/kernel"):
        interop.match(model, module, rules=[interop.Rule("c/kernel", "0.weight")])
    with pytest.raises(WeightsError, match="makes 2 tensors"):
        interop.match(model, module, rules=[interop.Rule("a/kernel", "0.weight", [split(2)])])


@once
def test_neither_tells_its_inputs() -> None:
    nn = torch.nn
    with pytest.raises(WeightsError, match="source_inputs"):
        interop.match(nn.Linear(3, 2), nn.Linear(3, 2))
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    assert interop.transfer_weights(source, target, source_inputs=[(None, 3)]).passed
    assert torch.equal(source.weight, target.weight)
    with pytest.raises(WeightsError, match="does not run on"):
        interop.match(nn.Linear(3, 2), nn.Linear(5, 2), source_inputs=[(None, 3)])


@once
def test_graphs_in_files(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    interop.export_onnx(drawn(model), tmp_path / "model.onnx", verify=False)
    assert interop.transfer_weights(tmp_path / "model.onnx", module).passed
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))
    interop.transfer_weights(drawn(module), tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((3, 10)).astype("float32")
    made = interop.load_graph(tmp_path / "model.onnx")(x)
    np.testing.assert_allclose(made, module(torch.as_tensor(x)).detach(), rtol=1e-5, atol=1e-6)


@once
def test_single_numbers_in_graphs(tmp_path: Path) -> None:
    """The bias of one unit and a factor for all are initializers as an epsilon may be."""

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.last = (torch.nn.Parameter(torch.rand(n)) for n in ((1,), ()))
            self.norm, self.head = torch.nn.LayerNorm(6), torch.nn.Linear(6, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(x + self.factor * torch.tanh(x))) * self.last

    source, path = drawn(Scaled(), 1), tmp_path / "m.onnx"
    interop.export_onnx(source, path, input_signature=[(None, 6)], verify=False)
    target = drawn(Scaled(), 2)
    report = interop.transfer_weights(path, target)
    assert report.passed, str(report)
    assert torch.equal(source.factor, target.factor)
    plan = interop.Plan.load(report.plan.reversed().save(tmp_path / "plan.json"))
    plan.apply(drawn(target, 3), path)
    assert interop.transfer_weights(path, source, rules=plan.reversed()).passed
    assert torch.equal(source.head.bias, target.head.bias)


@once
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from interop.cli.main import main

    model, other = mlp(torch.nn)[0], mlp(torch.nn)[0]
    drawn(model).save(tmp_path / "a.keras")
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


@once
def test_artifacts(tmp_path: Path) -> None:
    model, module = mlp(torch.nn)
    interop.save_model(drawn(model), tmp_path / "model.interop")
    assert interop.transfer_weights(tmp_path / "model.interop", module).passed
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(model.weights[0]))
    written = interop.transfer_weights(drawn(module), tmp_path / "model.interop")
    assert written.passed
    assert written.target == tmp_path / "model.interop"
    made = interop.load_model(tmp_path / "model.interop")
    np.testing.assert_array_equal(module[0].weight.detach().numpy().T, array(made.weights[0]))


@once
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
