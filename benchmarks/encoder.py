"""A Transformer encoder layer beside torch's, at batch 8: a training step, inference, inference in bfloat16.

    python benchmarks/encoder.py [--threads 2] [--rounds 5] [--json]

A ratio says how many times as fast as `torch.nn.TransformerEncoderLayer` in float32 ours is, with the same arguments
and weights; in inference torch takes its fused path. Exits with 1 where a bar is missed.
"""

import sys
from functools import partial

import torch
from timing import Finding, judge, options, ratio, take_turns, timed
from torch import Tensor, nn

from qkv.nn import TransformerEncoderLayer

BATCH = 8


def layers(width: int, heads: int) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with the same weights."""
    theirs = nn.TransformerEncoderLayer(width, heads, dim_feedforward=4 * width, batch_first=True)
    ours = TransformerEncoderLayer(width, heads, dim_feedforward=4 * width)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def step(layer: nn.Module, x: Tensor, upstream: Tensor) -> None:
    layer.train()
    torch.autograd.grad(layer(x), [x, *layer.parameters()], upstream)


@torch.inference_mode()
def infer(layer: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    layer.eval()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return layer(x)


def beside_torch(width: int, heads: int, length: int, rounds: int) -> list[Finding]:
    ours, theirs = layers(width, heads)
    x, upstream = torch.randn(2, BATCH, length, width)
    off = (infer(ours, x) - infer(theirs, x)).abs().max().item()
    if off > 1e-4:
        sys.exit(f"Nothing is timed: the layers of width {width} differ by {off:.3g}")
    x.requires_grad_()
    runs = {
        "torch, training step": partial(step, theirs, x, upstream),
        "qkv, training step": partial(step, ours, x, upstream),
        "torch, inference": partial(infer, theirs, x),
        "qkv, inference": partial(infer, ours, x),
        "qkv, inference in bfloat16": partial(infer, ours, x, torch.bfloat16),
    }
    times = take_turns({name: timed(run) for name, run in runs.items()}, rounds)
    bars = {
        "qkv, training step": ("torch, training step", 1.0),
        "qkv, inference": ("torch, inference", 0.97),
        "qkv, inference in bfloat16": ("torch, inference", 1.6),
    }
    return [
        Finding(mine, ratio(times[peer], times[mine]), at_least=bar, seconds={mine: times[mine], peer: times[peer]})
        for mine, (peer, bar) in bars.items()
    ]


def main() -> None:
    arguments = options("A Transformer encoder layer beside torch's.").parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes = [(256, 4, 128), (256, 4, 512), (512, 8, 128), (512, 8, 512)]
    topics = {
        f"Encoder layer: width {width}, {heads} heads, length {length}": partial(
            beside_torch, width, heads, length, arguments.rounds
        )
        for width, heads, length in sizes
    }
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
