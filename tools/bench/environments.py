"""Virtual environments of the peers, one for each requirements file in ``peers/``.

    python tools/bench/environments.py [NAME ...]

Environments go to ``$INTEROP_BENCH_PEERS``, by default ``~/.cache/interop-bench``; one that is complete is kept.
On Linux, PyPI's torch brings CUDA libraries. A first line ``# python 3.12`` asks for that Python, which is looked for
on the path and among pyenv's; a peer whose Python is not there, or that does not install, is left out and said so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


def is_there(name: str) -> bool:
    """Whether an environment is complete."""
    return (home() / name / "requirements.txt").is_file()


def base_of(requirements: str) -> str:
    """The Python that an environment is made with: this one, unless the requirements ask for another."""
    asked = re.match(r"# python (3\.\d+)\n", requirements)
    if asked is None:
        return sys.executable
    version = asked.group(1)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    if on_path := shutil.which(f"python{version}"):
        works = subprocess.run([on_path, "--version"], capture_output=True, check=False).returncode == 0
        found += [on_path] if works else []  # pyenv's shim is there for a version that is not chosen, too
    if not found:
        raise FileNotFoundError(f"Python {version} is neither on the path nor among pyenv's")
    return found[-1]


def make(name: str) -> None:
    """Make one environment, unless its requirements are those it was made from."""
    requirements = (PEERS / f"{name}.txt").read_text()
    folder, stamp = home() / name, home() / name / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == requirements:
        print(f"{name}: is there")
        return
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([base_of(requirements), "-m", "venv", str(folder)], check=True)
    install = ["-m", "pip", "install", "--quiet", "-r", str(PEERS / f"{name}.txt")]
    subprocess.run([python_of(name), *install], check=True)
    stamp.write_text(requirements)
    print(f"{name}: made")


if __name__ == "__main__":
    failed = 0
    for peer in sys.argv[1:] or names():
        try:
            make(peer)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(f"{peer}: left out. {error}", file=sys.stderr)
            failed = 1
    sys.exit(failed)
