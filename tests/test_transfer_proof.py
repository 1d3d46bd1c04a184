"""The proof of a transfer can fail, and says what two models do differently."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from cases.transfers import all_pairs, drawn

import interop
from interop.errors import ParityError, WeightsError
from interop.transfer.matching import Match, matched
from interop.transfer.proof import prove
from interop.transfer.trial import TOLERANCE, Expected, Trial, deviation, relative

L = keras.layers
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.framework("torch")
_PAIRS = {pair.name: pair for pair in all_pairs()}

_QUICK = ("cnn", "form of gelu", "stride, padding and epsilon", "before padding")


def rows(names: Any) -> list[Any]:
    return [pytest.param(n, id=n, marks=[] if n in _QUICK else [pytest.mark.full]) for n in names]


#: Rows, and what of each has no effect at all: a bias of keys adds the same to every score of a query.
_DISCRIMINATED = {
    "cnn": (),
    "residual": (),
    "kernels": (),
    "recurrent": (),
    "language": (),
    "gated": (),
    "shared": (),
    "bias before a norm": (),
    "encoder": ("key_dense/bias",),
    "qkv interleaved": ("key_dense/bias",),
}


@pytest.mark.parametrize("name", rows(_DISCRIMINATED))
def test_every_entry_counts(name: str) -> None:
    """One entry of the mapping after the other is permuted, and then off in one part: the proof breaks."""
    pair = _PAIRS[name]
    one, other = pair.make(torch.nn)
    for source, target in ((one, other), (other, one)):
        match = matched(drawn(source), drawn(target))
        trial = Trial(match, Expected(match, 0))
        assert trial.errors().worst < 1e-5
        assert {entry.target for entry in match.plan.entries} <= trial.weights.keys()
        silent = set()
        for entry in match.plan.entries:
            value = trial.weights[entry.target]
            permuted = np.roll(value.reshape(-1), 1).reshape(value.shape)
            noise = np.random.default_rng(1).standard_normal(value.size) * 0.3
            part = value.copy()
            part.reshape(-1)[: -(-value.size // 3)] += noise[: -(-value.size // 3)]
            for wrong in (permuted, part) if value.any() and value.size > 1 else (part,):
                if trial.errors({entry.target: wrong}).worst < 30 * TOLERANCE:
                    silent.add(entry.target)
        assert all(name.endswith(_DISCRIMINATED[pair.name] or "nothing") for name in silent), silent
        assert set(prove(match).idle) <= silent


@pytest.mark.parametrize("name", rows(["cnn", "encoder", "recurrent"]))
def test_every_exchange_of_two_entries_is_found(name: str) -> None:
    """Two targets of one shape with each other's sources, for every such two that stand next to each other."""
    one, other = _PAIRS[name].make(torch.nn)
    match = matched(drawn(one), drawn(other))
    by_shape: dict[Any, list[Any]] = {}
    for entry in match.plan.entries:
        by_shape.setdefault(match.plan.targets[entry.target].shape, []).append(entry)
    for alike in by_shape.values():
        for first, second in itertools.pairwise(alike):
            if added_up(first) or added_up(second):
                continue
            proof = prove(exchanged(match, first, second))
            assert not proof.passed, (first.target, second.target)
            assert not proof.explained


def added_up(entry: Any) -> bool:
    """Whether it is a summand, of which another takes everything."""
    return any(piece.zeros or piece.adds for piece in entry.pieces)


def exchanged(match: Match, first: Any, second: Any) -> Match:
    """The match with the sources of two entries exchanged."""
    swapped = [
        dataclasses.replace(a, pieces=tuple(dataclasses.replace(p, target=a.target) for p in b.pieces))
        for a, b in ((first, second), (second, first))
    ]
    rest = [entry for entry in match.plan.entries if entry not in (first, second)]
    return dataclasses.replace(match, plan=dataclasses.replace(match.plan, entries=(*rest, *swapped)))


def dense(activation: Any, other: Any) -> tuple[Any, Any]:
    middle = L.Activation(activation) if isinstance(activation, str) else activation
    layers = [L.Dense(8), middle, L.Dense(8), L.Dense(8), L.Dense(3)]
    nn = torch.nn
    module = nn.Sequential(nn.Linear(6, 8), other, nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    return keras.Sequential([keras.Input((6,)), *layers]), module


def image(activation: Any, other: Any) -> tuple[Any, Any]:
    """The activation lies before padding, which is a layer of its own in Keras."""
    layers = [L.Conv2D(8, 3), L.Activation(activation), L.ZeroPadding2D(1), L.Conv2D(5, 3, 2)]
    nn = torch.nn
    body = [nn.Conv2d(3, 8, 3), other, nn.Conv2d(8, 5, 3, 2, 1), nn.Conv2d(5, 5, 3)]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, L.Conv2D(5, 3)]), nn.Sequential(*body)


def recurrent(layer: Any, kind: str) -> tuple[Any, Any]:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = getattr(torch.nn, kind)(5, 4, batch_first=True), torch.nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return self.out(self.inner(x)[0])

    return keras.Sequential([keras.Input((6, 5)), layer, L.Dense(3)]), Net()


def strided() -> tuple[Any, Any]:
    """Padding, an epsilon, and which of two layers has the stride."""
    layers = [L.Conv2D(6, 1, 2), L.Conv2D(8, 3, 1, "same"), L.BatchNormalization(), L.Conv2D(4, 3)]
    nn = torch.nn
    body = [nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)]
    return keras.Sequential([keras.Input((12, 12, 3)), *layers]), nn.Sequential(*body).eval()


