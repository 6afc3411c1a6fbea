import contextlib
import errno
import gzip
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given

from qkv import files
from qkv.errors import DataError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DRIVER = """
import json, os, signal, sys
from pathlib import Path
from qkv import files

def die():
    os.kill(os.getpid(), signal.SIGKILL)

for line in sys.stdin:
    if os.fork() == 0:
        exec(json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[..., None]]:
    """Runs code in a process of its own, forked from one that has imported all, until it says `die()`."""
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def run(code: str, path: Path, **names: int) -> None:
            line = "\n".join([f"path = Path({str(path)!r})", *(f"{name} = {n}" for name, n in names.items()), code])
            print(json.dumps(line), file=driver.stdin)
            assert int(driver.stdout.readline()) == -signal.SIGKILL

        yield run


@pytest.fixture
def full_disk(monkeypatch) -> None:
    """Nothing more can be flushed to disk."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


# -- writing one file ------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_in_folders_that_appear_with_it(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    assert files.write_text(path, "é\n") == path
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert names(path.parent) == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
    assert path.read_text() == "half"


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    with contextlib.suppress(KeyboardInterrupt), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_kill_leaves_the_old_file_alone(tmp_path, killed):
    path = files.write_text(tmp_path / "a.txt", "old")
    killed("with files.atomic(path) as temporary:\n    temporary.write_text('half')\n    die()", path)
    assert path.read_text() == "old"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(StorageError, match=r"a\.txt: the disk is full. Try: free some space"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "no permission to write here"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_the_systems_refusals_in_words(number: int, message: str):
    with pytest.raises(StorageError, match=f"x.bin: {message}") as refusal, files.storage("x.bin"):
        raise OSError(number, os.strerror(number))
    assert isinstance(refusal.value.__cause__, OSError)


def test_what_is_said_already_is_not_said_again():
    with pytest.raises(StorageError, match=r"^inner: full\.$"), files.storage("outer"):
        raise StorageError("full", path="inner")


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        files.write_text(tmp_path / "a" / "b.txt", "")


# -- writing a folder ------------------------------------------------------------------------------------------------


def fill(path: Path, text: str) -> None:
    with files.atomic_folder(path) as folder:
        (folder / "a").write_text(text)
        (folder / text).write_text("")


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    path = tmp_path / "deep" / "state"
    fill(path, "old")
    fill(path, "new")
    assert names(path) == ["a", "new"]
    assert names(path.parent) == ["state"]


def test_an_error_leaves_the_old_folder_alone(tmp_path):
    path = tmp_path / "state"
    fill(path, "old")
    with contextlib.suppress(RuntimeError), files.atomic_folder(path) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (path / "a").read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_a_full_disk_leaves_the_old_folder_alone(tmp_path, request):
    path = tmp_path / "state"
    fill(path, "old")
    request.getfixturevalue("full_disk")
    with pytest.raises(StorageError, match="state: the disk is full"):
        fill(path, "new")
    assert (path / "a").read_text() == "old"
    assert names(tmp_path) == ["state"]


SWAP = """
rename = Path.rename

def counted(self, target):
    global moves
    if moves == 0:
        die()
    moves -= 1
    return rename(self, target)

Path.rename = counted
with files.atomic_folder(path) as folder:
    (folder / "a").write_text("new")
die()
"""


@pytest.mark.parametrize(("moves", "kept"), [(0, "old"), (1, "new"), (2, "new"), (3, "new")])
def test_a_kill_leaves_the_old_folder_or_the_new_one(tmp_path, killed, moves: int, kept: str):
    # The three moves: the filled folder to state.new, state to state.old, state.new to state.
    path = tmp_path / "state"
    fill(path, "old")
    killed(SWAP, path, moves=moves)
    files.finish_swap(path)
    assert (path / "a").read_text() == kept
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["state"]


def test_a_half_done_swap_is_not_lost_to_the_next(tmp_path, killed):
    path = tmp_path / "state"
    fill(path, "old")
    killed(SWAP, path, moves=2)
    assert names(tmp_path) == ["state.new", "state.old"]
    killed(SWAP, path, moves=0)
    files.finish_swap(path)
    assert (path / "a").read_text() == "new"


def test_finishing_what_never_began_does_nothing(tmp_path):
    files.finish_swap(tmp_path / "state")
    assert names(tmp_path) == []


# -- formats ---------------------------------------------------------------------------------------------------------


def test_json_goes_round(tmp_path):
    value = {"é": [1, 2.5, None, "\n"], "nested": {"a": True}}
    path = files.write_json(tmp_path / "a.json", value)
    assert files.read_json(path) == value
    assert "é" in path.read_text()
    assert path.read_text().endswith("}\n")


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": math.nan})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n}', r"a\.json, line 2: not JSON"),
        (b'{"a":', r"a\.json, line 1: not JSON"),
        (b"\xff\x01\x02", r"a\.json: not JSON .*decode"),
        (b"[" * 100_000, r"a\.json: not JSON .*recursion"),
        (b"1" * 5000, r"a\.json: not JSON .*digits"),
    ],
    ids=["syntax", "cut short", "undecodable", "deep", "huge number"],
)
def test_what_is_not_json(tmp_path, content: bytes, message: str):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_go_round(tmp_path, dtype: torch.dtype):
    values = torch.arange(15).view(3, 5).to(dtype)
    written = {"plain": values, "turned": values.clone().mT, "number": values.sum().to(dtype), "none": values[:0]}
    read = files.read_tensors(files.write_tensors(tmp_path / "a.safetensors", written))
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor)


