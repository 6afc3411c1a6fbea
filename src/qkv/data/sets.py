"""Named data sets: what each is, who made it, under which licence, and which bytes it must have."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkv.errors import DataError, unknown_name
from qkv.files import require_file


@dataclass(frozen=True)
class NamedSet:
    """A published data set, kept as one file under the folder that `QKV_DATA` names.

    Attributes:
        file: its place in that folder.
        sha256: of the file as published here.
        options: how its reader is to be called.
    """

    description: str
    file: str
    sha256: str
    licence: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


SETS: dict[str, NamedSet] = {
    "eng-fra": NamedSet(
        description="French to English: 128,503 sentence pairs of the Tatoeba project",
        file="eng-fra/eng-fra.txt.gz",
        sha256="ba1246b1ec2bd027c4e02dabd2cb215a0c0d7a846e43f7d8a34efa55d2b3e7e1",
        licence="CC BY 2.0",
        source="tatoeba.org, joined by www.manythings.org/anki (edition of 2017-09-29)",
        # Each line is English, tab, French.
        options={"columns": (1, 0)},
    ),
    "glove-6b-50d": NamedSet(
        description="GloVe vectors of 51,204 English words in lower case, 50 dimensions",
        file="glove-6b-50d/glove.6B.50d.part.txt.gz",
        sha256="706dce139a186880cc56ddf02c9f279faa2368739f3e279dadf8e2a545640c8d",
        licence="PDDL 1.0",
        source="Pennington, Socher and Manning, nlp.stanford.edu/projects/glove",
    ),
}


def find(name: str | Path) -> Path:
    """The file of a named set, or `name` itself where it is a path that exists.

    Raises:
        InputError: no set has that name, and it is no path.
        DataError: the set is known, but not on this machine; or the path leads nowhere.
    """
    known = SETS.get(str(name))
    # In the folder that holds the sets, each set's name is also that of its folder.
    if Path(name).is_file() or (known is None and Path(name).exists()):
        return Path(name)
    if known is None:
        # What looks like a path is a path.
        if len(Path(name).parts) > 1 or Path(name).suffix:
            return require_file(name)
        raise unknown_name("data set", str(name), SETS, hint="the path of a file")
    root = os.environ.get("QKV_DATA")
    path = Path(root or ".") / known.file
    if not (root and path.exists()):
        raise DataError(
            f"the data set {name!r} is not on this machine",
            expected=f"{path}" if root else f"{known.file} under the folder that QKV_DATA names",
            got="no such file" if root else "QKV_DATA is not set",
            hint=f"set QKV_DATA to the folder above {known.file}, or pass the path of a file",
        )
    return path


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with require_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(name: str) -> Path:
    """The file of a named set, if it has the bytes that were published.

    Raises:
        InputError: no set has that name.
        DataError: the file is absent, or has another SHA-256.
    """
    if name not in SETS:
        raise unknown_name("data set", name, SETS)
    path, expected = find(name), SETS[name].sha256
    if (got := sha256_of(path)) != expected:
        raise DataError(
            "not the published file", expected=f"SHA-256 {expected}", got=got, hint="fetch it again", path=path
        )
    return path
