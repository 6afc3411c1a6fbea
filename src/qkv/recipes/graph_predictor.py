"""What says a number of each node: twins looked up, and behind them a network, a table, or both in shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from qkv import files
from qkv.data import look_up
from qkv.errors import RunError
from qkv.functional import Adjacency
from qkv.models import GeometricNetwork, GraphNetwork, NodeRegressor, NodeTable, TableName
from qkv.recipes.graph_config import GraphConfig
from qkv.recipes.graph_data import Nodes, Task
from qkv.recipes.graph_karate import ways
from qkv.train import RunFolder
from qkv.types import Run

LookUp = Literal["none", "twins", "followers"]
LOOK_UPS: Mapping[LookUp, str] = {
    "none": "no twin is looked up",
    "twins": "a node joined to the same nodes as a known one is told that one's number",
    "followers": "a node whose edges lead to the same nodes as a known one's is told that one's number",
}
NETWORKS = ("gcn", "conv", "gat", "graphsage", "pyg-gat")
BEHIND: Mapping[str, TableName] = {
    "median": "median", "ridge": "ridge", "boosting": "boosting", "trees": "trees", "twins": "boosting",
    "blend": "trees",
}  # fmt: skip
BLENDED = "conv"
"""The network of a blend."""
PREDICTOR, BASIS, ROWS = "predictor.json", "basis.safetensors", "table.safetensors"


def network_name(config: GraphConfig) -> str | None:
    """Which network a model has, if any."""
    return BLENDED if config.model == "blend" else config.model if config.model in NETWORKS else None


def build(config: GraphConfig, features: int, edges: Sequence[Adjacency]) -> NodeRegressor:
    """The network of a configuration, untrained."""
    name = network_name(config)
    if name in ("graphsage", "pyg-gat"):
        return NodeRegressor(GeometricNetwork(config.network, features, 1, name))  # pyright: ignore
    return NodeRegressor(GraphNetwork(config.network, features, 1, name, ways=len(edges)))  # pyright: ignore


def edges_of(config: GraphConfig, task: Task) -> list[Adjacency]:
    """The graph as the network looks along it; torch-geometric's look both ways at once."""
    if network_name(config) in ("graphsage", "pyg-gat"):
        config = config.model_copy(update={"network": config.network.model_copy(update={"directions": "together"})})
    return ways(task.graph, config)


@dataclass(frozen=True)
class Predictor:
    """What was trained, and how its answers are put together.

    Attributes:
        network: None where there is none.
        table: None where there is none.
        share: of the table in the answers.
        look_up: whose known number stands before any answer.
    """

    config: GraphConfig
    network: NodeRegressor | None
    table: NodeTable | None
    share: float
    look_up: LookUp

    def answers(self, task: Task, known: Bool[np.ndarray, " nodes"]) -> dict[str, Float[np.ndarray, " nodes"]]:
        """What network and table say of every node where these targets are known, before any look-up."""
        x = task.inputs(known)
        said: dict[str, np.ndarray] = {}
        if self.network is not None:
            said["network"] = network_answers(self.network, x, edges_of(self.config, task))
        if self.table is not None:
            said["table"] = self.table.predict(x)
        return said

    def joined(
        self, said: Mapping[str, Float[np.ndarray, " nodes"]], task: Task, known: Bool[np.ndarray, " nodes"]
    ) -> Float[np.ndarray, " nodes"]:
        """The answers in their shares, behind what is looked up."""
        return looked_up(self.look_up, task, known, blended(said, self.share))

    def predict(self, task: Task, known: Bool[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """The number of every node, where these targets are known."""
        return self.joined(self.answers(task, known), task, known)

    def save(self, folder: RunFolder) -> None:
        """Writes what the run folder does not hold yet; the network's weights lie there since it was trained."""
        if self.table is not None:
            self.table.save(folder.path / ROWS)
        files.write_json(folder.path / PREDICTOR, {"share": self.share, "look_up": self.look_up})


def load(run: Run, config: GraphConfig, edges: Sequence[Adjacency]) -> Predictor:
    """The predictor of a finished run.

    Raises:
        RunError: what it left does not fit its configuration.
        DataError: a file of it is missing or damaged.
    """
    told, network, table = files.read_json(run.path / PREDICTOR), None, None
    if network_name(config) is not None:
        weights = RunFolder.open(run.path).load_weights()
        try:
            network = build(config, len(weights["network.scale.middle"]), edges)
            network.load_state_dict(weights)
        except (KeyError, RuntimeError) as error:
            raise RunError("the weights are not those of this configuration", path=run.path) from error
    if config.model in BEHIND:
        table = NodeTable.load(run.path / ROWS, BEHIND[config.model], seed=run.seed)
    return Predictor(config, network, table, told["share"], told["look_up"])


def network_answers(
    network: NodeRegressor, x: Float32[np.ndarray, "nodes inputs"], edges: Sequence[Adjacency]
) -> Float[np.ndarray, " nodes"]:
    """What a network says of every node."""
    network.eval()
    with torch.inference_mode():
        return network(torch.from_numpy(x), edges).double().numpy()


def blended(said: Mapping[str, Float[np.ndarray, " nodes"]], share: float) -> Float[np.ndarray, " nodes"]:
    """The answers of network and table, the table's with this share; or those of the one that is there."""
    if len(said) == 1:
        return next(iter(said.values()))
    return share * said["table"] + (1 - share) * said["network"]


def looked_up(
    which: LookUp, task: Task, known: Bool[np.ndarray, " nodes"], otherwise: Float[np.ndarray, " nodes"]
) -> Float[np.ndarray, " nodes"]:
    """The mean known number of the other nodes of each node's group, and `otherwise` where there is none."""
    if which == "none":
        return otherwise
    found = look_up(getattr(task.structure, which), known, task.target)
    return np.where(np.isfinite(found), found, otherwise)


def choose(
    config: GraphConfig, said: Mapping[str, np.ndarray], task: Task, known: Bool[np.ndarray, " nodes"], valid: Nodes
) -> tuple[LookUp, float]:
    """The look-up and the share of the table with which the error on the validation nodes is least.

    The classical baselines look nothing up, and `twins` does in any case: it is what its name says.
    """
    fixed: dict[str, tuple[LookUp, ...]] = dict.fromkeys(("median", "ridge", "boosting", "trees"), ("none",))
    ways: tuple[LookUp, ...] = fixed.get(config.model, ("twins",) if config.model == "twins" else tuple(LOOK_UPS))
    shares = [twentieth / 20 for twentieth in range(21)] if len(said) > 1 else [1.0]

    def error(choice: tuple[LookUp, float]) -> float:
        which, share = choice
        answer = looked_up(which, task, known, blended(said, share))
        return float(np.abs(answer - task.target)[valid].mean())

    return min(((which, share) for which in ways for share in shares), key=error)
