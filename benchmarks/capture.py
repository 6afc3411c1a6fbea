"""What recording a model costs beside running it: a long input of which the largest weights are kept, and short ones.

    python benchmarks/capture.py [--threads 2] [--rounds 5] [--length 16384] [--json]

The model is one call of `scaled_dot_product_attention`, so that nothing hides what recording adds. A time is that of
the call with its recording; temporaries are what it takes beyond its output and the trace that it leaves.
"""

from functools import partial

import torch
import torch.nn.functional as F
from timing import Finding, extra_bytes, judge, options, ratio, take_turns, timed
from torch import Tensor, nn

import qkv
from qkv.types import Trace

HEADS, HEAD_DIM, TOP = 8, 64, 16


class Attention(nn.Module):
    """The call alone."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


def recorded(model: nn.Module, inputs: Tensor, top: int | None) -> tuple[Tensor, Trace]:
    with qkv.record(model, top=top) as trace:
        return model(*inputs), trace


def size(trace: Trace) -> int:
    kept = [step.kept for step in trace if step.kept is not None]
    parts = [step.value for step in trace] + [x for one in kept for x in (one.key_index, one.dropped) if x is not None]
    return sum(part.nbytes for part in parts)


def cost(length: int, top: int | None, rounds: int, at_most: float | None) -> Finding:
    model, inputs = Attention(), torch.randn(3, 1, HEADS, length, HEAD_DIM)
    runs = {"alone": partial(model, *inputs), "recorded": partial(recorded, model, inputs, top)}
    times = take_turns({name: timed(run) for name, run in runs.items()}, rounds)
    what = f"{length:,}, {'whole maps' if top is None else f'top {top}'}: recorded, in SDPAs alone"
    return Finding(what, ratio(times["recorded"], times["alone"]), at_most=at_most, seconds=times)


def temporaries(length: int) -> Finding:
    model, inputs = Attention(), torch.randn(3, 1, HEADS, length, HEAD_DIM)
    recorded(model, inputs[..., : length // 8, :], TOP)  # the first call loads code
    left: list[int] = []

    def run() -> object:
        output, trace = result = recorded(model, inputs, TOP)
        left.append(output.nbytes + size(trace))
        return result

    taken = extra_bytes(run)
    return Finding(f"{length:,}, top {TOP}: temporaries, MB", (taken - left[0]) / 1e6, at_most=64)


def main() -> None:
    parser = options("Recording attention beside running it.")
    parser.add_argument("--length", type=int, default=16_384, help="of the long input")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    topics = {
        "A long input, its largest weights": lambda: [
            temporaries(arguments.length),
            cost(arguments.length, TOP, arguments.rounds, at_most=2.5),
        ],
        "Whole maps": lambda: [cost(length, None, arguments.rounds, at_most=None) for length in (512, 2048)],
    }
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
