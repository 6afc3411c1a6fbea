"""Networks of torch-geometric's, as `GraphNetwork` is called: baselines that are not ours."""

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import Adjacency
from qkv.models.graph_network import GraphNetworkConfig, Scale


class GeometricNetwork(nn.Module):
    """GraphSAGE (Hamilton et al. 2017) or GAT (Velickovic et al. 2018) as torch-geometric has them, on the first way.

    Args:
        config: sizes.
        features: the width of the inputs.
        outputs: how many numbers each node is asked for.
        kind: which of the two.

    Raises:
        InputError: torch-geometric is not installed.
    """

    def __init__(self, config: GraphNetworkConfig, features: int, outputs: int, kind: Literal["graphsage", "pyg-gat"]):
        super().__init__()
        self.scale = Scale(features)
        made = _torch_geometric().nn.models
        sizes: dict[str, Any] = {"num_layers": config.num_layers, "out_channels": outputs, "dropout": config.dropout}
        if kind == "pyg-gat":
            self.network = made.GAT(features, config.hidden_size, heads=config.num_heads, **sizes)
        else:
            self.network = made.GraphSAGE(features, config.hidden_size, **sizes)

    def forward(self, x: Float[Tensor, "nodes features"], edges: Sequence[Adjacency]) -> Float[Tensor, "nodes outputs"]:
        """What the network says of each node."""
        x = self.scale(x)
        return self.network(x, edges[0].edge_index)


def _torch_geometric() -> Any:
    try:
        import torch_geometric.nn
    except ImportError as error:
        raise InputError(
            "this takes torch-geometric, which is not installed", hint="pip install 'qkv[graphs]'"
        ) from error
    return torch_geometric
