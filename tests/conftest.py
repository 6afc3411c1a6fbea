"""What tests of several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

# No timed assertions: a busy machine is not a failed law.
settings.register_profile("qkv", deadline=None)
settings.load_profile("qkv")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets; tests that read them are skipped where it is absent."""
    folder = Path(os.environ.get("QKV_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "eng-fra").is_dir():
        pytest.skip("the real data sets are not on this machine (QKV_DATA names their folder)")
    return folder


@pytest.fixture
def no_shape_hook() -> Iterator[None]:
    """Runs a test as users run the library, shapes unchecked: for `torch.compile`, and refusals that shapes precede."""
    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()
