"""Mistakes by rule: the source of a layer with one place of it rewritten.

A rule is two pieces of Python, what is looked for and what it becomes. A single capital in both stands for any
expression, the same one wherever it stands. Each place where a rule fits makes one wrong layer.
"""

import ast
import inspect
import linecache
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.check.parity import written
from tests.check.patterns import Fill, Swap, matches

Rule = tuple[str, Any]
"""A pattern and what it becomes; or `TEXT`, and pieces of text that are all replaced together."""


@dataclass(frozen=True)
class Mistake:
    """A layer with one place of its source wrong."""

    kind: str
    layer: type[nn.Module]
    right: str
    wrong: str

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.layer.__name__}: {self.wrong} for {self.right}"


def planted(kind: str, rules: Sequence[tuple[str, Rule]], *, each: int, seed: int = 0) -> list[Mistake]:
    """Up to `each` mistakes of a kind, from all places where its rules fit, drawn once.

    Args:
        rules: each with the layers that it is for, parted by blanks, or `*`.
    """
    every = [
        (layer, text)
        for layers, (pattern, replacement) in rules
        for layer in written.EVERY
        if layers == "*" or layer.__name__ in layers.split()
        for text in rewritten(layer, pattern, replacement)
    ]
    random.Random(f"{seed} {kind}").shuffle(every)
    found: list[Mistake] = []
    for layer, text in dict.fromkeys(every):
        if len(found) < each and (mistake := _made(kind, layer, text)) is not None and _differs(mistake):
            found.append(mistake)
    return found


def rewritten(layer: type, pattern: str, replacement: Any) -> Iterator[str]:
    """The module's source with one place of a layer's methods rewritten, each such place in turn."""
    tree = ast.parse(inspect.getsource(written))
    own = next(part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == layer.__name__)
    used = [part for part in tree.body if isinstance(part, ast.ClassDef) and _uses(own, part)]
    if pattern == "TEXT":
        text, replaced = ast.unparse(tree), []
        for part in [own, *used]:
            source = ast.unparse(part)
            new = source
            for old, other in replacement:
                new = new.replace(old, other)
            replaced.append((source, new))
        for source, new in replaced:
            text = text.replace(source, new)
        yield text
        return
    wanted = _piece(pattern)
    for part in [own, *used]:
        for method in part.body:
            if not isinstance(method, ast.FunctionDef) or method.name == "__init__":
                continue
            for node in list(ast.walk(method)):
                if isinstance(getattr(node, "ctx", None), ast.Store):
                    continue
                bound: dict[str, ast.AST] = {}
                if matches(wanted, node, bound):
                    new = Fill(bound).visit(_piece(replacement))
                    Swap(node, new).visit(tree)
                    yield ast.unparse(tree)
                    Swap(new, node).visit(tree)


def _uses(layer: ast.ClassDef, other: ast.ClassDef) -> bool:
    return layer is not other and f"{other.name}(" in ast.unparse(layer).partition("\n")[2]


def _made(kind: str, layer: type, text: str) -> Mistake | None:
    before = ast.unparse(ast.parse(inspect.getsource(written))).splitlines()
    changed = [(a.strip(), b.strip()) for a, b in zip(before, text.splitlines(), strict=False) if a != b]
    if not changed:
        return None
    file = f"<wrong {hash(text):x}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    names: dict[str, Any] = {"__name__": f"wrong_{abs(hash(text))}"}
    exec(compile(text, file, "exec"), names)
    return Mistake(kind, names[layer.__name__], *changed[0])


def _differs(mistake: Mistake) -> bool:
    """Whether the layer runs, and does something else than the right one, in evaluation or in training."""
    right = getattr(written, mistake.layer.__name__)
    return any(_outcome(right, k) != (wrong := _outcome(mistake.layer, k)) and wrong is not None for k in range(6))


