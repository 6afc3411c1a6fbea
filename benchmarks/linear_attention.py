"""Linear attention, second-order Taylor: speed, memory and error beside its peers, in one run.

    python benchmarks/linear_attention.py --peers DIR [--lengths 512,4096] [--threads 2] [--rounds 5] [--json]

Batch 1, 8 heads, query and key width 16, value width 64, float32. A ratio says how many times as fast as the peer ours
is, the building of its features included. Exits with 1 where a bar is missed; a bar at a length that `--lengths` leaves
out is not judged. The memory is read from /proc, so this runs on Linux.

The peers:
- `scaled_dot_product_attention`, query and key padded with zeros to the width of values: its fast path. It computes the
  softmax, so this compares costs. Beyond length 16,384 its time is extrapolated by the square of the length.
- idiap's kernel `causal_dot_product` (-O3 -march=native), on folded features.
- flash-linear-attention's plain torch in chunks: `naive_chunk_based`, which is of this very form, and
  `naive_chunk_linear_attn` on folded features.

`peers.py` says how to get the last two; without them there is no comparison.
"""

import math
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from peers import FLA, IDIAP, Attention, folded_features, load_peers, normalised, with_ones
from timing import Finding, extra_bytes, judge, options, ratio, take_turns, timed
from torch import Tensor

from qkv.functional import (
    TaylorFeatures,
    linear_attention,
    linear_attention_start,
    linear_attention_step,
    softmax_attention,
)

HEADS, HEAD_DIM, VALUE_DIM = 8, 16, 64
FEATURES = TaylorFeatures(order=2)
LONG, LONGEST = 16_384, 65_536
CASES = {"causal": True, "non-causal": False}


