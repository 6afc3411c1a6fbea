import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-c", "from qkv.cli import main; main()")


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.Popen[str]]:
    """The command line in a process of its own, as users run it."""

    def start(*arguments: object, **options) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    return start


@pytest.fixture(scope="session")
def trained(swept) -> Path:
    return swept / "transformer-seed0"
