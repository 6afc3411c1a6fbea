"""The run folder: everything a run is, as plain files.

```
config.json          format, recipe, seed and the recipe's whole configuration
environment.json     versions, processor, threads
metrics.jsonl        one line a measurement, written while training
result.json          written last: a run that has it is finished
weights.safetensors  the weights chosen on validation
state/               what `resume` needs; gone once the run is finished
```

Recipes add what their model needs beside weights (vocabularies, say) and a `report.html`.
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import qkv
from qkv import files
from qkv.errors import DataError, InputError, RunError
from qkv.types import Json, Run

WEIGHTS = "weights.safetensors"

FORMAT = 1
"""The version of the layout; a folder of a newer one is refused, not guessed at."""


class RunFolder:
    """A run on disk: made by `create` or found by `open`, read as a `Run` by `read`."""

    def __init__(self, path: Path, config: Json):
        self.path = path
        self._config = config

    @classmethod
    def create(cls, path: str | Path, *, recipe: str, config: Json, seed: int) -> "RunFolder":
        """Makes the folder and writes what is known before training.

        Raises:
            RunError: where `path` already holds something.
            InputError: a negative seed.
        """
        path = Path(path)
        if seed < 0:
            raise InputError("the seed cannot be used", expected="0 or more", got=str(seed))
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(
                "there is something here already",
                expected="a new or empty folder",
                hint=f"another --out, or `qkv resume {path}` to go on with it",
                path=path,
            )
        document = {"format": FORMAT, "recipe": recipe, "seed": seed, "config": config}
        files.write_json(path / "config.json", document)
        files.write_json(path / "environment.json", environment())
        return cls(path, document)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Finds a run.

        Raises:
            RunError: where `path` is not a run folder, or one that a newer `qkv` wrote.
        """
        path = Path(path)
        if not path.exists():
            raise RunError("no such folder", expected="a run folder", hint="`ls runs`", path=path)
        if not (path / "config.json").is_file():
            raise RunError("not a run folder", expected="a folder with a config.json, as `qkv run` writes", path=path)
        document = files.read_json(path / "config.json")
        if not isinstance(document, dict) or not {"format", "recipe", "seed", "config"} <= document.keys():
            raise RunError("config.json is not one of a run", expected="format, recipe, seed and config", path=path)
        if document["format"] != FORMAT:
            newer = isinstance(document["format"], int) and document["format"] > FORMAT
            raise RunError(
                "written by a newer qkv" if newer else "of an unknown format",
                expected=f"run format {FORMAT}",
                got=str(document["format"]),
                hint="pip install --upgrade qkv" if newer else "",
                path=path,
            )
        return cls(path, document)

    @property
    def recipe(self) -> str:
        return self._config["recipe"]

    @property
    def seed(self) -> int:
        return self._config["seed"]

    @property
    def config(self) -> Json:
        return self._config["config"]

    @property
    def state(self) -> Path:
        return self.path / "state"

    def read(self) -> Run:
        """The run as its files tell it."""
        result = self.path / "result.json"
        return Run(
            path=self.path,
            recipe=self.recipe,
            config=self.config,
            seed=self.seed,
            history=list(self._history()),
            result=files.read_json(result) if result.is_file() else {},
        )

    def finished(self) -> Run:
        """The run, if training has ended."""
        run = self.read()
        if not run.finished:
            raise RunError("this run is not finished", hint=f"qkv resume {self.path}", path=self.path)
        return run

    # -- measurements ------------------------------------------------------------------------------------------------

    def hold_to_data(self, now: Json) -> None:
        """Keeps what tells the data of a run; refuses to go on with it on others than it began with.

        Raises:
            RunError: they differ.
        """
        path = self.path / "data.json"
        if not path.exists():
            files.write_json(path, now)
        elif files.read_json(path) != now:
            raise RunError("the data have changed since this run began", hint="a new run", path=self.path)

    def log(self, record: Json) -> None:
        """Appends one measurement."""
        with files.storage(self.path), (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def cut_history(self, lines: int) -> None:
        """Keeps the first `lines` measurements: a killed run had gone on past its last saved state."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            files.write_bytes(path, b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))

    def _history(self) -> Iterator[Json]:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                if number < len(lines):  # a kill can cut the last line short, and only that
                    raise DataError("not JSON", path=path, line=number) from error

    # -- what training leaves ----------------------------------------------------------------------------------------

    def save_weights(self, weights: dict[str, Tensor]) -> None:
        files.write_tensors(self.path / WEIGHTS, weights)

    def load_weights(self) -> dict[str, Tensor]:
        return files.read_tensors(self.path / WEIGHTS)

    def discard(self) -> None:
        """Removes the folder, unless training has left something in it that `resume` could go on from."""
        if not self.state.exists() and not (self.path / "result.json").exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def drop_state(self) -> None:
        """Forgets what `resume` would need: the run is finished."""
        shutil.rmtree(self.state, ignore_errors=True)

    def drop_weights(self) -> None:
        """Forgets the weights."""
        (self.path / WEIGHTS).unlink(missing_ok=True)

    def write_result(self, result: Json) -> None:
        files.write_json(self.path / "result.json", result)


def environment() -> dict[str, Any]:
    """What a run was made with."""
    return {
        "qkv": qkv.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
