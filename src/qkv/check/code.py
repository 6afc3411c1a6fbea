"""The user's own code, run from its file: what is to be checked, and what it is called with."""

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from qkv.errors import DataError, InputError, unknown_name
from qkv.files import require_file


@dataclass(frozen=True)
class Code:
    """A function, object or class, what it is called with, and its name."""

    thing: Any
    arguments: tuple[Any, ...]
    title: str


def load_code(target: str) -> Code:
    """Runs the file of `FILE:NAME` as Python and takes `NAME` out of it.

    What it is called with is what the function `NAME_sample` beside it returns, or else `sample`: a tuple of arguments,
    or one; without either there is none.

    Raises:
        DataError: no such file, or one that fails when it is run; with the line.
        InputError: no name, or none of that name.
    """
    path, _, name = target.rpartition(":")
    if not path or not name:
        raise InputError(f"{target!r} names no code", expected="FILE:NAME", hint=f"{path or name or 'code.py'}:loss")
    module = _run(require_file(path))
    names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    if not hasattr(module, name):
        raise unknown_name("name", name, names, hint=f"what {Path(path).name} defines")
    sample = getattr(module, f"{name}_sample", None) or getattr(module, "sample", None)
    arguments: Any = ()
    if sample is not None:
        try:
            arguments = sample()
        except (Exception, SystemExit) as error:
            raise _failed(f"{getattr(sample, '__name__', 'sample')}()", error, path) from error
    return Code(getattr(module, name), arguments if isinstance(arguments, tuple) else (arguments,), name)


def load_named(target: str) -> Code:
    """What `FILE:NAME` names, as `load_code` takes it, or what an importable name such as `torch.nn.LSTMCell` is.

    Raises:
        DataError, InputError: as `load_code`; no module or nothing of that name.
    """
    if ":" in target or target.endswith(".py"):
        return load_code(target)
    package, _, name = target.rpartition(".")
    if not package:
        raise InputError(
            f"{target!r} names no module",
            expected="FILE:NAME, or a name such as torch.nn.LSTMCell",
            hint=f"torch.nn.{target}",
        )
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"there is no module {package!r} to import", expected="FILE:NAME, or a name such as torch.nn.LSTMCell"
        ) from error
    if not hasattr(module, name):
        raise unknown_name("name", name, [known for known in vars(module) if known[:1].isupper()])
    return Code(getattr(module, name), (), name)


def _run(path: Path) -> ModuleType:
    """The module that a file is, under a name of its own; its neighbours can be imported by it."""
    name = f"qkv_checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError("not Python code", expected="a file that ends in .py", path=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise DataError(f"not Python code ({error.msg})", path=path, line=error.lineno) from error
    except (Exception, SystemExit) as error:
        raise _failed("it", error, path) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _failed(what: str, error: BaseException, path: str | Path) -> DataError:
    """The error for code that raised, with the last line of its own file on the way there."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == Path(path).name
    ]
    words = " ".join(str(error).split())
    return DataError(
        f"{what} raises {type(error).__name__}{': ' * bool(words)}{words}", path=path, line=lines[-1] if lines else None
    )
