"""The command line: parse, call, print.

Only what a command needs is imported, when it runs: `qkv --help` loads no torch. Each file here registers its commands
with an app of `console`, when it is imported below.
"""

import os
import sys
from typing import NoReturn

from cyclopts import CycloptsError

from qkv.cli import (  # noqa: F401 - each registers its commands
    about,
    check,
    curvature,
    glove,
    look,
    network,
    parity,
    runs,
    vectors,
    word_map,
    worksheet,
)
from qkv.cli.console import app, people
from qkv.errors import QkvError

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 a check found something wrong, 2 the input was unusable."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except QkvError as error:
        _refuse(str(error))
    except CycloptsError as error:
        _refuse(_parse_problem(error))
    except KeyboardInterrupt:
        _refuse("stopped")
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _refuse(message: str) -> NoReturn:
    people.print("[bold red]qkv:[/] ", end="")
    people.print(message, markup=False)
    sys.exit(2)


def _parse_problem(error: CycloptsError) -> str:
    from pydantic import ValidationError

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        from qkv.recipes.base import invalid

        return str(invalid(cause))
    return " ".join(str(error).split())
