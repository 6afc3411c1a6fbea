"""Formulas by plain operations: what can be differentiated any number of times, in either mode.

The fast forms here have backward passes of their own. Those know a first derivative, most of them a second by reverse
mode, and none of them forward mode. Inside `in_the_open` each takes its definition: slower, and everything held.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_say: ContextVar[Callable[[str], None] | None] = ContextVar("qkv_in_the_open", default=None)


@contextmanager
def in_the_open(say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Computes formulas inside the block by plain operations, in this thread; what is fast elsewhere is slow here.

    Args:
        say: is called with the name of a form whenever that is computed so instead of by its fast path.

    >>> from qkv.functional import in_the_open, softmax_attention
    >>> said = []
    >>> with in_the_open(said.append):
    ...     output, _ = softmax_attention(*torch.zeros(3, 1, 5, 2).unbind())
    >>> said
    ['softmax attention']
    """
    token = _say.set(say)
    try:
        yield
    finally:
        _say.reset(token)


def opened(form: str) -> bool:
    """Whether `form` is to be computed by plain operations, which is then said."""
    say = None if torch.compiler.is_compiling() else _say.get()
    if say is not None:
        say(form)
    return say is not None
