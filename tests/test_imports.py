"""What importing loads, told by a fresh process: nothing heavy, and no framework on the graph-only path."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

FRAMEWORKS = {"keras", "tensorflow", "torch", "jax"}
HEAVY = FRAMEWORKS | {
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "h5py",
    "safetensors",
    "rich",
    "typer",
}
GRAPH_ONLY_FORBIDDEN = FRAMEWORKS | {"onnx", "onnx_ir", "onnxscript", "jsonschema", "safetensors", "h5py"}

# Stands in for an environment in which these packages are not installed.
BLOCK = """
import sys
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def find_others(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked} else find_spec(name, path, target)

PathFinder.find_spec = find_others
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"} | environment
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def modules_after(code: str, **environment: str) -> set[str]:
    report = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = run(textwrap.dedent(code) + report, **environment)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_interop_loads_nothing_heavy():
    loaded = modules_after("import interop; dir(interop); interop.__version__")
    assert not loaded & HEAVY


def test_every_public_name_is_there():
    done = run("import interop; print(len([getattr(interop, name) for name in interop.__all__]))")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_command_line_loads_no_framework_for_help():
    loaded = modules_after("from interop.cli.main import main; assert main(['verify', '--help']) == 0")
    assert not loaded & (HEAVY - {"rich", "typer", "numpy"})


def test_graph_only_path_loads_no_framework(tmp_path):
    path = tmp_path / "double.onnx"
    _write_plain_graph(path)
    loaded = modules_after(
        f"""
        import interop, numpy as np
        graph = interop.load_graph({str(path)!r})
        assert graph(np.ones((2, 3), "float32")).tolist() == [[2.0] * 3] * 2
        """
    )
    assert "onnxruntime" in loaded
    assert not loaded & GRAPH_ONLY_FORBIDDEN


@pytest.mark.parametrize(
    ("environment", "blocked", "expected"),
    [
        ({}, {"jax", "tensorflow", "torch"}, ["none is installed", "interop[jax]", "load_graph"]),
        ({"KERAS_BACKEND": "torch"}, {"torch"}, ["KERAS_BACKEND is 'torch'", "interop[torch]"]),
        ({"KERAS_BACKEND": "cupy"}, set(), ["KERAS_BACKEND is 'cupy'", "jax, tensorflow, torch"]),
    ],
    ids=["none installed", "wanted one missing", "unknown"],
)
def test_no_backend_is_an_error_that_names_the_extra(environment, blocked, expected, tmp_path):
    done = run(
        BLOCK.format(blocked=sorted(blocked))
        + "from interop.cli.main import main\n"
        + f"sys.exit(main(['convert', {str(_any_keras_file(tmp_path))!r}, {str(tmp_path / 'out')!r}]))",
        **environment,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in expected:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("settings", "blocked", "expected"),
    [
        (None, set(), "jax"),
        (None, {"jax"}, "tensorflow"),
        ({"backend": "torch"}, set(), "torch"),
        ({"backend": "tensorflow"}, {"tensorflow"}, "jax"),
        ({"backend": 3}, set(), "jax"),
    ],
    ids=[
        "first installed",
        "next installed",
        "keras.json",
        "keras.json names a missing one",
        "odd keras.json",
    ],
)
def test_backend_is_the_configured_or_the_first_installed(settings, blocked, expected, tmp_path):
    if settings is not None:
        (tmp_path / "keras.json").write_text(json.dumps(settings))
    done = run(
        BLOCK.format(blocked=sorted(blocked))
        + "from interop.backend import choose_backend; import os\n"
        + "print(choose_backend(), os.environ['KERAS_BACKEND'], 'keras' in sys.modules)",
        KERAS_HOME=str(tmp_path),
    )
    assert done.stdout.split() == [expected, expected, "False"], done.stderr


def _any_keras_file(folder):
    path = folder / "model.keras"
    path.write_bytes(b"never opened")
    return path


def _write_plain_graph(path):
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
