"""The shipped cases of convolution, embedding and layer norm."""
# ruff: noqa: ARG002 - what a case has no use for, another has

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qkv.check.parity.case import Case, Sizes, State, Trial, normal
from qkv.check.parity.cases_attention import _NORM
from qkv.check.parity.formulas import attention, plain
from qkv.check.parity.signature import roles
from qkv.check.parity.variants import Formula, Named

_INPUT = "x inputs image images tokens ids indices index idx"


class Conv2d(Case):
    """`torch.nn.Conv2d`."""

    name, reference = "Conv2d", nn.Conv2d
    constructor = roles(
        in_channels="in_c c_in cin in_ch in_planes input_channels",
        out_channels="out_c c_out cout out_ch out_planes output_channels",
        kernel_size="kernel k ksize size",
        stride="s",
        padding="p pad",
        dilation="d",
        groups="g",
        bias="use_bias",
        padding_mode="",
    )
    constructor_orders = (("in_channels", "out_channels", "kernel_size"),)
    forward = roles(input=_INPUT)
    forward_orders = (("input",),)
    outputs = ("output",)
    formula = Formula(
        plain,
        ["conv2d"],
        [
            Named(
                "kernel",
                "weight.flatten(1)",
                "weight.flip(-1, -2).flatten(1)",
                "the kernel is turned round: convolution for correlation",
            ),
            Named(
                "kernel",
                "weight.flatten(1)",
                "weight.flip(-1).flatten(1)",
                "the kernel is turned round from left to right",
            ),
            Named(
                "kernel",
                "weight.flatten(1)",
                "weight.flip(-2).flatten(1)",
                "the kernel is turned round from top to bottom",
            ),
            Named(
                "transposed",
                "weight.flatten(1)",
                "weight.mT.flatten(1)",
                "the kernel stands transposed: width for height",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    stride = (1, 1)",
                "stride is left out",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    stride = stride[::-1]",
                "the strides of height and width are exchanged",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    stride = (stride[0], stride[0])",
                "the stride of the height stands for both",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    stride = (stride[1], stride[1])",
                "the stride of the width stands for both",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    dilation = (1, 1)",
                "dilation is left out",
            ),
            Named(
                "stride",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    dilation = dilation[::-1]",
                "the dilations of height and width are exchanged",
            ),
            Named(
                "padding",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    padding = (0, 0)",
                "padding is left out",
            ),
            Named(
                "padding",
                "padding, dilation, groups, mode):",
                "padding, dilation, groups, mode):\n    padding = padding[::-1]",
                "the paddings of height and width are exchanged",
            ),
            *(
                Named("padding", "mode=mode", f"mode='{mode}'", f"padding is {mode}")
                for mode in ("constant", "replicate", "reflect", "circular")
            ),
            Named(
                "groups",
                "patches.unflatten(1, (groups, -1))",
                "patches.unflatten(1, (x.shape[1] // groups, groups, -1)).transpose(1, 2).flatten(2, 3)",
                "input channels are dealt out to groups in turn",
            ),
            Named(
                "groups",
                "(kernels @ patches).flatten(1, 2)",
                "(kernels @ patches).transpose(1, 2).flatten(1, 2)",
                "output channels are taken from groups in turn",
            ),
        ],
    )
    sizes = (
        {"in_channels": 3, "out_channels": 5, "kernel_size": (3, 3)},
        {"in_channels": 2, "out_channels": 3, "kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2)},
        {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "dilation": (1, 2), "groups": 2},
        {
            "in_channels": 2,
            "out_channels": 2,
            "kernel_size": (3, 3),
            "padding": (1, 1),
            "padding_mode": "circular",
            "bias": False,
        },
    )

    def sizes_of(self, module: nn.Module) -> Sizes:
        names = (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "padding_mode",
        )
        return {name: getattr(module, name) for name in names} | {"bias": module.bias is not None}

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        x = normal(generator, 2, sizes["in_channels"], 8, 11)
        return [Trial("a batch", {"input": x}), Trial("training", {"input": x[..., :7]}, training=True)]

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        pairs = [sizes.get(name, usual) for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1))]
        pairs = [(value, value) if isinstance(value, int) else tuple(value) for value in pairs]
        weight = state["weight"]
        bias = state.get("bias", weight.new_zeros(weight.shape[0]))
        mode = sizes.get("padding_mode", "zeros").replace("zeros", "constant")
        return {"output": functions["conv2d"](inputs["input"], weight, bias, *pairs, sizes.get("groups", 1), mode)}


