"""Object paths: the key of every variable, by table; the same on each backend (keys are spelled out)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from interop.capture.keras import paths

layers = keras.layers


class Block(keras.Layer):
    """Layers in a list, a dict, a Sequential and an alias; weights in attributes and in none."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = [layers.Dense(2), layers.Dense(2)]
        self.table = {"a": layers.Dense(2), "b/c": layers.Dense(2)}
        self.tail = keras.Sequential([layers.Dense(2), layers.Dense(2, name="named"), layers.Dense(2)])
        self._alias = self.steps[1]
        self.average = keras.metrics.Mean()

    def build(self, shape):
        self._scale = self.add_weight(shape=(1,), name="scale")
        self.add_weight(shape=(1,), name="loose")
        self.add_weight(shape=(1,))
        self.add_weight(shape=(1,))

    def call(self, x):
        for layer in [*self.steps, *self.table.values(), self.tail]:
            x = layer(x)
        return x * self._scale


class Encoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = layers.Embedding(5, 4)
        self.attention = layers.MultiHeadAttention(2, 2, dropout=0.1)
        self.nested = Tower(self.embed)

    def call(self, x):
        h = self.embed(x)
        return self.nested(self.attention(h, h), x)


class Tower(keras.Model):
    def __init__(self, embed, **kwargs):
        super().__init__(**kwargs)
        self.a_shared_table = embed
        self.out = layers.Dense(3, use_bias=False)

    def call(self, h, x):
        return self.out(h + self.a_shared_table(x))


def nested_shared() -> keras.Model:
    inner_in = keras.Input((4,), name="q")
    shared = layers.Dense(4, name="shared")
    inner = keras.Model(inner_in, layers.Dense(4, name="own")(shared(inner_in)), name="inner")
    x = keras.Input((4,), name="x")
    return keras.Model(x, shared(inner(inner(x))))


def block() -> keras.Model:
    model = keras.Sequential([Block(name="block")])
    model(np.ones((2, 3), "float32"))
    return model


def encoder() -> keras.Model:
    model = Encoder()
    model(np.ones((2, 3), "int32"))
    return model


def recurrent() -> keras.Model:
    lstm = layers.LSTM(2, return_sequences=True)
    return keras.Sequential(
        [keras.Input((3, 2)), layers.Bidirectional(lstm, name="both"), layers.GRU(2, name="gru")]
    )


def deferred() -> keras.Model:
    model = keras.Sequential([layers.Dense(2, name="one"), layers.Dense(2, name="two", use_bias=False)])
    model(np.ones((1, 2), "float32"))
    return model


@dataclass(frozen=True)
class Case:
    id: str
    build: Callable[[], Any]
    keys: str


def attention_keys(path: str) -> str:
    parts = ("key_dense", "output_dense", "query_dense", "value_dense")
    return " ".join(f"{path}/{part}/{leaf}" for part in parts for leaf in ("bias", "kernel"))


CASES = [
    Case("deferred-sequential", deferred, "one/bias one/kernel two/kernel"),
    Case("nested-shared", nested_shared, "inner/own/bias inner/own/kernel shared/bias shared/kernel"),
    Case(
        "containers",
        block,
        "block/0 block/1 block/average/count block/average/total block/loose block/scale"
        " block/steps/0/bias block/steps/0/kernel block/steps/1/bias block/steps/1/kernel"
        " block/table/a/bias block/table/a/kernel block/table/b.c/bias block/table/b.c/kernel"
        " block/tail/dense/bias block/tail/dense/kernel block/tail/dense_1/bias block/tail/dense_1/kernel"
        " block/tail/named/bias block/tail/named/kernel",
    ),
    Case(
        "subclassed",
        encoder,
        f"{attention_keys('attention')} attention/dropout_layer/seed_generator/state"
        " embed/embeddings nested/out/kernel",
    ),
    Case(
        "recurrent",
        recurrent,
        " ".join(
            f"{rnn}/cell/{leaf}"
            for rnn in ("both/backward_layer", "both/forward_layer", "gru")
            for leaf in ("bias", "kernel", "recurrent_kernel", "seed_generator/state")
        ),
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.id)
def case(request) -> Case:
    return request.param


def test_keys(case):
    named = paths.named_variables(case.build())
    assert list(named) == sorted(case.keys.split())


def test_every_variable_has_one_key(case):
    model = case.build()
    keys = paths.object_paths(model)
    assert {id(v) for v in model.variables} <= set(keys)
    assert len(set(keys.values())) == len(keys)
    assert keys == {id(v): key for key, v in paths.named_variables(model).items()}


def test_keys_do_not_depend_on_automatic_name_counters(case):
    first = list(paths.named_variables(case.build()))
    for _ in range(3):
        layers.Dense(1)
        layers.MultiHeadAttention(1, 1)
    assert list(paths.named_variables(case.build())) == first


def test_automatic_names_survive_a_rebuild_from_config():
    layers.Dense(1)  # so that the names below do not start at "dense"
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(2)])
    layers.Dense(1)
    again = type(model).from_config(model.get_config())
    assert list(paths.named_variables(again)) == list(paths.named_variables(model))
    assert {key.split("/")[0] for key in paths.named_variables(model)} == {
        layer.name for layer in model.layers
    }


