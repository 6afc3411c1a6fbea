"""The rules of the house, as tests; each check is shown to refuse what breaks its rule."""

import ast
import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import qkv
from qkv.functional import causal_mask
from qkv.nn import MultiheadAttention, TransformerEncoderLayer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "qkv"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(f"qkv.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]))

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))


# -- floors ----------------------------------------------------------------------------------------------------------


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(root / "src")}, capture_output=True, text=True, check=False
    )


def test_imports_go_down():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("types.py", "def late():\n    import qkv.draw\n", "qkv.types is not allowed to import qkv.draw"),
        ("draw/chart.py", "import qkv.train.fit\n", "qkv.draw is not allowed to import qkv.train"),
        ("attic.py", "", "attic"),
    ],
    ids=["upward, inside a function", "sideways", "a room that the contract does not know"],
)
def test_other_imports_are_refused(tmp_path, file: str, line: str, complaint: str):
    shutil.copytree(PACKAGE, tmp_path / "src" / "qkv", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "qkv" / file).open("a") as broken:
        broken.write(f"\n\n{line}")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert complaint in re.sub(r"\s+", " ", done.stdout)


# -- public names ----------------------------------------------------------------------------------------------------


def undocumented(name: str, value: object) -> bool:
    """Whether a public class, function or module has no words of its own; constants need none."""
    if not (inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value)):
        return False
    doc = value.__doc__ or ""
    return not doc.strip() or doc.startswith(f"{name}(")  # dataclasses make up a signature


@pytest.mark.parametrize("room", ["qkv", *ROOMS])
def test_public_names_exist_and_say_what_they_are(room: str):
    module = importlib.import_module(room)
    names = getattr(module, "__all__", None)
    if names is None:
        assert not hasattr(module, "__path__"), f"the package {room} has no __all__"
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == room
        ]
    assert len(set(names)) == len(names)
    assert [name for name in names if undocumented(name, getattr(module, name))] == []
    assert set(names) <= set(dir(module))


def test_undocumented_names_are_noticed():
    @torch.no_grad
    def silent(): ...

    class Loud:
        """It says what it is."""

    assert undocumented("silent", silent)
    assert not undocumented("Loud", Loud)


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="'qkv' has no attribute 'atention'"):
        _ = qkv.atention


@pytest.mark.parametrize("line", ["import qkv", "from qkv.cli import main; main(['--help'])"], ids=["import", "help"])
def test_what_must_be_quick_loads_no_torch(line: str):
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {line}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "qkv" in loaded
    assert loaded.isdisjoint({"torch", "pydantic", "numpy", "scipy", "sklearn", "altair", "tokenizers", "sacrebleu"})


# -- sources ---------------------------------------------------------------------------------------------------------


