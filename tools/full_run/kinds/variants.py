"""Other forms of every application: fixed shapes, float16, OpenVINO; on one backend."""

from __future__ import annotations

from collections.abc import Sequence

from tools.full_run.kinds import Kind, Progress


def names() -> list[str]:
    """Every application in every form."""
    from models.applications import applications
    from tools.full_run.variants import FORMS

    return [f"{application.name}: {form}" for application in applications() for form in FORMS]


def run(chosen: Sequence[str], progress: Progress) -> None:
    """Compare some of them; an application is built once for all its forms."""
    from models.applications import applications
    from tools.full_run.variants import Built, built, row

    by_name = {application.name: application for application in applications()}
    latest: Built | None = None
    for name in chosen:
        progress.started(name)
        application, _, form = name.partition(": ")
        if latest is None or latest.name != application:
            latest = None  # its memory goes before the next one is built
            latest = built(by_name[application])
        progress.finished(row(name, latest, form))


KIND = Kind("Applications with fixed shapes, in float16, in OpenVINO", names, run, backends=("torch",))
