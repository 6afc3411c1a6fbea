"""Mistakes in shipped backward passes: every claim of each sheet changed by the rule of each kind that fits it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qkv.check.worksheets.sheet import read_sheet, shipped
from tests.check.worksheets.planted.backward_kinds import BACKWARD

SHEETS = [name for name in shipped() if name.endswith(("backward", "backward_pass"))]

# What stands in a line and what is put there; a rule that changes nothing is left out.
RULES: dict[str, list[tuple[str, str]]] = {
    "a factor of two left out": [(r"= 2 \* ", "= ")],
    "a factor of two too many": [(r"= (?!.* = )(.*)$", r"= 2 * (\1)")],
    "a sign inside a derivative": [(r"\(1 - ", "(1 + ")],
    "all of the other sign": [(r"= (?!.* = )(.*)$", r"= -(\1)")],
    "another node's adjoint": [
        (r"3\.T @ bar\(y\)", "3.T @ bar(p)"), (r"= bar\(a1\)", "= bar(a2)"), (r"= bar\(a2\)$", "= bar(a1)"),
        (r"outer\(bar\(a1\)", "outer(bar(u)"), (r"outer\(bar\(a2\)", "outer(bar(c2)"), (r"@ bar\(Q\)", "@ bar(K)"),
        (r"@ bar\(K\)", "@ bar(Q)"), (r"= bar\(u\)$", "= bar(c2)"), (r"\* bar\(A\)", "* A"),
    ],
    "another operand of its shape": [
        (r"step\(u\)", "step(a1)"), (r"outer\(bar\(y\), x\)", "outer(bar(y), W4.T @ y)"), (r"@ K /", "@ Q /"),
        (r"T @ Q /", "T @ K /"), (r"concat\(c1, c2\)", "concat(c1, u)"), (r"c1 \* \(1", "c2 * (1"),
        (r"W_Q\.T", "W_K.T"),
    ],
    "derivative left out": [(r" \* step\(u\)", ""), (r" \* c1 \* \(1 - c1\)", ""), (r" \* \(1 - H\*\*2\)", "")],
    "derivative of another function": [
        (r"step\(u\)", "(1 - c2**2)"), (r"c1 \* \(1 - c1\)", "(1 - c1**2)"), (r"\(1 - H\*\*2\)", "(H * (1 - H))"),
        (r"c1 \* \(1 - c1\)", "step(a1)"), (r"\(1 - H\*\*2\)", "step(Z)"),
    ],
    "order of an outer product": [(r"outer\((bar\(\w+\)), (\w+|concat\(c1, c2\))\)", r"outer(\2, \1)")],
    "path left out": [(r" \+ bar\(c1\).*", ""), (r"bar\(u\) \+ ", ""), (r" \+ W4.*", ""), (r" \+ bar\(V\) @.*", "")],
    "path taken twice": [
        (r"(bar\(u\)) \+ ", r"\1 + \1 + "), (r" \+ (W4\.T @ bar\(y\))", r" + \1 + \1"),
        (r" \+ (bar\(V\) @ W_V\.T)", r" + \1 + \1"),
    ],
    "sign of one term": [
        (r"(bar\(\w+\)|A \* bar\(A\)|\.T) \+ ", r"\1 - "), (r"p - t$", "p + t"), (r"\) - diag", ") + diag"),
    ],
    "sum for mean": [(r" / n$", "")],
    "transpose left out": [(r"(\w|\))\.T @", r"\1 @"), (r"@ (\w+)\.T", r"@ \1")],
}  # fmt: skip


@dataclass(frozen=True)
class Mistake:
    """A sheet with one mistake, the claim that it is in, its kind."""

    sheet: str
    name: str
    kind: str
    text: str

    @property
    def causes(self) -> set[str]:
        return BACKWARD[self.kind]


def planted() -> Iterator[Mistake]:
    """Every mistake; the same one by two rules is one."""
    seen = set()
    for sheet in SHEETS:
        text = read_sheet(sheet)[1].text
        for line in re.findall(r"^claim bar.*$", text, re.MULTILINE):
            for kind, rules in RULES.items():
                for old, new in rules:
                    wrong = re.sub(old, new, line, count=1)
                    if wrong not in (line, *seen):
                        seen.add(wrong)
                        yield Mistake(sheet, f"bar({line[10:].partition(')')[0]})", kind, text.replace(line, wrong))


def right() -> Iterator[str]:
    """The same sheets with claims spelled in other ways that are right."""
    ways = [
        (r"outer\((bar\(\w+\)), (\w+)\)$", r"outer(\2, \1).T"), (r"= (\w+)\.T @ (bar\([a-z]\))$", r"= \2 @ \1"),
        (r"= (?!.* = )(.*)$", r"= (\1) * 1"), (r"= (?!.* = )(.*)$", r"= -(-(\1))"), (r"\(1 - c1\)", "sigmoid(-a1)"),
        (r"= (?!.* = )(.*)$", r"= (\1) / 2 + 0.5 * (\1)"), (r"bar\(a1\)$", "bar(b1) * 0 + bar(a1)"),
    ]  # fmt: skip
    for sheet in SHEETS:
        text = read_sheet(sheet)[1].text
        for line in re.findall(r"^claim bar.*$", text, re.MULTILINE):
            for old, new in ways:
                if (other := re.sub(old, new, line, count=1)) != line:
                    yield text.replace(line, other)
