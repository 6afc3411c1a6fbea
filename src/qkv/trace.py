"""Recording: values tapped where they are born, under the names of the modules that made them.

`record()` opens a `Trace`; `scope("layers.0")` nests names; `step(name, value)` hands its value on and is silent
unless something records. What is recorded is the running forward pass itself: pictures have no second one.

>>> import torch
>>> with record() as trace:
...     with scope("encoder"), scope("layers.0"):
...         doubled = step("doubled", 2 * torch.ones(3))
>>> trace.names
['encoder.layers.0.doubled']
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor

from qkv.types import Fact, Step, Trace

# A context variable, so that threads and tasks record apart from one another.
_open: ContextVar[Trace | None] = ContextVar("qkv_trace", default=None)
_scope: ContextVar[tuple[str, ...]] = ContextVar("qkv_scope", default=())


@contextmanager
def record(trace: Trace | None = None) -> Iterator[Trace]:
    """Records every `step` that runs inside the block, in this thread; a nested block records for itself alone.

    Args:
        trace: where steps go, such as one that chooses what it keeps; an empty one where left out.
    """
    trace = Trace() if trace is None else trace
    token, scope_token = _open.set(trace), _scope.set(())
    try:
        yield trace
    finally:
        _open.reset(token)
        _scope.reset(scope_token)


def recording() -> bool:
    """Whether a `step` would be kept: what costs time to compute for a trace alone asks this first."""
    # Compiled code never records: while a graph is traced the answer must be a constant.
    return not torch.compiler.is_compiling() and _open.get() is not None


def scope(name: str) -> AbstractContextManager[None]:
    """Puts `name` before the names of all steps inside the block."""
    # Not a generator itself: compiled code, which never records, then meets nothing to see through.
    return _scoped(name) if recording() else nullcontext()


@contextmanager
def _scoped(name: str) -> Iterator[None]:
    token = _scope.set((*_scope.get(), name))
    try:
        yield
    finally:
        _scope.reset(token)


def step(name: str, value: Tensor, **facts: Fact) -> Tensor:
    """Returns `value`; while recording, keeps a detached reference under the scope's name, with `facts` beside it."""
    trace = None if torch.compiler.is_compiling() else _open.get()
    if trace is not None:
        trace.add(Step(".".join((*_scope.get(), name)), value.detach(), facts))
    return value
