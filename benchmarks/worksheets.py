"""How long a worksheet takes to be judged: 200 claims over 10 x 10 matrices, right ones and wrong ones.

    python benchmarks/worksheets.py [--rounds 5] [--json]

What is timed is the file's text read and judged, after start-up; the page is drawn beside it. Every other claim of the
second worksheet has a wrong entry, so that its cause is looked for.
"""

import random
from functools import partial

from timing import Finding, judge, options, take_turns, timed

from qkv.check import Worksheet

CLAIMS, SIZE = 200, 10


def matrix(values: list[list[float]], decimals: int) -> str:
    return "[" + ", ".join("[" + ", ".join(f"{x:.{decimals}f}" for x in row) + "]" for row in values) + "]"


def worksheet(wrong: bool) -> str:
    """Products, sums and softmax of two matrices, each of the last claim's, with the values that they have."""
    import numpy as np

    draw = random.Random(0)
    given = [[[draw.randint(-3, 3) for _ in range(SIZE)] for _ in range(SIZE)] for _ in range(2)]
    first, second = (np.array(one, dtype=float) for one in given)
    lines = [f"given A = {given[0]}", f"given B = {given[1]}"]
    for number in range(CLAIMS):
        kind = number % 4
        formula, value = [
            ("A @ B", first @ second),
            ("(A + B.T) / 4", (first + second.T) / 4),
            ("softmax(A @ B.T / sqrt(10))", np.exp(x := first @ second.T / 10**0.5) / np.exp(x).sum(1, keepdims=True)),
            ("A * B - 2 * B", first * second - 2 * second),
        ][kind]
        if wrong and number % 2:
            value = value.copy()
            value[draw.randrange(SIZE), draw.randrange(SIZE)] += 1.37
        lines.append(f"claim C{number} = {formula} = {matrix(value.tolist(), 3 if kind in (1, 2) else 1)}")
    return "\n".join(lines)


def checked(rounds: int) -> list[Finding]:
    texts = {"right": worksheet(False), "half of them wrong": worksheet(True)}
    assert Worksheet(texts["right"]).ok
    assert (
        sum(
            line.verdict.kind == "wrong"
            for line in Worksheet(texts["half of them wrong"], seconds=600.0).judgement.lines
        )
        == 100
    )
    times = take_turns({name: timed(partial(Worksheet, text, seconds=600.0)) for name, text in texts.items()}, rounds)
    times["page"] = take_turns({"page": timed(lambda: Worksheet(texts["right"]).page())}, rounds)["page"]
    bars = {"right": 1.0, "half of them wrong": None, "page": None}
    return [
        Finding(f"200 claims, {name}: seconds", min(values), at_most=bars[name], seconds={name: values})
        for name, values in times.items()
    ]


if __name__ == "__main__":
    arguments = options(__doc__ or "").parse_args()
    judge({"worksheets": partial(checked, arguments.rounds)}, as_json=arguments.json)
