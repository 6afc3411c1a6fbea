"""Attention and representation learning on PyTorch: build it, train it, see it, check it.

The public names are gathered here and loaded when first used, so that `import qkv` and `qkv --help` stay fast.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "record": "qkv.nn.capture",
    "AttentionMap": "qkv.types",
    "Report": "qkv.types",
    "Run": "qkv.types",
    "Trace": "qkv.types",
}
_ROOMS = (
    "check",
    "data",
    "draw",
    "errors",
    "files",
    "functional",
    "models",
    "nn",
    "recipes",
    "trace",
    "train",
    "types",
    "vectors",
)

__all__ = [*_HOME, *_ROOMS, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"qkv.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'qkv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
