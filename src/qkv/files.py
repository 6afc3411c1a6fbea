"""Files: written whole or not at all, read without trust. Nothing here unpickles.

Writing goes to a temporary neighbour that is flushed to disk and then renamed, so that a reader sees the old file or
the new one, and a full disk or a kill leaves the old one.
"""

import contextlib
import errno
import gzip
import io
import json
import os
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qkv.errors import DataError, QkvError, StorageError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK = 2**15


# -- writing ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def storage(path: str | Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, QkvError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError("the disk is full", hint="free some space, then go on", path=path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError("no permission to write here", hint="another folder", path=path) from error
        raise StorageError(f"cannot be written ({error.strerror or error})", path=path) from error


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Hands out the path of a temporary neighbour to write; it takes the place of `path` when the block ends well."""
    path = Path(path)
    if not path.name:
        raise StorageError("not the name of a file", path=path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with storage(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes `data`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Writes `text` in UTF-8, whole or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, value: Mapping[str, Any]) -> Path:
    """Writes `value` as indented JSON; NaN and infinity, which JSON has not, are refused."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> Path:
    """Writes tensors in the safetensors format."""
    with atomic(path) as temporary:
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:
            # The library hands the system's error on as text only.
            raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error
    return Path(path)


@contextlib.contextmanager
def create_bytes(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file to write, whole or not at all; one that ends in `.gz` or `.zst` is compressed."""
    with atomic(path) as temporary, temporary.open("wb") as raw:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
                yield file  # pyright: ignore[reportReturnType] - it writes bytes, which is all that is asked
        elif Path(path).suffix == ".zst":
            with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as file:
                yield file  # pyright: ignore[reportReturnType] - as above
        else:
            yield raw


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Hands out an empty folder to fill; when the block ends without an error it takes the place of `path` whole.

    A folder cannot be renamed onto a full one, so the swap takes two renames; `finish_swap` completes one that a kill
    cut in half.
    """
    path = Path(path)
    new = path.with_name(f"{path.name}.new")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with storage(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            finish_swap(path)  # one that was cut in half earlier
            temporary.rename(new)  # complete from here on
            finish_swap(path)
        except StorageError as error:  # of a file inside, under a name that lives only for a moment
            raise StorageError(error.problem, hint=error.hint, path=path) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def clear_cut_writes(path: str | Path) -> None:
    """Removes what writes of `path` that were killed half-way left beside it."""
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.????????"):
        shutil.rmtree(left, ignore_errors=True)


def finish_swap(path: str | Path) -> None:
    """Puts a complete `path.new` in the place of `path`, if there is one."""
    path = Path(path)
    new, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
    if new.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


# -- reading ---------------------------------------------------------------------------------------------------------


def require_file(path: str | Path) -> Path:
    """`path`, if it is a file that is not empty."""
    path = Path(path)
    if not os.path.exists(path):  # Path.exists raises where a name is too long for the system
        raise DataError("no such file", hint="the path as seen from " + str(Path.cwd()), path=path)
    if not path.is_file():
        raise DataError(
            "not a file", expected="a file", got="a folder" if path.is_dir() else "a pipe or a device", path=path
        )
    if not os.access(path, os.R_OK):
        raise DataError("no permission to read it", path=path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", path=path)
    return path


def read_json(path: str | Path) -> Any:
    """Reads a JSON document of any kind."""
    path = require_file(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # undecodable bytes, wrong syntax, a huge number, a deep nest
        line = getattr(error, "lineno", None)
        raise DataError(f"not JSON ({getattr(error, 'msg', error)})", path=path, line=line) from error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Reads a safetensors file."""
    path = require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise DataError(f"not a safetensors file, or a damaged one ({error})", path=path) from error


@contextlib.contextmanager
def open_arrays(path: str | Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an npz file; each array is read when it is asked for."""
    path = require_file(path)
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            yield arrays
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        if isinstance(error, QkvError):
            raise
        raise DataError(
            f"not an npz file of plain arrays, or a damaged one ({error})", hint="fetch or make it again", path=path
        ) from error


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading; gzip and zstd are recognised by their first bytes, whatever the file is called."""
    path = require_file(path)
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        try:
            if magic.startswith(_GZIP):
                with gzip.open(raw) as file:
                    yield io.BufferedReader(file)
            elif magic == _ZSTD:
                yield io.BufferedReader(_ZstdReader(raw))
            else:
                yield raw
        except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
            raise DataError(f"the compressed file is damaged ({error})", hint="fetch it again", path=path) from error


class _ZstdReader(io.RawIOBase):
    """A zstd file decompressed as it is read. The library's own reader takes a file cut short for one that ends."""

    def __init__(self, raw: IO[bytes]):
        self._raw, self._frame = raw, None
        self._compressed, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            compressed = self._compressed or self._raw.read(_CHUNK)
            if not compressed and self._frame is not None:
                raise EOFError("it ends in the middle of a frame")
            if not compressed:
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._compressed = memoryview(self._frame.decompress(compressed)), self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def read_lines(path: str | Path) -> Iterator[tuple[int, str | None]]:
    """Yields `(number, text)` for each line, counted from 1; `text` is None where the bytes are not UTF-8.

    Ends of line are taken off (LF or CR LF), as is a byte order mark.
    """
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, line.rstrip(b"\r\n").decode()
            except UnicodeDecodeError:
                yield number, None


def read_text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """`read_lines` of a file that must be text all through.

    Raises:
        DataError: bytes that are not UTF-8, with the line.
    """
    for line, text in read_lines(path):
        if text is None:
            raise DataError(
                "not text", expected="UTF-8", hint="the file in UTF-8 (iconv converts others)", path=path, line=line
            )
        yield line, text