def test_parameters_are_written_without_their_history(tmp_path):
    layer = torch.nn.Linear(2, 3)
    read = files.read_tensors(files.write_tensors(tmp_path / "a", layer.state_dict(keep_vars=True)))
    assert not read["weight"].requires_grad


@pytest.mark.parametrize("keep", [5, 40, -1])
def test_damaged_tensors(tmp_path, keep: int):
    path = files.write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(7)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.safetensors: not a safetensors file, or a damaged one"):
        files.read_tensors(path)


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, one=np.arange(3), two=np.ones(2))
    with files.open_arrays(path) as arrays:
        assert list(arrays) == ["one", "two"]
        np.testing.assert_array_equal(arrays["one"], [0, 1, 2])
    whole = path.read_bytes()
    np.savez(path, one=np.array([None]))
    pickled = path.read_bytes()
    np.save(tmp_path / "b.npy", np.ones(2))
    for content in (whole[:100], (tmp_path / "b.npy").read_bytes(), pickled):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not an npz file of plain arrays"), files.open_arrays(path) as arrays:
            dict(arrays)
    for at in range(0, len(whole), 7):  # damage that may go unseen, but says nothing else
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(DataError), files.open_arrays(path) as arrays:
            dict(arrays)


def test_pickles_are_not_read(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="not a safetensors file"):
        files.read_tensors(tmp_path / "a.pt")


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", [files.read_json, files.read_tensors, lambda path: list(files.read_lines(path)), files.require_file]
)
def test_files_that_are_not_there(tmp_path, monkeypatch, read: Callable[[Path], object]):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "missing": "missing: no such file. Try: the path as seen from",
        "x" * 300: "no such file",
        "empty": "empty: the file is empty",
        "folder": "not a file. Expected a file; got a folder",
        "pipe": "not a file. Expected a file; got a pipe or a device",
    }.items():
        with pytest.raises(DataError, match=message):
            read(Path(name))


def compressed_twice(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Two members or frames after each other, as `cat a.gz b.gz` and parallel compressors make them."""
    return lambda data: compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])


FORMS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "two gzip members": compressed_twice(gzip.compress),
    "two zstd frames": compressed_twice(zstandard.compress),
}
TEXT = "".join(f"{number}\tligne numéro {number * 7919 % 1009}\n" for number in range(20_011)).encode()


@pytest.mark.parametrize("form", FORMS)
def test_compression_is_recognised_by_content_whatever_the_name(tmp_path, form: str):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(FORMS[form](TEXT))
    with files.open_bytes(path) as file:
        assert file.read() == TEXT
    lines = list(files.read_lines(path))
    assert [number for number, _ in lines] == list(range(1, 20_012))
    assert "".join(f"{line}\n" for _, line in lines).encode() == TEXT


@given(data=st.binary(max_size=997), form=st.sampled_from(list(FORMS)[1:]))
def test_every_compressed_form_holds_any_bytes(tmp_path_factory, data: bytes, form: str):
    path = files.write_bytes(tmp_path_factory.getbasetemp() / "any", FORMS[form](data))
    with files.open_bytes(path) as file:
        assert file.read() == data


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:5],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: flipped(data, 40),
        lambda data: flipped(data, len(data) // 2),
        lambda data: flipped(data, len(data) - 6),
        lambda data: data + b"more",
    ],
    ids=["header only", "half", "all but the last byte", "early", "middle", "checksum", "more after it"],
)
@pytest.mark.parametrize(
    "compress", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress], ids=["gzip", "zstd"]
)
def test_damaged_archives(tmp_path, compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]):
    path = tmp_path / "pairs.gz"
    path.write_bytes(damage(compress(TEXT)))
    with pytest.raises(DataError, match=r"pairs\.gz: the compressed file is damaged .* Try: fetch it again"):
        list(files.read_lines(path))


def test_a_reader_may_stop_early(tmp_path):
    path = files.write_bytes(tmp_path / "a", zstandard.compress(TEXT)[:-5])
    with files.open_bytes(path) as file:
        assert file.readline() == TEXT.splitlines(keepends=True)[0]


def test_lines_by_hand(tmp_path):
    content = b"\xef\xbb\xbfone\ntwo\r\n\n\xff\xfe\n a\rb \n\xef\xbb\xbflast"
    path = files.write_bytes(tmp_path / "a.txt", content)
    assert list(files.read_lines(path)) == [
        (1, "one"),
        (2, "two"),
        (3, ""),
        (4, None),
        (5, " a\rb "),  # only what ends the line is taken off
        (6, "\ufefflast"),  # a mark is one only at the start
    ]
