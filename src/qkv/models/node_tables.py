"""Classical regressors of nodes, by what is known of each alone: a median, ridge regression, boosting, extra trees."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qkv import files
from qkv.errors import DataError, InputError

TableName = Literal["median", "ridge", "boosting", "trees"]
TREES = 150


class NodeTable:
    """A regressor that is fitted when it is made, and made again from the table that it was fitted to.

    Trees are kept as that table, and grown again when they are read: nothing is ever unpickled, and the same seed grows
    the same trees.

    Args:
        name: `median`, `ridge`, `boosting` (of histograms, absolute error) or `trees` (extremely randomised ones,
            Geurts et al. 2006).
        x: a row a node.
        y: what each should say.
        importance: how much each counts; the median and boosting take all alike.
        seed: decides what is drawn.

    Raises:
        InputError: no row.

    >>> table = NodeTable("median", np.zeros((3, 1), np.float32), np.array([1.0, 2.0, 9.0]), np.ones(3), seed=0)
    >>> table.predict(np.zeros((2, 1), np.float32)).tolist()
    [2.0, 2.0]
    """

    def __init__(
        self,
        name: TableName,
        x: Float32[np.ndarray, "rows inputs"],
        y: Float[np.ndarray, " rows"],
        importance: Float[np.ndarray, " rows"],
        *,
        seed: int,
    ):
        if not len(y):
            raise InputError("there is nothing to fit to", expected="at least one row")
        self.name: TableName = name
        self._table = {"x": x, "y": y, "importance": importance}
        self._predict = _fitted(name, x, y, importance, seed)

    def predict(self, x: Float32[np.ndarray, "rows inputs"]) -> Float[np.ndarray, " rows"]:
        """What it says of each row."""
        return self._predict(x)

    def save(self, path: Any) -> None:
        """Writes the table that it was fitted to."""
        files.write_tensors(path, {key: torch.from_numpy(np.ascontiguousarray(x)) for key, x in self._table.items()})

    @classmethod
    def load(cls, path: Any, name: TableName, *, seed: int) -> "NodeTable":
        """What `save` wrote, fitted again.

        Raises:
            DataError: it is missing or damaged.
        """
        table = files.read_tensors(path)
        if not {"x", "y", "importance"} <= table.keys() or len(table["x"]) != len(table["y"]):
            raise DataError("not the table of a regressor", expected="x, y and importance", path=path)
        x, y, importance = (table[key].numpy() for key in ("x", "y", "importance"))
        return cls(name, x, y, importance, seed=seed)


def _fitted(name: TableName, x: Any, y: Any, importance: Any, seed: int) -> Callable[[Any], np.ndarray]:
    if name == "median":
        middle = float(np.median(y))
        return lambda rows: np.full(len(rows), middle)
    if name == "ridge":
        made = make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(x, y, ridge__sample_weight=importance)
        low, high = y.min(), y.max()  # a line has no bounds, and a logarithm is soon absurd
        return lambda rows: np.clip(made.predict(rows), low, high)
    if name == "boosting":
        boosted = HistGradientBoostingRegressor(
            loss="absolute_error", max_iter=200, learning_rate=0.06, min_samples_leaf=10, early_stopping=False,  # pyright: ignore
            random_state=seed,
        )  # fmt: skip
        return boosted.fit(x, y).predict
    grown = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.4, random_state=seed)
    return grown.fit(x, y, sample_weight=importance).predict