def normalised() -> tuple[Any, Any]:
    layers = [L.Dense(8), L.LayerNormalization(epsilon=1e-3), L.Dense(3)]
    nn = torch.nn
    return keras.Sequential([keras.Input((6,)), *layers]), nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)
    )


#: Two models that differ -> words of what is said, where the Keras model is the source.
_DIFFERENT: dict[str, tuple[Callable[[], tuple[Any, Any]], tuple[str, ...]]] = {
    "form of gelu": (
        lambda: dense("gelu", torch.nn.GELU("tanh")),
        (r"before 2.weight", "source Erf, target Tanh"),
    ),
    "hard swish": (lambda: dense("silu", torch.nn.Hardswish()), ("source Sigmoid, target HardSigmoid",)),
    "slope": (lambda: dense(L.LeakyReLU(0.3), torch.nn.LeakyReLU(0.1)), ("alpha=0.3", "alpha=0.1")),
    "activation": (lambda: dense("relu", torch.nn.Tanh()), ("source Relu, target Tanh",)),
    "no activation": (lambda: dense("relu", torch.nn.Identity()), ("source Relu, target nothing",)),
    "before padding": (lambda: image("silu", torch.nn.Hardswish()), ("before 2.weight", "HardSigmoid")),
    "stride, padding and epsilon": (
        strided,
        ("strides of 0.weight", "strides of 1.weight", "epsilon of 2.running_var"),
    ),
    "epsilon": (normalised, ("before 1.weight", "source epsilon=0.001, target epsilon=1e-05")),
    "gates": (
        lambda: recurrent(L.LSTM(4, return_sequences=True, recurrent_activation="relu"), "LSTM"),
        ("activations of inner.weight_ih_l0", "source ('Relu', 'Tanh', 'Tanh')"),
    ),
    "last activation": (
        lambda: (
            keras.Sequential([keras.Input((6,)), L.Dense(3, "softmax")]),
            torch.nn.Sequential(torch.nn.Linear(6, 3)),
        ),
        ("before output 0", "source Softmax, target nothing"),
    ),
}


@pytest.mark.parametrize("name", rows(_DIFFERENT))
def test_differences_are_named_and_explain_everything(name: str) -> None:
    """In both directions; with the difference set aside nothing is left of the error, unless the mapping is wrong."""
    make, words = _DIFFERENT[name]
    one, other = make()
    report = interop.transfer_weights(drawn(one), other)
    back = interop.transfer_weights(drawn(other), one)
    for made in (report, back):
        assert not made.passed
        assert made.proof is not None
        assert made.proof.explained, str(made)
        assert made.proof.aside is not None
        assert made.proof.aside < 1e-5
        assert made.proof.idle == ()
    said = "\n".join(report.plan.differences)
    assert all(word in said for word in words), said
    match = matched(one, other)
    entries = {entry.target: entry for entry in match.plan.entries}
    shapes = {target: match.plan.targets[target].shape for target in entries}
    for first, second in itertools.combinations(entries.values(), 2):
        if shapes[first.target] == shapes[second.target] and not added_up(first) and not added_up(second):
            wrong = prove(exchanged(match, first, second))
            assert not wrong.explained, (first, second, wrong)


def test_what_cannot_be_the_same_is_said() -> None:
    """A GRU whose reset comes before the product has one bias less."""
    one, other = recurrent(L.GRU(4, return_sequences=True, reset_after=False), "GRU")
    with pytest.raises(WeightsError) as error:
        interop.transfer_weights(drawn(one), other)
    said = str(error.value)
    assert "inner.bias_hh_l0 (4 of its 12 elements: GRU bias h recurrent [4]" in said
    assert "reset_after of inner.weight_ih_l0 (source: gru" in said
    assert "source False, target True" in said


def test_models_that_depart_for_no_known_reason_are_an_error() -> None:
    """Arithmetic without parameters that only one has: nothing is written."""
    one = keras.Sequential([keras.Input((6,)), L.Dense(8), L.Rescaling(2.0), L.Dense(3)])
    other = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    kept = other[0].weight.detach().clone()
    with pytest.raises(ParityError, match=r"the models depart at 1\.bias"):
        interop.transfer_weights(drawn(one), other)
    assert torch.equal(other[0].weight, kept)


@pytest.mark.parametrize("measure", [relative, deviation])
def test_what_is_no_number_agrees_with_nothing(measure: Any) -> None:
    """Infinities may: masks have them."""
    inf, nan = np.inf, np.nan
    assert measure(np.array([3.0, -inf]), np.array([3.0, -inf])) == 0
    for expected, made in ((3.0, nan), (nan, 3.0), (nan, nan), (inf, -inf), (3.0, inf), (inf, 3.0)):
        assert measure(np.array([3.0, expected]), np.array([3.0, made])) == inf


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_what_is_computed_in_half_precision_is_proven_in_single(policy: str) -> None:
    layers = [
        L.Conv1D(6, 3, dtype=policy),
        L.BatchNormalization(epsilon=1e-5, dtype=policy),
        L.Dense(3, dtype=policy),
    ]
    model = keras.Sequential([keras.Input((9, 4)), *layers])
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x).mT)

    for source, target in ((drawn(Net(), 1), model), (drawn(model, 2), Net().eval())):
        report = interop.transfer_weights(source, target)
        assert report.passed, str(report)
        assert report.proof is not None
        assert report.proof.inner < 1e-5
        assert report.error is not None
        assert 1e-5 < report.error < report.tolerance