def test_two_applications_in_one_model_do_not_collide():
    x = keras.Input((32, 32, 3))
    towers = [
        keras.applications.MobileNetV2(
            weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35, name=name
        )
        for name in ("left", "right")
    ]
    model = keras.Model(x, [tower(x) for tower in towers])
    keys = paths.named_variables(model)
    assert len(keys) == len(model.weights) == 520
    assert len({v.path for v in model.weights}) == 260  # why variable.path is no key
    assert all(key.startswith(("left/", "right/")) for key in keys)


def test_layer_paths_name_what_the_user_wrote():
    model = encoder()
    found = paths.layer_paths(model)
    assert found[id(model)] == ""
    assert (
        found[id(model.embed)] == "embed"
    )  # nearest to the root, though `nested` has it as an attribute too
    assert found[id(model.nested.out)] == "nested/out"


def test_roles():
    roles = paths.variable_roles(block()) | paths.variable_roles(encoder())
    assert roles["block/scale"] == "weight"
    assert roles["block/average/total"] == "metric"
    assert roles["attention/dropout_layer/seed_generator/state"] == "seed"


class MeanOfMeans(keras.Metric):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.metrics.Mean()
        self.steps = self.add_variable((), "zeros", name="steps")


def test_a_metric_is_a_root_too():
    assert list(paths.named_variables(MeanOfMeans())) == ["inner/count", "inner/total", "steps"]


OPTIMIZERS = {
    "adam": (lambda: keras.optimizers.Adam(), "momentum velocity", "iterations learning_rate"),
    "amsgrad": (
        lambda: keras.optimizers.Adam(amsgrad=True),
        "momentum velocity velocity_hat",
        "iterations learning_rate",
    ),
    "sgd": (lambda: keras.optimizers.SGD(0.1), "", "iterations learning_rate"),
    "sgd-momentum": (lambda: keras.optimizers.SGD(0.1, momentum=0.9), "momentum", "iterations learning_rate"),
    "rmsprop": (
        lambda: keras.optimizers.RMSprop(momentum=0.5, centered=True),
        "average_gradient momentum velocity",
        "iterations learning_rate",
    ),
    "schedule": (
        lambda: keras.optimizers.Lion(keras.optimizers.schedules.CosineDecay(0.1, 9)),
        "momentum",
        "iterations",
    ),
    "accumulate-ema": (
        lambda: keras.optimizers.SGD(0.1, use_ema=True, gradient_accumulation_steps=2),
        "average gradient_accumulator",
        "iterations learning_rate",
    ),
    "loss-scale": (
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        "momentum velocity",
        "dynamic_scale iterations learning_rate step_counter"
        " inner_optimizer/iterations inner_optimizer/learning_rate",
    ),
    "nadam": (lambda: keras.optimizers.Nadam(), "momentum velocity", "iterations learning_rate u_product"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_slots(name):
    make, slots, scalars = OPTIMIZERS[name]
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="a"), layers.Dense(1, name="b")])
    model.layers[0].trainable = False
    model.compile(make(), "mse")
    model.optimizer.build(model.trainable_variables)
    named = paths.optimizer_variables(model)
    expected = [f"b/{leaf}/{slot}" for leaf in ("bias", "kernel") for slot in slots.split()]
    assert list(named) == sorted([*expected, *scalars.split()])
    assert {id(v) for v in named.values()} == {id(v) for v in model.optimizer.variables}
    assert all(
        v.shape == model.layers[1].kernel.shape for key, v in named.items() if key.startswith("b/kernel")
    )


def test_no_optimizer_no_slots():
    assert paths.optimizer_variables(deferred()) == {}
