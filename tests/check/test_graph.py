import torch
from torch import Tensor, nn

from qkv.check.graph import Graph, behind, fused, pieces


class Block(nn.Module):
    """A layer inside a layer, whose own operations come before, between and after."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Tanh()
        self.again = nn.ReLU()

    def forward(self, x: Tensor, *, twice: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
        x = self.inner(x.exp()).sin()
        return self.again(x), twice["x"][0].cos()


def test_operations_belong_to_the_innermost_layer_that_made_them():
    model = nn.ModuleDict({"block": Block(), "end": nn.Linear(3, 1)})
    x = torch.ones(2, 3, requires_grad=True)
    graph = Graph(model)
    with graph.watched():
        first, second = model["block"](x, twice={"x": [x.sinh()]})
        output = model["end"](first + second).abs().sum()
    found = graph.operations(output)
    assert {name: found[name] for name in ("Exp", "Tanh", "Sin", "Relu", "Cos", "Addmm", "Sinh", "Add", "Abs")} == {
        "Exp": ["block"], "Tanh": ["block.inner"], "Sin": ["block"], "Relu": ["block.again"], "Cos": ["block"],
        "Addmm": ["end"], "Sinh": [""], "Add": [""], "Abs": [""],
    }  # fmt: skip
    assert pieces(found) == {"relu": ["block.again"], "abs": [""]}
    assert graph.by_hand() == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_kernels_are_known_by_the_names_of_their_nodes():
    operations = {
        "ScaledDotProductFlashAttentionForCpu": ["a", "b"], "NativeGroupNorm": ["c"], "MkldnnRnnLayer": ["d"],
        "Tanh": ["e"],
    }  # fmt: skip
    assert fused(operations) == {"scaled_dot_product_attention": ["a", "b"], "a recurrent layer in oneDNN": ["d"]}
    assert behind("native_group_norm_backward", operations) == ["c"]
    assert behind("_scaled_dot_product_flash_attention_for_cpu_backward", operations) == ["a", "b"]
    assert behind("native_layer_norm_backward", operations) == []


def test_an_error_leaves_no_hooks():
    model = nn.Linear(3, 1)
    graph = Graph(model)
    try:
        with graph.watched():
            model(torch.ones(2))
    except RuntimeError:
        pass
    assert (graph.layer, len(model._forward_hooks)) == ("", 0)
