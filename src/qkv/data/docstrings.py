"""A text without a download: the docstrings of Python's own library, and of packages that are installed."""

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "turtledemo"}
_TRIPLE = re.compile(r"(\"\"\"|''')(.*?)\1", re.DOTALL)


def docstrings(packages: Sequence[str] = ()) -> list[str]:
    """The texts in three quotes that stand as statements of their own in the files of the standard library.

    Files are read, and nothing in them is run.

    Args:
        packages: installed packages whose files are read too.
    """
    library, installed = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    found = []
    for root, base in ((library, library), *((installed / name, installed) for name in packages)):
        for path in sorted(root.rglob("*.py")):
            if _LEFT_OUT.isdisjoint(path.relative_to(base).parts):
                source = path.read_text(encoding="utf-8", errors="replace")
                found += [
                    match[2]
                    for match in _TRIPLE.finditer(source)
                    if not source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \trRuU")
                ]
    return found
