"""What is installed, what is missing, and how to mend it."""

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

GIGABYTE = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` is what to do about it, empty where nothing is needed."""

    name: str
    state: Literal["good", "missing", "broken"]
    detail: str
    mend: str = ""


def examine() -> list[Finding]:
    """Looks at Python, the libraries, the processor, the data and the disk."""
    return [_python(), *_libraries(), *_processor(), *_data(), _disk()]


def _python() -> Finding:
    version = platform.python_version()
    good = (3, 11) <= tuple(map(int, platform.python_version_tuple()[:2])) <= (3, 13)
    return Finding("python", "good" if good else "broken", version, "" if good else "use Python 3.11, 3.12 or 3.13")


def _libraries() -> list[Finding]:
    """Everything that `qkv` itself declares, at the version declared."""
    findings = []
    for line in importlib.metadata.requires("qkv") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        mend = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(requirement.name, "missing", f"needed: {requirement.specifier}", mend))
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        state, detail = ("good", version) if fits else ("broken", f"{version}, needed: {requirement.specifier}")
        findings.append(Finding(requirement.name, state, detail, "" if fits else mend))
    return findings


def _processor() -> list[Finding]:
    try:
        import torch

        from qkv.train import fast_bfloat16
    except ImportError as error:
        return [Finding("processor", "broken", str(error), "install what is missing above")]
    kind = "in hardware" if fast_bfloat16("cpu") else "not in hardware: training takes float32"
    capability = torch.backends.cpu.get_cpu_capability()
    findings = [
        Finding("processor", "good", f"{capability}, {torch.get_num_threads()} threads; bfloat16 {kind}"),
    ]
    if torch.cuda.is_available():
        findings.append(Finding("accelerator", "good", torch.cuda.get_device_name()))
    else:
        findings.append(Finding("accelerator", "missing", "none found; everything runs on the processor"))
    return findings


def _data() -> list[Finding]:
    try:
        from qkv.data import SETS
    except ImportError:
        return []  # what is missing is named among the libraries
    root = os.environ.get("QKV_DATA")
    if root is None:
        mend = "set QKV_DATA to the folder that holds named sets, or pass paths to --data"
        return [Finding("QKV_DATA", "missing", "not set; named sets cannot be found", mend)]
    findings = [Finding("QKV_DATA", "good" if Path(root).is_dir() else "broken", root)]
    for name, known in SETS.items():
        there = (Path(root) / known.file).exists()
        mend = "" if there else f"get it from {known.source} and put it there"
        findings.append(Finding(name, "good" if there else "missing", str(Path(root) / known.file), mend))
    return findings


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GIGABYTE
    enough = free > 1
    return Finding("disk", "good" if enough else "broken", f"{free:.0f} GB free here", "" if enough else "free some")
