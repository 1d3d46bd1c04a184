"""Files that tf_keras wrote (tools/legacy_fixtures), opened without TensorFlow, against what tf_keras computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import legacy_classes  # noqa: F401  registers the classes of the fixtures
import numpy as np
import pytest

import interop
from interop.errors import FormatError, MissingClassError, RebuildError, WeightsError
from interop.rebuild.legacy import operations, raw_operations, table
from interop.rebuild.legacy.migration import Migration
from tools.legacy_arguments import table as legacy_page

# JAX has no 64-bit numbers unless it is told to.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Explicitly requested dtype")

FIXTURES = Path(__file__).parent / "fixtures" / "legacy"
# Mixed precision rounds to 8 or 11 bits of mantissa in every product.
TOLERANCE = {"mixed_precision": 4e-3, "mixed_policy_object": 3e-2}
# What tf_keras computes in the next step depends on how often its Python code was traced: its product of momenta
# counts the variables, not the steps.
RESUMES_OTHERWISE = {"nadam", "legacy_nadam"}
DRAWS = 2000
LOST = {
    "loss_scale.h5": "dynamic_scale, step_counter",  # tf_keras does not store them in HDF5
    "legacy_nadam.h5": "momenta follow another schedule",
}


def names(folder: str, suffix: str) -> list[str]:
    return sorted(p.name.removesuffix(suffix + ".npz") for p in (FIXTURES / folder).glob(f"*{suffix}.npz"))


def opened(path: Path, **options):
    reports = []
    model = interop.load_model(path, report=reports.append, **options)
    return model, reports[0]


def answers(path: Path):
    with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def part(arrays, kind: str):
    return {k.removeprefix(f"{kind}/"): v for k, v in arrays.items() if k.startswith(f"{kind}/")}


def fed(model, inputs):
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    return inputs if isinstance(model.input, dict) else [inputs[tensor.name] for tensor in model.inputs]


def called(model, x):
    if isinstance(x, np.ndarray) and x.dtype.kind == "U":
        if keras.backend.backend() != "tensorflow":  # models have no text there, but layers have
            for layer in model.layers[1:]:
                x = layer(x)
            return {"0": keras.ops.convert_to_numpy(x)}
        x = keras.ops.convert_to_tensor(x)
    y = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    if isinstance(y, dict):
        return y
    return {str(i): value for i, value in enumerate(y if isinstance(y, list | tuple) else [y])}


def check(model, status, path: Path, arrays) -> None:
    stem = path.name.split(".")[0]
    status.assert_consumed()
    assert [c.became for c in status.lost] == [] or LOST[path.name] in str(status.lost)
    out = called(model, fed(model, part(arrays, "input")))
    atol = TOLERANCE.get(stem, 1e-5)
    for name, expected in part(arrays, "output").items():
        assert out[name].shape == expected.shape
        np.testing.assert_allclose(out[name].astype("float64"), expected, rtol=atol, atol=atol)


def resume(model, arrays) -> None:
    x, target = fed(model, part(arrays, "input")), part(arrays, "target")
    loss = model.train_on_batch(x, target["0"] if list(target) == ["0"] else target)
    np.testing.assert_allclose(np.asarray(loss).reshape(-1)[0], arrays["loss"], rtol=1e-5, atol=1e-6)
    out = called(model, x)
    for name, expected in part(arrays, "resumed").items():
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", names("h5", ".h5"))
def test_whole_models_in_hdf5_compute_what_they_did(name):
    path = FIXTURES / "h5" / f"{name}.h5"
    check(*opened(path), path, answers(path))


@pytest.mark.parametrize("name", names("keras", ".keras"))
def test_keras_files_of_keras_2(name):
    path = FIXTURES / "keras" / f"{name}.keras"
    model, status = opened(path)
    arrays = answers(path)
    check(model, status, path, arrays)
    if name in OFTEN:
        resume(model, arrays)


@pytest.mark.parametrize("name", names("drawn", ".json"))
def test_random_layers_draw_what_they_drew(name):
    path = FIXTURES / "drawn" / f"{name}.json"
    model, status = opened(path)
    arrays = answers(path)
    assert not status.lost
    keras.utils.set_random_seed(1)
    many = np.repeat(arrays["input"], DRAWS, 0)
    drawn = keras.ops.convert_to_numpy(model(many, training=True))
    # Both are estimates of DRAWS draws; of over 100 elements one is 4 standard errors off now and then.
    error = 5 * np.sqrt(2 / DRAWS) * (arrays["deviation"] + 1e-3)
    np.testing.assert_array_less(np.abs(drawn.mean(0) - arrays["mean"]), error)
    np.testing.assert_array_less(np.abs(drawn.std(0) - arrays["deviation"]), error)
    idle = keras.ops.convert_to_numpy(model(many[:1], training=False))
    assert idle.tolist() == arrays["input"].tolist()


@pytest.mark.parametrize("name", names("saved_model", ""))
def test_saved_models(name):
    path = FIXTURES / "saved_model" / name
    model, status = opened(path)
    arrays = answers(path)
    check(model, status, path, arrays)
    if name in OFTEN_SAVED:
        resume(model, arrays)


OLD = sorted(p.relative_to(FIXTURES / "old").as_posix() for p in (FIXTURES / "old").glob("*/*.npz"))


@pytest.mark.parametrize("name", [name.removesuffix(".npz") for name in OLD])
def test_files_of_the_old_versions_themselves(name, tmp_path):
    path = FIXTURES / "old" / name
    arrays = answers(path)
    packed = path.with_name(f"{path.name}.zip")
    if packed.exists():
        shutil.unpack_archive(packed, tmp_path)
    model, status = opened(tmp_path if packed.exists() else path)
    check(model, status, path, arrays)
    if "loss" in arrays:
        assert any(key.endswith("velocity") for key in status.loaded)
        if not name.startswith("keras_"):  # on TensorFlow 1, which read the step before or after counting it
            resume(model, arrays)


TRAINED = [n for n in names("h5", ".h5") if "loss" in np.load(FIXTURES / "h5" / f"{n}.h5.npz").files]
OFTEN_SAVED = {"adam", "legacy_adam", "rmsprop_nested", "loss_scale"}
OFTEN = {"adam", "rmsprop_nested", "legacy_adam_decay", "schedule_cosine", "adam_two_outputs"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.full) for n in TRAINED]
)
def test_training_goes_on_where_it_stopped(name):
    if name in RESUMES_OTHERWISE:
        pytest.skip("tf_keras computes its product of momenta from how often its code was traced")
    path = FIXTURES / "h5" / f"{name}.h5"
    resume(opened(path)[0], answers(path))


REFUSED = {
    "added_loss": (RebuildError, "add_loss"),
    "lambda": (MissingClassError, "double"),
    "lambda_loss": (MissingClassError, "<lambda>"),
    "unknown_operation": (RebuildError, "tf.math.bessel_i0e"),
    "locally_connected": (RebuildError, "locally connected"),
    "time_major": (RebuildError, "time_major=True"),
    "random_height": (RebuildError, "random heights"),
    "virtual_batches": (RebuildError, "virtual_batch_size=2"),
    "several_axes": (RebuildError, "several axes"),
    "causal_separable": (RebuildError, "causal padding"),
    "falling_contrast": (RebuildError, r"factor=\[0.6, 0.2\].*custom_objects"),
    "area": (RebuildError, "interpolation='area'"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_keras_3_lacks_is_refused_by_name(name):
    error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        interop.load_model(FIXTURES / "refused" / f"{name}.h5")


def test_a_class_of_the_user_takes_the_place_of_one_that_is_refused():
    seen = []

    class LocallyConnected1D(keras.layers.Conv1D):
        def __init__(self, implementation, **settings):
            seen.append(implementation)
            super().__init__(**settings)

    path = FIXTURES / "refused" / "locally_connected.h5"
    with pytest.raises(WeightsError, match="kernel"):  # that is not what it computes
        interop.load_model(path, custom_objects={"LocallyConnected1D": LocallyConnected1D})
    assert seen == [1]


def test_a_lambda_is_the_function_that_the_caller_passes():
    model, status = opened(FIXTURES / "refused" / "lambda.h5", custom_objects={"double": lambda t: t * 2.0})
    status.assert_consumed()
    x = np.ones((2, 4), "float32")
    assert called(model, x)["0"].tolist() == (2 * x).tolist()


def test_a_loss_of_the_user_is_not_needed_without_compiling():
    model, status = opened(FIXTURES / "refused" / "lambda_loss.h5", compile=False)
    status.assert_consumed()
    assert not model.compiled


def test_old_hard_sigmoid_survives_the_format_of_keras_3(tmp_path):
    path = FIXTURES / "h5" / "lstm_hard_sigmoid.h5"
    model, status = opened(path)
    assert any("0.2 x + 0.5" in change.became for change in status.changes)
    model.save(tmp_path / "m.keras")
    arrays = answers(path)
    again = called(keras.saving.load_model(tmp_path / "m.keras"), arrays["input/x"])
    np.testing.assert_allclose(again["0"], arrays["output/0"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["h5/hard_sigmoid.h5", "h5/tf_slices.h5", "saved_model/depthwise_conv2d"])
def test_conversion_of_old_files(name, tmp_path):
    done = interop.convert(FIXTURES / name, tmp_path / "m.interop")
    assert done.parity is not None
    assert done.parity.passed


@pytest.mark.filterwarnings("ignore:.*saving your model as an HDF5")
def test_a_vocabulary_that_the_file_lacks_is_reported(tmp_path):
    """HDF5 of Keras 3 has no place for it."""
    x = keras.Input((2,), dtype="int64")
    layer = keras.layers.IntegerLookup(name="lookup")
    layer.adapt([[3], [5], [3], [9]])
    keras.Model(x, layer(x)).save(tmp_path / "m.h5")
    _, status = opened(tmp_path / "m.h5")
    assert [str(change) for change in status.lost] == [
        "IntegerLookup 'lookup': the vocabulary it learned: empty: give it one with set_vocabulary"
    ]


def test_a_lost_state_is_a_warning_and_a_line_of_the_report():
    path = FIXTURES / "h5" / "loss_scale.h5"
    with pytest.warns(UserWarning, match="dynamic_scale"):
        interop.load_model(path)
    assert any("dynamic_scale" in line for line in opened(path)[1].lines())


@pytest.mark.parametrize(
    ("content", "error"), [(b"", FormatError), (b"\x89HDF\r\n\x1a\n garbage", FormatError)]
)
def test_damaged_files(tmp_path, content, error):
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(error):
        interop.load_model(path)


def test_arguments_of_the_table_are_those_of_classes_that_exist():
    for name, _ in table.ARGUMENTS:
        made = table.CLASSES.get(name, name)
        assert name == table.ANY or any(
            hasattr(getattr(keras, family), made) for family in ("layers", "initializers", "optimizers")
        ), name


def test_the_page_says_what_becomes_of_every_argument_of_keras_2():
    listed = json.loads(legacy_page.LISTED.read_text(encoding="utf-8"))
    assert sum(len(arguments) for classes in listed.values() for arguments in classes.values()) > 1500
    assert legacy_page.page(listed) == legacy_page.PAGE.read_text(encoding="utf-8")


def test_an_argument_that_nothing_is_known_of_is_reported():
    migration = Migration(lambda name, config: config)
    made = migration.object({"class_name": "Dense", "config": {"name": "d", "units": 3, "strange": 1}})
    assert made["config"] == {"name": "d", "units": 3}
    assert [str(c) for c in migration.changes] == [
        "Dense 'd': strange=1: left out: Keras 3 has no such argument"
    ]
    assert migration.changes[0].lost


@pytest.fixture(scope="module")
def current(tmp_path_factory):
    """A trained model that Keras 3 saves in each of its formats, with the gaps of its own loader in it."""
    folder = tmp_path_factory.mktemp("current")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)], name="inner")
    x = keras.Input((3, 4), name="x")
    y = keras.layers.LSTM(4, return_sequences=True)(keras.layers.TimeDistributed(inner)(x))
    model = keras.Model(x, keras.layers.Activation("hard_sigmoid")(y + 1.0))
    model.compile("adam", "mse", metrics=["mae"])
    data = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    model.train_on_batch(data, data)
    model.save(folder / "m.keras")
    (folder / "m.json").write_text(model.to_json())
    model.save(folder / "m.h5")  # last: Keras 3.15 takes the optimizer out of what it remembers of compile()
    return folder, model, data


def test_hdf5_of_keras_3_opens_with_its_optimizer(current):
    folder, model, data = current
    again, status = opened(folder / "m.h5")
    status.assert_consumed()
    assert not status.changes
    check_same(model, again, data)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Nadam(),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    ],
    ids=["nadam", "loss_scale"],
)
def test_optimizers_in_hdf5_of_keras_3(tmp_path, optimizer):
    """With a layer that ``keras.layers`` has under another name than that of its class."""
    x = keras.Input((3, 4))
    model = keras.Model(x, keras.layers.GroupQueryAttention(2, 2, 1)(x, x))
    model.compile(optimizer(), "mse")
    data = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    model.train_on_batch(data, data)
    state = {v.path: keras.ops.convert_to_numpy(v) for v in model.optimizer.variables}
    model.save(tmp_path / "m.h5")
    again, status = opened(tmp_path / "m.h5")
    status.assert_consumed()
    assert not status.lost
    for before, after in zip(state.values(), again.optimizer.variables, strict=True):
        assert np.array_equal(before, keras.ops.convert_to_numpy(after))


def test_keras_files_of_keras_3(current):
    folder, model, data = current
    again, status = opened(folder / "m.keras")
    status.assert_consumed()
    assert any(key.startswith("optimizer:") for key in status.loaded), status.lines()
    check_same(model, again, data)


def check_same(model, again, data) -> None:
    np.testing.assert_array_equal(called(model, data)["0"], called(again, data)["0"])
    mine, other = ([keras.ops.convert_to_numpy(v) for v in m.optimizer.variables] for m in (model, again))
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_lambda_of_keras_3_is_the_function_that_the_caller_passes(tmp_path):
    x = keras.Input((4,))
    y = keras.layers.Lambda(lambda t: t * 3.0, output_shape=(4,), name="double")(keras.layers.Dense(4)(x))
    model = keras.Model(x, y)
    model.save(tmp_path / "m.keras")
    with pytest.raises(MissingClassError, match="double"):
        interop.load_model(tmp_path / "m.keras")
    again, status = opened(tmp_path / "m.keras", custom_objects={"double": lambda t: t * 2.0})
    status.assert_consumed()
    data = np.ones((2, 4), "float32")
    expected = called(model, data)["0"] * 2 / 3  # what was passed, and not the code in the file
    np.testing.assert_allclose(called(again, data)["0"], expected, rtol=1e-6)


def test_json_of_keras_3_makes_the_architecture(current):
    folder, model, data = current
    again, status = opened(folder / "m.json")
    assert not status.loaded
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(called(model, data)["0"], called(again, data)["0"])


@pytest.mark.parametrize("name", names("weights", ".h5"))
def test_weights_of_keras_2_load_into_a_model(name):
    model, _ = opened(FIXTURES / "json" / f"{name}.json")
    path = FIXTURES / "weights" / f"{name}.h5"
    check(model, interop.load_weights(model, path), path, answers(path))


def test_weights_of_keras_2_by_order_and_by_name():
    path = FIXTURES / "weights" / "bidirectional.h5"
    layers = keras.layers
    start = keras.Input((5, 3))
    lstm = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="other")
    model = keras.Model(start, lstm(start))
    check(model, interop.load_weights(model, path), path, answers(path))
    with_head = keras.Model(
        start, layers.Dense(2)(layers.Bidirectional(layers.LSTM(3), name="bidirectional")(start))
    )
    status = interop.load_weights(with_head, path)
    assert len(status.loaded) == 6
    assert len(status.missing) == 2


@pytest.mark.parametrize("name", names("weights", ".h5"))
def test_json_of_keras_2_makes_the_architecture(name):
    model, status = opened(FIXTURES / "json" / f"{name}.json")
    whole, _ = opened(FIXTURES / "h5" / f"{name}.h5")
    assert not status.loaded
    assert [v.shape for v in model.variables] == [v.shape for v in whole.variables]


def test_a_class_that_is_not_registered_is_named(current, tmp_path):
    config = json.loads((current[0] / "m.json").read_text())
    config["config"]["layers"][1].update(module="os.path", class_name="Strange", registered_name="Strange")
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(MissingClassError, match="Strange"):
        interop.load_model(tmp_path / "m.json")


def test_every_node_of_a_graph_that_is_translated_has_a_function():
    for name in [*raw_operations._SAME.values(), *raw_operations._REDUCTIONS.values()]:
        assert name in operations.known(), name
