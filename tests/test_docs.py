"""README against the tree: its code map, its commands, its example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_code_map_lists_every_folder_and_module():
    listed = set(re.findall(r"^\| `(interop/[^`]+)` \|", README, re.MULTILINE))
    modules = {f"interop/{path.name}" for path in (ROOT / "interop").glob("*.py")}
    folders = {f"interop/{path.parent.name}/" for path in (ROOT / "interop").glob("*/__init__.py")}
    assert modules | folders <= listed
    assert all((ROOT / path).exists() for path in listed)


@pytest.mark.parametrize(
    "name", ["tools/test_all.py", "tools/support_table.py", ".ci/run", "LICENSE", "CHANGELOG.md"]
)
def test_files_named_by_the_readme_exist(name):
    assert name in README
    assert (ROOT / name).is_file()


def test_example_of_the_three_doors_runs(tmp_path):
    code = re.search(r"```python\n(import keras.*?)```", README, re.DOTALL).group(1)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
