"""Tasks side by side in threads: compiled loops let go of the interpreter's lock."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Made = TypeVar("Made")


def in_threads(run: Callable[[Task], Made], tasks: Sequence[Task], threads: int) -> Iterator[Made]:
    """What `run` makes of each task, in their order; leaving early drops the tasks that have not begun."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="qkv")
    try:
        yield from pool.map(run, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
