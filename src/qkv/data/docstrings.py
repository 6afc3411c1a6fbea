"""A text without a download: the docstrings of Python's own library, and of packages that are installed."""

import re
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from qkv.errors import InputError

PACKAGES = ("numpy",)
"""Installed wherever `qkv` is."""

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "turtledemo"}
_TRIPLE = re.compile(r"(\"\"\"|''')(.*?)\1", re.DOTALL)
_NUMBER = re.compile(r"(?<!\w)\d[\d.]*(?:e[+-]?\d+)?(?!\w)")


def docstrings(packages: Sequence[str] = PACKAGES) -> list[str]:
    """The texts in three quotes that stand as statements of their own in the files of the standard library.

    Files are read, and nothing in them is run. Numbers are taken out: most are those of arrays that examples print, and
    they would stand among the most frequent words, near to `array` above all.

    Args:
        packages: installed packages whose files are read too.

    Raises:
        InputError: a package that is not installed.

    >>> any("dictionary" in text for text in docstrings())
    True
    """
    return [text for path in _sources(packages) for text in _texts(path)]


def _sources(packages: Sequence[str]) -> Iterator[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    for root in (library, *(root for package in packages for root in _roots(package))):
        if root.is_file():
            yield root
        base = library if root == library else root.parent
        yield from (path for path in sorted(root.rglob("*.py")) if _LEFT_OUT.isdisjoint(path.relative_to(base).parts))


def _roots(package: str) -> list[Path]:
    """The folders of an installed package, or the file of a module; nothing is imported to find them."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise InputError(
            f"no package {package!r} to read docstrings of",
            expected="the name by which an installed one is imported",
            hint="pip install it first, or leave it out",
        )
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _texts(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8", errors="replace")
    for match in _TRIPLE.finditer(source):
        if not source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \trRuU"):
            yield _NUMBER.sub(" ", match[2])
