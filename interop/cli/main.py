"""The ``interop`` command: its verbs, and what becomes of errors.

Invariants: exit code 0 only if all is well, 1 for an error or a comparison that did not pass, 2 for wrong
usage; an error is one message on standard error, its traceback only with ``--debug``; no framework is
imported before a verb needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import interop
from interop.cli import output
from interop.cli.convert import convert
from interop.cli.demo import demo
from interop.cli.inspect import inspect
from interop.cli.predict import predict
from interop.cli.transfer import transfer
from interop.cli.verify import verify
from interop.errors import InteropError

app = typer.Typer(
    name="interop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for verb in (convert, inspect, verify, predict, transfer, demo):
    app.command()(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.show(f"interop {interop.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Save a trained Keras model once; open it as layers, as a bare graph, or as named tensors."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; that of this process when None.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        # --debug may stand anywhere; the option above is there for --help.
        app([argument for argument in given if argument != "--debug"])
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except Exception as e:
        if debug:
            raise
        _print_error(e, as_json="--json" in given)
        return 1
    return 0


def _print_error(error: Exception, *, as_json: bool) -> None:
    message = str(error)
    if not isinstance(error, InteropError | OSError):
        message = (
            f"unexpected {type(error).__name__}: {message}. Run the command again with --debug to see where"
        )
    if as_json:
        output.show_json({"error": {"type": type(error).__name__, "message": message}})
    output.errors.print("error:", style="bold red", end=" ")
    output.errors.print(message, markup=False)


if __name__ == "__main__":
    sys.exit(main())
