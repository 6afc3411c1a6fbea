"""Long work that is asked to stop: the first Ctrl-C or termination signal becomes a question that a loop asks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Hands out what tells whether to stop, so that what was reached can be kept first; a second signal breaks in.

    >>> with stop_signals() as stopped:
    ...     stopped()
    False
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals reach only that one
        yield asked.is_set
        return

    def ask(_number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