_SIZES: dict[str, list[dict[str, Any]]] = {
    "LSTMCell": [{"input_size": 3, "hidden_size": 5}],
    "GRUCell": [{"input_size": 3, "hidden_size": 5}],
    "LSTM": [{"input_size": 3, "hidden_size": 2, "num_layers": 2, "dropout": 0.5, "bidirectional": True}],
    "GRU": [{"input_size": 3, "hidden_size": 2, "num_layers": 2, "dropout": 0.5, "bidirectional": True}],
    "MultiheadAttention": [{"embed_dim": 6, "num_heads": 2, "dropout": 0.5}],
    "TransformerEncoderLayer": [
        {"d_model": 6, "nhead": 2, "dim_feedforward": 7, "dropout": 0.5, "norm_first": one} for one in (False, True)
    ],
    "TransformerDecoderLayer": [
        {"d_model": 6, "nhead": 2, "dim_feedforward": 7, "dropout": 0.5, "norm_first": one} for one in (False, True)
    ],
    "Conv2d": [
        {
            "in_channels": 2,
            "out_channels": 4,
            "kernel_size": (2, 3),
            "stride": (2, 1),
            "padding": (1, 0),
            "dilation": (1, 2),
            "groups": 2,
        }
    ],
    "Embedding": [{"num_embeddings": 7, "embedding_dim": 3, "padding_idx": 2}],
    "LayerNorm": [{"normalized_shape": 5}],
}


def _outcome(layer: type[nn.Module], turn: int) -> list[int] | None:
    """Outputs and gradients, rounded; None where it does not run. Turns differ in sizes, masks and training."""
    name = layer.__name__
    torch.manual_seed(0)
    sizes = _SIZES[name][turn % len(_SIZES[name])]
    module = layer(**sizes).double().train(turn >= 4)
    leaves = list(module.parameters())
    arguments: list[Any]
    if name in ("LSTMCell", "GRUCell", "LSTM", "GRU"):
        x = torch.randn(*(4,) * (name in ("LSTM", "GRU")), 3, 3).double().requires_grad_()
        state = torch.randn(*(4,) * (name in ("LSTM", "GRU")), 3, sizes["hidden_size"]).double().requires_grad_()
        other = (0.3 * state + 0.1).detach().requires_grad_()
        leaves += [x, state, other]
        arguments = [x, (state, other) if "LSTM" in name else state] if turn % 2 == 0 else [x]
    elif name == "Embedding":
        arguments = [torch.arange(7).reshape(1, 7)]
    elif name == "Conv2d":
        arguments = [torch.randn(2, 2, 7, 8).double().requires_grad_()]
    elif name == "LayerNorm":
        arguments = [(torch.randn(4, 5) + 0.5).double().requires_grad_()]
    else:
        x = torch.randn(2, 5, 6).double().requires_grad_()
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if turn % 4 == 1 else None
        mask = torch.randn(5, 5).double() if turn % 4 == 3 else mask
        padding = torch.arange(5).repeat(2, 1) > 3 if turn % 4 == 2 else None
        arguments = {
            "MultiheadAttention": [x, x, x, padding, mask],
            "TransformerEncoderLayer": [x, mask, padding],
            "TransformerDecoderLayer": [x, 0.7 * x.flip(1) + 0.2, mask, None, padding, None],
        }[name]
    leaves += [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad and x not in set(leaves)]
    try:
        outputs = _flat(module(*arguments))
        weighted = sum((x * torch.randn_like(x)).sum() for x in outputs)
        gradients = torch.autograd.grad(weighted, leaves, allow_unused=True)
    except Exception:  # what was rewritten need not fit
        return None
    values = [*outputs, *(torch.zeros(1) if x is None else x for x in gradients)]
    if not all(bool(torch.isfinite(x).all()) for x in outputs):
        return None if not module.training and turn == 0 else [0]
    return [int(k) for x in values for k in (x.detach().flatten().double() * 1e6).round().nan_to_num().tolist()]


def _flat(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [x for part in value for x in _flat(part)]


# -- trees -----------------------------------------------------------------------------------------------------------


def _piece(text: str) -> ast.AST:
    statement = ast.parse(text).body[0]
    return statement.value if isinstance(statement, ast.Expr) else statement
