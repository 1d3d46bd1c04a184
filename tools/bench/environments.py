"""Virtual environments of the peers, one for each requirements file in ``peers/``.

    python tools/bench/environments.py [NAME ...]

Environments go to ``$INTEROP_BENCH_PEERS``, by default ``~/.cache/interop-bench``; one that is complete is kept.
On Linux, PyPI's torch brings CUDA libraries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


def home() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("INTEROP_BENCH_PEERS", Path.home() / ".cache" / "interop-bench"))


def python_of(name: str) -> Path:
    """The interpreter of one environment."""
    return home() / name / "bin" / "python"


def names() -> list[str]:
    """The peers."""
    return sorted(file.stem for file in PEERS.glob("*.txt"))


def make(name: str) -> None:
    """Make one environment, unless its requirements are those it was made from."""
    requirements = (PEERS / f"{name}.txt").read_text()
    folder, stamp = home() / name, home() / name / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == requirements:
        print(f"{name}: is there")
        return
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "-r", str(PEERS / f"{name}.txt")]
    subprocess.run([python_of(name), *install], check=True)
    stamp.write_text(requirements)
    print(f"{name}: made")


if __name__ == "__main__":
    for peer in sys.argv[1:] or names():
        make(peer)