def unsafe(source: str) -> set[str]:
    """What in `source` could run code that it was only to read."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names} & {"pickle", "marshal", "shelve", "dill", "joblib"}
            case ast.ImportFrom(module="pickle" | "marshal" | "shelve" | "dill" | "joblib" as module):
                found.add(module)
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                found.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                found.add("torch.load")
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                found.add("allow_pickle")
    return found


@every_source
def test_a_file_says_what_it_is_and_stays_short(path: Path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert source.count("\n") <= 600
    assert not re.search(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", source)


# Checks look for the edit that would make code right: the user's own, which was given to be run, or a formula of ours.
RUNS_EDITED_CODE = {"repair.py": {"eval"}, "variants.py": {"exec"}}


@every_source
def test_nothing_read_is_run(path: Path):
    allowed = RUNS_EDITED_CODE.get(path.name, set()) if path.is_relative_to(PACKAGE / "check") else set()
    assert unsafe(path.read_text(encoding="utf-8")) <= allowed


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("torch.load(path, weights_only=True)", "torch.load"),
        ("numpy.load(path, allow_pickle=True)", "allow_pickle"),
        ("numpy.load(path, allow_pickle=trusted)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("def f():\n    exec(text)", "exec"),
    ],
)
def test_what_could_run_is_noticed(source: str, found: str):
    assert unsafe(source) == {found}


def test_what_only_looks_alike_is_not():
    assert unsafe("model.eval(); json.load(file); numpy.load(path, allow_pickle=False)") == set()


# Put together from pieces, so that this file passes its own test.
REGISTRIES = "|".join(["py" + r"pi\.org", "pythonhosted" + r"\.org", "conda" + r"\.anaconda"])
MACHINES = "|".join(rf"/{top}/" for top in ("ho" + "me", "ro" + "ot", "Us" + "ers", "wo" + "rk", "private/" + "tmp"))
ADDRESSES = re.compile(rf"{REGISTRIES}|(?<![\w.<-])(?:{MACHINES})|[A-Z]:\\\\?Users")


def tracked() -> list[Path]:
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}, line {number}: {line.strip()[:120]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if ADDRESSES.search(line) or (path.suffix == ".py" and re.search(r"[\"']/tm" + r"p\b", line))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "https://py" + "pi.org/simple",
        "cd /wo" + "rk/main",
        "'/ho" + "me/me/a'",
        r"C:\Us" + "ers\\me",
        "path=/ro" + "ot/.x",
    ],
)
def test_addresses_are_noticed(line: str):
    assert ADDRESSES.search(line)


def test_the_lock_holds_hashes_and_no_addresses():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    pinned = re.findall(r"^([\w.-]+)==[^\n]*\\\n    --hash=sha256:", lock, re.MULTILINE)
    assert pinned == re.findall(r"^([\w.-]+)", lock, re.MULTILINE)
    assert {"torch", "pytest", "uv"} <= set(pinned)


# -- checks refuse broken copies -------------------------------------------------------------------------------------


class NoScale(MultiheadAttention):
    """Leaves out `1 / sqrt(head_dim)`."""

    def attend(self, q, k, v, mask=None, is_causal=False, **rest):
        return super().attend(q * self.head_dim**0.5, k, v, mask, is_causal, **rest)


class FlippedMask(MultiheadAttention):
    """Takes True for what is left out."""

    def attend(self, q, k, v, mask=None, is_causal=False, **rest):
        return super().attend(q, k, v, ~mask, is_causal, **rest)


class ForgottenMask(MultiheadAttention):
    """Attends to everything."""

    def attend(self, q, k, v, *_, **rest):
        return super().attend(q, k, v, **rest)


class SwappedQueryAndKey(MultiheadAttention):
    """Asks with what answers."""

    def attend(self, q, k, v, mask=None, is_causal=False, **rest):
        return super().attend(k, q, v, mask, is_causal, **rest)


class SwappedKeyAndValue(MultiheadAttention):
    """Compares with what it hands out."""

    def attend(self, q, k, v, mask=None, is_causal=False, **rest):
        return super().attend(q, v, k, mask, is_causal, **rest)


class InterleavedHeads(MultiheadAttention):
    """Deals features out to heads in turn, not in blocks."""

    def _heads(self, projected, parts):
        return projected.unflatten(-1, (parts, self.head_dim, self.num_heads)).permute(2, 0, 4, 1, 3).unbind()


class NoGradientThroughQueries(MultiheadAttention):
    """Right values, wrong gradients."""

    def attend(self, q, k, v, mask=None, is_causal=False, **rest):
        return super().attend(q.detach(), k, v, mask, is_causal, **rest)


class NormsElsewhere(TransformerEncoderLayer):
    """Normalises after where before is asked for."""

    def __init__(self, *sizes: int, norm_first: bool, **options):
        super().__init__(*sizes, norm_first=not norm_first, **options)


LENGTH, EMBED, HEADS, INNER = 5, 22, 2, 13


def held(same_as_torch, ours: nn.Module, theirs: nn.Module, run: Callable[[nn.Module], Callable]) -> bool:
    """Whether the parity check that the layers' tests use lets `ours` pass."""
    torch.manual_seed(0)
    try:
        same_as_torch(ours, theirs, [torch.randn(3, LENGTH, EMBED, dtype=torch.float64)], run(ours), run(theirs))
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("attention", "right"),
    [(MultiheadAttention, True)] + [(broken, False) for broken in MultiheadAttention.__subclasses__()],
)
def test_broken_attention_is_refused(same_as_torch, attention: type[MultiheadAttention], right: bool):
    ours = attention(EMBED, HEADS, dtype=torch.float64)
    theirs = nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, batch_first=True)
    causal = ~causal_mask(LENGTH)
    assert held(same_as_torch, ours, theirs, lambda module: lambda x: module(x, x, x, attn_mask=causal)[0]) == right


@pytest.mark.parametrize(("layer", "right"), [(TransformerEncoderLayer, True), (NormsElsewhere, False)])
def test_broken_layers_are_refused(same_as_torch, layer: type[TransformerEncoderLayer], right: bool):
    form = {"dropout": 0.0, "norm_first": True, "dtype": torch.float64}
    ours = layer(EMBED, HEADS, INNER, **form)
    theirs = nn.TransformerEncoderLayer(EMBED, HEADS, INNER, **form, batch_first=True)
    assert held(same_as_torch, ours, theirs, lambda module: module.__call__) == right
