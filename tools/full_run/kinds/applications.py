"""Every model of ``keras.applications``: flat export, two sizes, ONNX Runtime against Keras."""

from __future__ import annotations

from collections.abc import Sequence

from tools.full_run.kinds import Kind, Progress


def names() -> list[str]:
    """The public functions."""
    from models.applications import applications

    return [application.name for application in applications()]


def run(chosen: Sequence[str], progress: Progress) -> None:
    """Compare some of them."""
    from models.applications import applications
    from tools.full_run.comparison import compared

    by_name = {application.name: application for application in applications()}
    for name in chosen:
        progress.started(name)
        progress.finished(compared(by_name[name]))


KIND = Kind("Models of keras.applications", names, run)
