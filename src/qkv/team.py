"""Work side by side, in the threads that torch has.

After an operation that they shared, torch's threads wait for the next one by turning in circles, for some milliseconds
each time. Threads of our own would share the processors with them for as long, so torch's do the work: they are the
team of its OpenMP library, which takes what each of them is to do as a C function (`GOMP_parallel`, the call that
compilers make of `#pragma omp parallel`). Where torch does not come with that library, a pool of threads does it.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Made = TypeVar("Made")

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def side_by_side(run: Callable[[Task], Made], tasks: Sequence[Task]) -> list[Made]:
    """What `run` makes of each task, in their order, made in as many threads as torch has.

    It pays where `run` lets go of the interpreter's lock, as compiled loops and torch's operations do. Inside, these
    have one thread each, and record gradients if they would outside.

    Raises:
        BaseException: what `run` raised first; tasks that had not begun are dropped.

    >>> side_by_side(lambda task: task**2, [3, 1, 4])
    [9, 1, 16]
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) < 2:
        return [run(task) for task in tasks]
    made: list[Any] = [None] * len(tasks)
    raised: list[BaseException] = []
    left = iter(enumerate(tasks))  # shared: who is free takes the next

    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def body(_: int | None = None) -> None:
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                for place, task in left:
                    if raised:
                        return
                    made[place] = run(task)
        except BaseException as error:  # C has no exceptions: it is raised below
            raised.append(error)

    library = _openmp()
    if library is None:
        others = [_pool(os.getpid(), threads).submit(body) for _ in range(threads - 1)]
        body()
        for other in others:
            if not other.cancel():  # one that has not begun would find nothing left to do
                other.result()
    else:
        library.GOMP_parallel(_BODY(body), None, threads, 0)
    if raised:
        raise raised[0]
    return made


def team() -> tuple[int, int]:
    """Torch's threads for `qkv.compiled.in_team`: the address of `GOMP_parallel`, and how many there are.

    Compiled code that goes to them by itself does not wait for the interpreter's lock, which takes as long as some ten
    thousand sums; `side_by_side` is for what takes longer. Where torch has no such threads, it is one.
    """
    library = _openmp()
    if library is None:
        return 0, 1
    return _address(library), torch.get_num_threads()


@cache
def _openmp() -> ctypes.CDLL | None:
    """The library whose threads torch uses, where it is GNU's and comes with torch."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if not (found and torch.backends.openmp.is_available()):
        return None
    library = ctypes.CDLL(str(found[0]))
    library.GOMP_parallel.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    return library


@cache
def _address(library: ctypes.CDLL) -> int:
    return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="qkv")
