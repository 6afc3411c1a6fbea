"""What `qkv` says when something cannot be used: one base class, one shape of message.

Every message names the place (file and line where there is one), says what was expected, what came, and
what to try. The command line prints it and exits with 2; nobody sees a traceback for what they can cause.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class QkvError(Exception):
    """The base of every error that `qkv` raises on purpose.

    Args:
        problem: one clause, what is wrong.
        expected: what would have been usable.
        got: what came instead.
        hint: what to try.
        path: the file or folder concerned.
        line: the line in that file, counted from 1.

    >>> print(QkvError("one column", expected="two", got="'chat'", hint="--columns 0,1", path="a.tsv", line=3))
    a.tsv, line 3: one column. Expected two; got 'chat'. Try: --columns 0,1
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str = "",
        got: str = "",
        hint: str = "",
        path: str | Path | None = None,
        line: int | None = None,
    ):
        self.problem, self.expected, self.got, self.hint = problem, expected, got, hint
        self.path, self.line = path, line
        place = ", ".join([str(path)] * (path is not None) + [f"line {line}"] * (line is not None))
        contrast = "; ".join([f"Expected {expected}"] * bool(expected) + [f"got {got}"] * bool(got))
        if contrast:
            contrast = contrast[0].upper() + contrast[1:] + "."
        sentences = [f"{problem.rstrip('.')}.", contrast, f"Try: {hint}" if hint else ""]
        text = " ".join(part for part in sentences if part)
        super().__init__(f"{place}: {text}" if place else text)


class InputError(QkvError, ValueError):
    """A value, name, shape or option that cannot be used."""


class InputTypeError(QkvError, TypeError):
    """A value of the wrong type, such as an integer tensor where scores are needed."""


class NotFiniteError(InputError):
    """NaN or infinity where numbers are needed, or scores past the range of their type."""


class DataError(InputError):
    """A file that cannot be read as what it should be; carries `path`, and `line` where there is one."""


class RunError(InputError):
    """A folder that is not a run, is of a newer version, is damaged, or cannot go on as asked."""


class StorageError(QkvError, OSError):
    """A write that failed: a full disk, no permission. What was there before is untouched."""


class StoppedError(QkvError):
    """Training was asked to stop (Ctrl-C, a termination signal); what was reached is kept and can be resumed."""


def unknown_name(kind: str, name: str, choices: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not among `choices`, with the nearest one suggested.

    >>> print(unknown_name("model", "transfomer", ["rnn", "transformer"]))
    unknown model 'transfomer'. Expected one of rnn, transformer. Try: transformer
    """
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return InputError(
        f"unknown {kind} {name!r}",
        expected=f"one of {', '.join(choices)}" if choices else "",
        hint=near[0] if near else hint,
    )
