"""What the recipe graph can be told."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from qkv.errors import InputError
from qkv.models import GraphNetworkConfig
from qkv.train import FitConfig
from qkv.types import Config

KARATE = "karate"
"""The embedded default: Zachary's karate club."""


class GraphConfig(Config):
    """Which graph, what is asked of its nodes, by which model, and how it is trained."""

    task: Literal["karate", "regression"] | None = None
    """By default `karate` of the club, and of all other data `regression`: a number for each node."""
    model: Literal[
        "gcn", "conv", "gat", "blend", "twins", "boosting", "trees", "ridge", "median", "graphsage", "pyg-gat"
    ] = "gcn"
    """Convolutions of our own; a blend of the plain one with trees; twins looked up with boosting behind; tables of
    inputs; networks of torch-geometric's."""
    data: str = KARATE
    """`karate`, a named set such as `chameleon`, or edges: CSV, TSV, GraphML, GEXF, GML, Pajek."""
    node: NonNegativeInt = 10
    """Of `karate`: whose neighbours are told."""
    nodes: PositiveInt | None = None
    """How many nodes there are, numbered from 0; an edge to another is refused. By default as many as are named."""
    features: str | None = None
    """A file of node features: JSON of lists, or a table of numbers; by default what lies beside the edges."""
    target: str | None = None
    """A table of node and number; by default what lies beside the edges."""
    masks: str | None = None
    """Published splits in place of random ones: an npz file of Geom-GCN's, or `geom-gcn` for those of a named set."""
    split: NonNegativeInt = 0
    """Which split."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Of the nodes with a target, so many are kept to judge by."""
    valid_share: float = Field(default=0.2, gt=0, lt=1)
    """Of the others, so many are kept to choose by."""
    distinct: bool = False
    """Keep the target of one node alone of those whose edges lead to the same nodes."""
    components: NonNegativeInt = 16
    """Directions of the adjacency's singular vectors among the inputs, which mean something in this graph alone: 0 in a
    run that is to predict on others."""
    folds: PositiveInt = Field(default=5, ge=2)
    """Training nodes are asked in so many turns; of those that are asked no target is known to anyone."""
    network: GraphNetworkConfig = GraphNetworkConfig()
    fit: FitConfig = FitConfig()

    @property
    def asks(self) -> Literal["karate", "regression"]:
        return self.task or ("karate" if self.data == KARATE else "regression")

    @model_validator(mode="after")
    def _task_fits(self) -> "GraphConfig":
        if (self.asks == "karate") != (self.data == KARATE):
            raise InputError(
                f"--task {self.asks} and --data {self.data} do not go together",
                expected="--task regression with --data of a graph whose nodes have numbers",
            )
        if self.asks == "karate" and self.model not in ("gcn", "conv", "gat"):
            raise InputError(f"--model {self.model} tells no classes", expected="gcn, conv or gat, for --task karate")
        return self