def inputs(length: int, *, requires_grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value whose scores have variance 1."""
    generator = torch.Generator().manual_seed(length)
    widths = (HEAD_DIM, HEAD_DIM, VALUE_DIM)
    q, k, v = (torch.randn(1, HEADS, length, width, generator=generator) for width in widths)
    q.mul_(HEAD_DIM**-0.5)
    return q.requires_grad_(requires_grad), k.requires_grad_(requires_grad), v.requires_grad_(requires_grad)


def padded(x: Tensor) -> Tensor:
    return F.pad(x.detach(), (0, VALUE_DIM - HEAD_DIM)).requires_grad_(x.requires_grad)


def ours(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = True) -> Tensor:
    return linear_attention(q, k, v, FEATURES, is_causal=is_causal)[0]


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = True) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=1.0)


def both(attention: Attention, upstream: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Forward and backward."""
    return torch.autograd.grad(attention(*tensors), tensors, upstream)


# -- what is right ---------------------------------------------------------------------------------------------------


def taylor(scores: Tensor) -> Tensor:
    return 1 + scores + scores.square() / 2


def definition(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = True) -> Tensor:
    """The values averaged by weights `1 + s + s^2 / 2` for scores `s = q . k`, in float64."""
    weights = taylor(q.double() @ k.double().mT)
    weights = weights.tril() if is_causal else weights
    return weights / weights.sum(dim=-1, keepdim=True) @ v.double()


def reference(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = True) -> Tensor:
    """The definition at any length, in float64: in chunks, beside the sums over the chunks that they see whole."""
    chunks = list(zip(*(x.double().split(512, dim=-2) for x in (q, k, with_ones(v))), strict=True))
    sums = torch.stack([folded_features(k).mT @ v for _, k, v in chunks])
    if is_causal:
        seen = sums.cumsum(dim=0) - sums
        within = [taylor(q @ k.mT).tril() @ v for q, k, v in chunks]
        outputs = [folded_features(q) @ state + own for (q, _, _), state, own in zip(chunks, seen, within, strict=True)]
    else:
        outputs = [folded_features(q) @ sums.sum(dim=0) for q, _, _ in chunks]
    return normalised(torch.cat(outputs, dim=-2))


def error(output: Tensor, exact: Tensor) -> float:
    """The largest difference relative to the largest number."""
    return ((output - exact).abs().max() / exact.abs().max()).item()


def check(peers: dict[str, Attention]) -> list[Finding]:
    """Whether all that is timed is right, at a length that the definition can be computed at; exits if not."""
    q, k, v = inputs(1024, requires_grad=True)
    upstream = torch.randn_like(v)
    off: dict[str, float] = {}
    for case, is_causal in CASES.items():
        exact, output = definition(q, k, v, is_causal=is_causal), ours(q, k, v, is_causal=is_causal)
        softmax, _ = softmax_attention(q.double(), k.double(), v.double(), scale=1.0, is_causal=is_causal)
        off[f"qkv, {case}"] = error(output, exact)
        off[f"SDPA, {case}"] = error(sdpa(padded(q), padded(k), v, is_causal=is_causal), softmax)
        wanted = torch.autograd.grad(exact, (q, k, v), upstream.double())
        found = torch.autograd.grad(output, (q, k, v), upstream)
        for name, mine, theirs in zip(("query", "key", "value"), found, wanted, strict=True):
            off[f"qkv, {case}, gradient of the {name}"] = error(mine, theirs)
        with torch.no_grad():
            off[f"float64 in chunks, {case}"] = error(reference(q, k, v, is_causal=is_causal), exact)
    with torch.no_grad():
        exact = definition(q, k, v)
        off |= {name: error(peer(q, k, v), exact) for name, peer in peers.items()}
    findings = [Finding(name, each, at_most=1e-12 if "float64" in name else 1e-5) for name, each in off.items()]
    if wrong := [f"{finding.what}: off by {finding.measured:.3g}" for finding in findings if not finding.held]:
        sys.exit("\n".join(["Nothing is timed, for this is not right:", *wrong]))
    return findings


# -- what is measured ------------------------------------------------------------------------------------------------


def contend(runs: Mapping[str, Callable[[], object]], length: int, rounds: int) -> dict[str, list[float]]:
    return take_turns({name: timed(run, calls=max(1, 8192 // length)) for name, run in runs.items()}, rounds)


def causal_forward(lengths: Sequence[int], rounds: int, peers: dict[str, Attention]) -> list[Finding]:
    bars = {(512, "SDPA"): 1, (4096, IDIAP): 8, (4096, FLA): 15, (LONG, "SDPA"): 33}
    findings, speedups, longest = [], {}, (LONG, [])
    for length in sorted(lengths):
        q, k, v = inputs(length)
        runs = {"qkv": partial(ours, q, k, v)}
        if length <= LONG:
            runs["SDPA"] = partial(sdpa, padded(q), padded(k), v)
        if length == 4096:
            runs |= {name: partial(peer, q, k, v) for name, peer in peers.items()}
        times = contend(runs, length, rounds)
        if length <= LONG:
            longest = (length, times["SDPA"])
            speedups[length] = ratio(times["SDPA"], times["qkv"])
        elif speedups:
            times["SDPA, extrapolated"] = [(length / longest[0]) ** 2 * each for each in longest[1]]
        findings += [
            Finding(
                f"{length:,}: times as fast as {name}",
                ratio(theirs, times["qkv"]),
                at_least=bars.get((length, name)),
                seconds={"qkv": times["qkv"], name: theirs},
            )
            for name, theirs in times.items()
            if name != "qkv"
        ]
    return [*findings, *break_even(speedups)]


def break_even(speedups: dict[int, float]) -> list[Finding]:
    """From which length on ours is faster: between two lengths, along a straight line in logarithms."""
    slower = max((length for length, faster in speedups.items() if faster < 1), default=0)
    faster = min((length for length in speedups if length > slower), default=0)
    if not faster:
        return []
    if not slower:
        return [Finding("break-even at this length or below", faster)]
    a, b, x, y = map(math.log, (slower, faster, speedups[slower], speedups[faster]))
    return [Finding("break-even at length", math.exp(a + (b - a) * x / (x - y)))]


def non_causal_forward(rounds: int) -> list[Finding]:
    q, k, v = inputs(LONG)
    runs = {
        "qkv": partial(ours, q, k, v, is_causal=False),
        "SDPA": partial(sdpa, padded(q), padded(k), v, is_causal=False),
    }
    times = contend(runs, LONG, rounds)
    faster = ratio(times["SDPA"], times["qkv"])
    return [Finding(f"{LONG:,}: times as fast as SDPA", faster, at_least=80, seconds=times)]


def forward_backward(rounds: int) -> list[Finding]:
    """The backward's time is what forward and backward take beyond a forward that keeps nothing."""
    q, k, v = inputs(LONG, requires_grad=True)
    upstream = torch.ones_like(v)
    runs = {
        "qkv": partial(both, ours, upstream, q, k, v),
        "SDPA": partial(both, sdpa, upstream, padded(q), padded(k), v),
        "qkv, forward alone": partial(ours, *inputs(LONG)),
    }
    times = contend(runs, LONG, rounds)
    faster = ratio(times["SDPA"], times["qkv"])
    backward = ratio(times["qkv"], times["qkv, forward alone"]) - 1
    return [
        Finding(f"{LONG:,}: times as fast as SDPA", faster, at_least=15, seconds=times),
        Finding(f"{LONG:,}: backward, in forwards", backward, at_most=3),
    ]


def memory(threads: int) -> list[Finding]:
    """Each in a fresh process; the gradients count as extra, the output and its gradient do not."""
    megabytes = LONGEST * HEADS * (2 * HEAD_DIM + VALUE_DIM) * 4 / 1e6
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh:
        forward, trained = (
            fresh.submit(extra_megabytes, threads, backward=backward).result() for backward in (False, True)
        )
    return [
        Finding(f"{LONGEST:,}: forward, MB", forward, at_most=32),
        Finding(f"{LONGEST:,}: forward and backward, in inputs", trained / megabytes, at_most=3),
    ]


def extra_megabytes(threads: int, *, backward: bool) -> float:
    """What a call takes at the greatest length, less the output; one before it compiles and starts threads."""
    torch.set_num_threads(threads)

    def beyond_output(length: int) -> float:
        q, k, v = inputs(length, requires_grad=backward)
        upstream = torch.ones_like(v)
        run = partial(both, ours, upstream, q, k, v) if backward else partial(ours, q, k, v)
        return (extra_bytes(run) - v.nbytes) / 1e6

    beyond_output(4096)
    return beyond_output(LONGEST)


def errors(lengths: Sequence[int]) -> list[Finding]:
    findings = []
    for length in sorted(length for length in lengths if length >= 512):
        tensors = inputs(length)
        for case, is_causal in CASES.items():
            off = error(ours(*tensors, is_causal=is_causal), reference(*tensors, is_causal=is_causal))
            findings.append(Finding(f"{length:,}, {case}", off, at_most=1e-5))
    return findings


def recurrent_step() -> list[Finding]:
    q, k, v = inputs(LONGEST)
    state = linear_attention_start(k[..., :0, :], v[..., :0, :], FEATURES)
    steps = torch.empty_like(v)
    for i in range(LONGEST):
        query, key, value = (x[..., i : i + 1, :] for x in (q, k, v))
        steps[..., i : i + 1, :], state = linear_attention_step(query, key, value, state, FEATURES)
    return [Finding(f"{LONGEST:,} steps against chunks", error(steps, ours(q, k, v)), at_most=1e-5)]


def attention_maps(rounds: int) -> list[Finding]:
    """Softmax attention of width 64 that also hands out its weights, and that does not, beside SDPA."""
    findings = []
    for length, bar in {512: 1.5, 1024: 2.2, 2048: 2.5}.items():
        q, k, v = torch.randn(3, 1, HEADS, length, 64)
        runs = {
            "SDPA": partial(F.scaled_dot_product_attention, q, k, v),
            "with weights": partial(softmax_attention, q, k, v, need_weights=True),
            "without": partial(softmax_attention, q, k, v),
        }
        times = contend(runs, length, rounds)
        with_weights, without = (ratio(times[name], times["SDPA"]) for name in ("with weights", "without"))
        findings += [
            Finding(f"{length:,}: with weights, in SDPAs", with_weights, at_most=bar, seconds=times),
            Finding(f"{length:,}: without, in SDPAs", without, at_most=1.05),
        ]
    return findings


def main() -> None:
    parser = options("Linear attention beside its peers: speed, memory, error.")
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="the folder of the peers' sources")
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(length) for length in text.split(",")],
        default=[256, 384, 512, 1024, 4096, LONG, LONGEST],
        help="of the causal forward and of the errors, with commas between",
    )
    arguments = parser.parse_args()
    lengths, rounds, threads = arguments.lengths, arguments.rounds, arguments.threads
    torch.set_num_threads(threads)
    peers = load_peers(arguments.peers, threads)
    topics = {
        "Relative error at length 1,024 against the definition in float64": lambda: check(peers),
        "Causal, forward": lambda: causal_forward(lengths, rounds, peers),
        "Not causal, forward": lambda: non_causal_forward(rounds),
        "Causal, forward and backward": lambda: forward_backward(rounds),
        "Causal, memory beyond inputs and output": lambda: memory(threads),
        "Relative error against float64": lambda: errors(lengths),
        "One token at a time": recurrent_step,
        "Softmax attention and its weights": lambda: attention_maps(rounds),
    }
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