class Embedding(Case):
    """`torch.nn.Embedding`."""

    name, reference = "Embedding", nn.Embedding
    constructor = roles(
        num_embeddings="vocab vocab_size n_vocab size num_tokens n_tokens v",
        embedding_dim="dim d_model width d embed_dim emb_dim hidden_size",
        padding_idx="pad_id pad_idx padding_index",
    )
    constructor_orders = (("num_embeddings", "embedding_dim"),)
    forward = roles(input=_INPUT)
    forward_orders = (("input",),)
    outputs = ("output",)
    formula = Formula(
        plain,
        ["embedding"],
        [
            Named(
                "scale", "return rows", "return rows * weight.shape[1] ** 0.5", "rows are scaled by sqrt(embedding_dim)"
            ),
            Named(
                "scale",
                "return rows",
                "return rows / weight.shape[1] ** 0.5",
                "rows are scaled by 1 / sqrt(embedding_dim)",
            ),
            Named("padding", "rows.detach()", "0 * rows", "the row of padding gives zeros"),
            Named("padding", "if padding_idx is not None", "if False", "the row of padding gets a gradient"),
            Named("operand", "weight[index]", "weight[index - 1]", "rows are taken one too early"),
            Named("operand", "weight[index]", "weight[(index + 1) % len(weight)]", "rows are taken one too late"),
            Named("gradient", "weight[index]", "weight.detach()[index]", "no gradient arrives at the rows"),
            Named(
                "norm", "return rows", "return rows / rows.norm(dim=-1, keepdim=True)", "rows are made to have length 1"
            ),
        ],
    )
    sizes = (
        {"num_embeddings": 11, "embedding_dim": 3},
        {"num_embeddings": 7, "embedding_dim": 5, "padding_idx": 2},
    )

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        ids = torch.randint(sizes["num_embeddings"], (3, 13), generator=generator)
        return [Trial("a batch", {"input": ids}), Trial("training", {"input": ids[:1]}, training=True)]

    def sizes_of(self, module: nn.Module) -> Sizes:
        return {name: getattr(module, name) for name in ("num_embeddings", "embedding_dim", "padding_idx")}

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        padding = sizes.get("padding_idx")
        return {"output": functions["embedding"](inputs["input"], state["weight"], padding)}


class LayerNorm(Case):
    """`torch.nn.LayerNorm`."""

    name, reference = "LayerNorm", nn.LayerNorm
    constructor = roles(
        normalized_shape="dim d_model width features hidden_size size n_features shape normalized_dim num_features d",
        eps="epsilon layer_norm_eps variance_epsilon",
        elementwise_affine="affine",
        bias="use_bias",
    )
    constructor_orders = (("normalized_shape",),)
    forward = roles(input=_INPUT)
    forward_orders = (("input",),)
    outputs = ("output",)
    formula = Formula(attention, ["layer_norm"], _NORM)
    sizes = (
        {"normalized_shape": 7},
        {"normalized_shape": 3, "eps": 0.1},
        {"normalized_shape": (3, 5)},
        {"normalized_shape": 5, "bias": False},
    )

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        shape = sizes["normalized_shape"]
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        x = normal(generator, 4, 3, *shape) + 0.7
        return [Trial("a batch", {"input": x}), Trial("training, small inputs", {"input": 0.01 * x}, training=True)]

    def sizes_of(self, module: Any) -> Sizes:
        found = {"normalized_shape": tuple(module.normalized_shape), "eps": module.eps}
        return found | {"elementwise_affine": module.elementwise_affine, "bias": module.bias is not None}

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        shape = sizes["normalized_shape"]
        count = 1 if isinstance(shape, int) else len(shape)
        x = inputs["input"]
        weight = state.get("weight", torch.ones((), dtype=x.dtype))
        bias = state.get("bias", torch.zeros((), dtype=x.dtype))
        axes = tuple(range(-count, 0)) if count > 1 else -1
        return {"output": functions["layer_norm"](x, weight, bias, sizes.get("eps", 1e-5), axes)}
