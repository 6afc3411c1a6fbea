"""LSTM layers forward and back, beside `torch.nn.LSTM` and a loop over `torch.nn.LSTMCell`, with the same weights.

    python benchmarks/recurrent.py [--threads 2] [--rounds 5] [--json]

Ours is measured twice: with its steps in torch's operations, as it runs in double precision and on a GPU ("eager"), and
with its steps compiled, as it runs by default in single precision on a processor. A ratio says how many times as fast
as the peer. Exits with 1 where a bar is missed.
"""

import sys
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from timing import Finding, judge, options, ratio, take_turns, timed
from torch import Tensor, nn

from qkv.functional import _recurrence_cpu
from qkv.nn import LSTM

LENGTH = 64
EAGER, COMPILED, LAYER, LOOP = "qkv, eager steps", "qkv, compiled steps", "torch.nn.LSTM", "loop over torch.nn.LSTMCell"


def along(cell: nn.LSTMCell, x: Tensor) -> Tensor:
    """The states of a loop over a cell."""
    state, states = None, []
    for position in x:
        state = cell(position, state)
        states.append(state[0])
    return torch.stack(states)


def step(run: Callable[[Tensor], Tensor], weights: list[Tensor], x: Tensor, upstream: Tensor) -> list[Tensor]:
    output = run(x)
    return [output, *torch.autograd.grad(output, [x, *weights], upstream)]


def in_torch(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """The same without compiled steps."""
    with mock.patch.object(_recurrence_cpu, "usable", return_value=False):
        return run()


def beside_torch(batch: int, width: int, rounds: int) -> list[Finding]:
    theirs, ours, cell = nn.LSTM(width, width), LSTM(width, width), nn.LSTMCell(width, width)
    ours.load_state_dict(theirs.state_dict())
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in theirs.state_dict().items()})
    x, upstream = torch.randn(2, LENGTH, batch, width)
    x.requires_grad_()
    mine = partial(step, lambda x: ours(x)[0], list(ours.parameters()), x, upstream)
    runs = {
        LAYER: partial(step, lambda x: theirs(x)[0], list(theirs.parameters()), x, upstream),
        LOOP: partial(step, partial(along, cell), list(cell.parameters()), x, upstream),
        EAGER: partial(in_torch, mine),
        COMPILED: mine,
    }
    expected = runs[LAYER]()
    for name, run in runs.items():
        off = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(run(), expected, strict=True))
        if off > 1e-4:
            sys.exit(f"Nothing is timed: {name} differs by a share of {off:.3g} at width {width}")
    times = take_turns({name: timed(run) for name, run in runs.items()}, rounds)
    # Of a single sequence little can be shared out or tiled: there the bar is the loop's alone.
    layer_bars = {(32, 128): (0.5, 0.6), (32, 512): (0.85, 0.85)}.get((batch, width), (None, None))
    loop_bars = (1.35, 3.0) if batch == 1 else (1.35, 1.35)
    return [
        Finding(f"{name}, beside {peer}", ratio(times[peer], times[name]), at_least=bar, seconds=of(times, name, peer))
        for peer, bars in {LAYER: layer_bars, LOOP: loop_bars}.items()
        for name, bar in zip((EAGER, COMPILED), bars, strict=True)
    ]


def of(times: dict[str, list[float]], *names: str) -> dict[str, list[float]]:
    return {name: times[name] for name in names}


def main() -> None:
    arguments = options("LSTM layers beside torch's.").parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    topics = {
        f"LSTM, forward and back: batch {batch}, length {LENGTH}, width {width}": partial(
            beside_torch, batch, width, arguments.rounds
        )
        for batch, width in [(1, 128), (32, 128), (32, 256), (32, 512)]
    }
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
