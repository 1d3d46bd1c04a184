"""What cannot be transferred: each failure says which parameters, on which side, and what comes nearest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from cases.transfers import drawn

import interop
from interop.errors import CaptureError, ParityError, WeightsError

L = keras.layers
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.framework("torch")


def dense(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((6,)), *layers])


def stack(*sizes: int, bias: bool = True) -> Any:
    nn = torch.nn
    made = [nn.Linear(a, b, bias=bias or b != sizes[-1]) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*(layer for linear in made for layer in (linear, nn.ReLU())))


class Untied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = torch.nn.Embedding(30, 10), torch.nn.Linear(10, 30, bias=False)

    def forward(self, x: Any) -> Any:
        return self.out(torch.tanh(self.table(x)))


class Tied(Untied):
    def __init__(self) -> None:
        super().__init__()
        self.out.weight = self.table.weight


class Gates(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(5, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.gru(x)[0]


def normalised_input() -> tuple[Any, Any]:
    """A normalisation that no layer of its own comes before."""
    nn = torch.nn
    return dense(L.Dense(3)), nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)).eval()


#: What is wrong -> source and target, and parts of the message in their order.
_FAILURES: dict[str, tuple[Callable[[Path], tuple[Any, Any]], tuple[str, ...]]] = {
    "the target has more": (
        lambda _: (dense(L.Dense(8, "relu", name="a"), L.Dense(3, "relu", use_bias=False, name="b")), stack(6, 8, 3)),
        ("1 parameters of the target have no source: 2.bias (float32[3], added where the source adds nothing: the "
         "same only if it is 0; nearest: a/bias float32[8], which is taken)", "3 of 4"),
    ),
    "the source has more": (
        lambda _: (dense(L.Dense(8, "relu", name="a"), L.Dense(3, "relu", name="b")), stack(6, 8, 3, bias=False)),
        ("1 parameters of the source go nowhere: b/bias (float32[3], added where the target adds nothing",
         "nearest: 0.bias float32[8], which is taken)"),
    ),
    "another size": (
        lambda _: (dense(L.Dense(8, "relu", name="a"), L.Dense(3, "relu", name="b")), stack(6, 9, 3)),
        ("3 parameters of the target have no source: 0.weight (float32[9, 6]; nearest: a/kernel float32[6, 8]",
         "3 parameters of the source go nowhere: a/kernel (float32[6, 8]; nearest: 0.weight float32[9, 6]"),
    ),
    "a layer more": (
        lambda _: (dense(*(L.Dense(8, "relu", name=name) for name in "ab"), L.Dense(3, "relu")), stack(6, 8, 3)),
        ("2 parameters of the source go nowhere: b/kernel (float32[8, 8]; nearest: 0.weight float32[8, 6], which is",),
    ),
    "one for two": (
        lambda _: (Untied(), Tied()),
        ("1 parameters of the source go nowhere: out.weight", "1 parameters of the target have several sources: ",
         "nearest: out.weight, table.weight"),
    ),
    "gates without biases": (
        lambda _: (keras.Sequential([keras.Input((6, 5)), L.GRU(4, use_bias=False, return_sequences=True)]), Gates()),
        ("gru.bias_ih_l0 (float32[12], added where the source adds nothing: the same only if it is 0", "2 of 4"),
    ),
    "a normalisation more": (
        lambda _: normalised_input(),
        ("of the target have no source: 0.weight", "0.running_var (float32[6]; nearest: ",
         "has no parameters of a normalisation, as PyTorch Sequential has (0.running_var)",
         "no layer comes right before it"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _FAILURES)
def test_the_message_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    make, words = _FAILURES[name]
    source, target = make(tmp_path)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    inputs = {"x": {"shape": (None, 8), "dtype": "int64"}} if isinstance(source, Untied) else None
    with pytest.raises(WeightsError) as error:
        interop.transfer_weights(
            source if isinstance(source, Path) else drawn(source), target, source_inputs=inputs
        )
    said, at = str(error.value), 0
    for word in words:
        assert word in said[at:], said
        at = said.index(word, at)
    assert "partial=True" in said
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_a_plan_of_other_models() -> None:
    plan = interop.match(dense(L.Dense(3, name="a")), stack(6, 3))
    with pytest.raises(
        WeightsError, match=r"the plan has '0\.weight' as float32\[3, 6\]; the model has float32\[4, 6\]"
    ):
        interop.match(dense(L.Dense(4, name="a")), stack(6, 4), rules=plan)
    with pytest.raises(WeightsError, match=r"the source has no 'a/bias'; nearest: a/biases"):
        plan.convert({"a/kernel": np.zeros((6, 3)), "a/biases": np.zeros(3)})


def test_a_plan_of_layers_counted_otherwise() -> None:
    """Keras counts the layers that a process has made; another of the same kind has other numbers."""
    plan = interop.Plan.from_json(interop.match(stack(6, 3), dense(L.Dense(3))).to_json())
    source, other = stack(6, 3), dense(L.Dense(3))
    plan.apply(source, other)
    assert np.array_equal(keras.ops.convert_to_numpy(other.weights[0]).T, source[0].weight.detach().numpy())
    with pytest.raises(
        WeightsError, match=r"the target, Keras model .*has no parameter .*; nearest: dense.*\[6, 4\]"
    ):
        plan.apply(source, dense(L.Dense(4)))


def test_inputs_that_hold_nothing() -> None:
    with pytest.raises(WeightsError, match=r"is \[0, 6\], which holds nothing to compare"):
        interop.match(stack(6, 3), dense(L.Dense(3)), source_inputs=[(0, 6)])


def test_what_is_no_model() -> None:
    with pytest.raises(WeightsError, match="a int has no weights to transfer; expected a Keras"):
        interop.match(3, stack(6, 3))
    with pytest.raises(WeightsError, match="the mapping cannot be written to; give a model as target"):
        interop.transfer_weights(stack(6, 3), {"0.weight": np.zeros((3, 6)), "0.bias": np.zeros(3)})


class Variadic(torch.nn.Linear):
    def forward(self, *tensors: Any) -> Any:
        return super().forward(*tensors)


def test_inputs_without_names() -> None:
    with pytest.raises(
        CaptureError, match=r"Variadic\.forward takes \*tensors, but the inputs of a graph have names"
    ):
        interop.match(Variadic(6, 3), dense(L.Dense(3)))


def test_what_a_partial_transfer_leaves_out_stays() -> None:
    """The proof takes it as the target has it: a bias that is zero, in the middle, changes nothing."""
    source = drawn(dense(L.Dense(8, "relu", use_bias=False), L.Dense(3, "relu")))
    target = stack(6, 8, 3)
    torch.nn.init.zeros_(target[0].bias)
    report = interop.transfer_weights(source, target, partial=True)
    assert [problem.name for problem in report.plan.missing] == ["0.bias"]
    assert report.passed
    torch.nn.init.ones_(target[0].bias)
    with pytest.raises(ParityError, match=r"the models depart at 2\.(weight|bias)"):
        interop.transfer_weights(source, target, partial=True)
