"""Which parameter of one module is which of another's: a small language that says so, and a search for what it says.

"kernel": "(weight_ih | weight_hh).T"        side by side, transposed
"W_f": "weight_ih[f]"                        the rows of one gate
"rows": "weight_ih[f] / weight_ih[i]"        below one another
"b": "bias_ih + bias_hh"                     two that are added anyway
"""

import ast
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from qkv.errors import InputError

Mapping_ = dict[str, str]
Shapes = Mapping[str, tuple[int, ...]]

BLOCKS = {
    "lstm": {"weight_ih": "ifgo", "weight_hh": "ifgo", "bias_ih": "ifgo", "bias_hh": "ifgo"},
    "gru": {"weight_ih": "rzn", "weight_hh": "rzn", "bias_ih": "rzn", "bias_hh": "rzn"},
    "attention": {"in_proj_weight": "qkv", "in_proj_bias": "qkv"},
    "plain": {},
}
"""What the rows of a parameter are parted into, by the beginning of its name."""

_HINTS = {
    "i": {"i", "in", "input", "ingate"},
    "f": {"f", "forget", "forgetgate"},
    "g": {"g", "c", "cell", "candidate", "n", "new", "update"},
    "o": {"o", "out", "output", "proj", "outgate", "final"},
    "r": {"r", "reset"},
    "z": {"z", "update", "u"},
    "n": {"n", "new", "candidate", "h", "g"},
    "q": {"q", "query", "queries", "wq"},
    "k": {"k", "key", "keys", "wk"},
    "v": {"v", "value", "values", "wv"},
    "ih": {"ih", "x", "input", "w", "x2h", "i2h", "xh"},
    "hh": {"hh", "h", "hidden", "u", "recurrent", "h2h"},
    "weight": {"weight", "gamma", "scale", "gain", "a", "w", "kernel"},
    "bias": {"bias", "beta", "shift", "b", "offset"},
}


class Rows:
    """Reads expressions over a state.

    Args:
        blocks: what rows are parted into.
        heads: into how many heads `by_head` deals out rows.
    """

    def __init__(self, blocks: Mapping[str, str], heads: int = 1):
        self.blocks, self.heads = blocks, heads

    def value(self, text: str, state: Mapping[str, Tensor]) -> Tensor:
        """The tensor that an expression stands for.

        Raises:
            InputError: what it names is not there, or the expression is of no known form.
        """
        if text in state:
            return state[text]
        try:
            tree = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            raise InputError(f"the mapping {text!r} cannot be read", expected=_FORMS) from error
        try:
            return self._value(tree, state)
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the mapping {text!r} does not fit together", got=" ".join(str(error).split())) from error

    def _value(self, node: ast.expr, state: Mapping[str, Tensor]) -> Tensor:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._value(left, state) + self._value(right, state)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return torch.cat([self._value(left, state), self._value(right, state)], dim=1)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return torch.cat([self._value(left, state), self._value(right, state)], dim=0)
            case ast.Attribute(value=inner, attr="T") if ast.unparse(node) not in state:
                return self._value(inner, state).movedim(0, -1)
            case ast.Call(func=ast.Name(id="by_head"), args=[inner]):
                whole = self._value(inner, state).unflatten(0, (3, self.heads, -1))
                return whole.transpose(0, 1).flatten(0, 2)
            case ast.Subscript(value=inner, slice=ast.Name(id=label)):
                return self._block(ast.unparse(inner), label, state)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                name = re.sub(r"\[(\d+)\]", r".\1", ast.unparse(node))
                if name in state:
                    return state[name]
                raise InputError(f"the mapping names {name!r}", expected=f"one of {', '.join(state)}")
        raise InputError(f"the mapping {ast.unparse(node)!r} cannot be read", expected=_FORMS)

    def _block(self, name: str, label: str, state: Mapping[str, Tensor]) -> Tensor:
        name = re.sub(r"\[(\d+)\]", r".\1", name)
        if name not in state:
            raise InputError(f"the mapping names {name!r}", expected=f"one of {', '.join(state)}")
        labels = blocks_of(name, self.blocks)
        if label not in labels:
            raise InputError(f"{name} has no part {label!r}", expected=f"one of {', '.join(labels)}" if labels else "")
        return state[name].chunk(len(labels))[labels.index(label)]


_FORMS = "a name, NAME[part], A + B, A | B (side by side), A / B (below one another), A.T"


def blocks_of(name: str, blocks: Mapping[str, str]) -> str:
    last = name.rpartition(".")[2]
    return next((labels for start, labels in blocks.items() if last.startswith(start)), "")


# -- the search --------------------------------------------------------------------------------------------------------


def written(name: str) -> str:
    """A parameter's name as the language has it: numbers in brackets."""
    return re.sub(r"\.(\d+)", r"[\1]", name)


def mappings(own: Shapes, theirs: Shapes, kind: str) -> Iterator[Mapping_]:
    """Mappings of own parameters to theirs that fit in shape, the likeliest first.

    Args:
        own, theirs: the shapes of parameters, by name.
        kind: which `BLOCKS` theirs have; of Transformer layers those of attention.
    """
    same = {name: written(name) for name, shape in own.items() if theirs.get(name) == shape}
    if len(same) == len(own):
        yield same
        return
    units = _units(theirs, kind)
    clusters = _clusters(list(own), own, [_amounts(unit, theirs, kind) for unit in units])
    options: list[list[tuple[list[str], list[str]]]] = [[]]
    if len(clusters) == len(units):
        options = _matched(clusters, units, own, theirs, kind)
    seen: set[tuple[tuple[str, str], ...]] = set()
    for pairs in options:
        inner = [list(itertools.islice(_within(mine, unit, own, theirs, kind), 200)) for mine, unit in pairs]
        for chosen in itertools.product(*inner):
            made: Mapping_ = {}
            for part in chosen:
                made |= part
            if made and tuple(made.items()) not in seen:
                seen.add(tuple(made.items()))
                yield made


def _units(theirs: Shapes, kind: str) -> list[list[str]]:
    """Their parameters that belong together: a layer and direction, an attention, a linear map, a norm."""
    units: dict[str, list[str]] = {}
    for name in theirs:
        tail = re.search(r"_l\d+(_reverse)?$", name)
        head = re.match(r"(.*?attn)\.", name)
        units.setdefault(
            tail[0]
            if tail
            else head[1]
            if head
            else ""
            if kind != "plain" and _own_unit(name)
            else name.rpartition(".")[0],
            [],
        ).append(name)
    return list(units.values())


def _own_unit(name: str) -> bool:
    return name.startswith(("in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "bias_k", "bias_v"))


def _amounts(unit: Sequence[str], theirs: Shapes, kind: str) -> set[int]:
    """How many numbers a cluster that is this unit may have: biases may be one for two, or not there."""
    whole = sum(math.prod(theirs[name]) for name in unit)
    biases = [math.prod(theirs[name]) for name in unit if "bias" in name]
    if kind == "plain":
        return {whole}
    left_out = (some for count in range(len(biases) + 1) for some in itertools.combinations(biases, count))
    return {whole - sum(some) for some in left_out}


def _clusters(names: list[str], own: Shapes, amounts: Sequence[set[int]]) -> list[list[str]]:
    """Own parameters parted by the beginnings of their names, until there is one part for each unit."""
    if len(amounts) == 1:
        return [names]
    ends = {name: re.search(r"_l\d+(_reverse)?$|(?<=\D)\d+(_reverse)?$", name) for name in names}
    if all(ends.values()):
        by_end: dict[str, list[str]] = {}
        for name, end in ends.items():
            by_end.setdefault(end[0] if end else "", []).append(name)
        if len(by_end) == len(amounts):
            return list(by_end.values())
    anything = set().union(*amounts)

    def parted(part: list[str], depth: int) -> list[list[str]]:
        if depth and sum(math.prod(own[name]) for name in part) in anything:
            return [part]
        below: dict[str, list[str]] = {}
        for name in part:
            below.setdefault(".".join(name.split(".")[: depth + 1]), []).append(name)
        if len(below) == len(part) and all(name in below for name in part):
            return [[name] for name in part]
        return [one for inner in below.values() for one in parted(inner, depth + 1)]

    return parted(names, 0)


def _matched(
    clusters: list[list[str]], units: list[list[str]], own: Shapes, theirs: Shapes, kind: str
) -> list[list[tuple[list[str], list[str]]]]:
    """Ways to pair clusters with units of the same size, in the order in which they stand first."""

    def fits(cluster: Sequence[str], unit: Sequence[str]) -> bool:
        return sum(math.prod(own[name]) for name in cluster) in _amounts(unit, theirs, kind)

    orders = itertools.islice(itertools.permutations(units), 5040)
    paired = (list(zip(clusters, order, strict=True)) for order in orders)
    found = [pairs for pairs in paired if all(fits(cluster, unit) for cluster, unit in pairs)]
    return sorted(found, key=lambda pairs: -sum(_alike(mine, unit) for mine, unit in pairs))[:48]


def _alike(cluster: Sequence[str], unit: Sequence[str]) -> int:
    """How many words the names of both share."""
    return len(_words(" ".join(cluster)) & _words(" ".join(unit)))


def _within(mine: list[str], unit: list[str], own: Shapes, theirs: Shapes, kind: str) -> Iterator[Mapping_]:
    fitting = {name for name in unit if name in mine and own[name] == theirs[name]}
    if len(fitting) == len(mine):
        yield {name: written(name) for name in mine}
    elif kind in ("lstm", "gru"):
        yield from _of_cell(mine, unit, own, theirs, BLOCKS[kind]["weight_ih"])
    elif any("in_proj" in name or "q_proj" in name for name in unit):
        yield from _of_attention(mine, unit, own, theirs)
    else:
        yield from _of_plain(mine, unit, own, theirs)


def _of_plain(mine: list[str], unit: list[str], own: Shapes, theirs: Shapes) -> Iterator[Mapping_]:
    """Each own parameter is one of theirs, or its transpose."""
    choices = []
    for name in mine:
        fitting = []
        for other in sorted(unit, key=lambda other: -_hint(name, "bias" if "bias" in other else "weight")):
            if own[name] == theirs[other]:
                fitting.append((other, written(other)))
            if len(theirs[other]) == 2 and own[name] == theirs[other][::-1]:
                fitting.append((other, f"{written(other)}.T"))
        choices.append(fitting)
    for chosen in itertools.product(*choices):
        if len({other for other, _ in chosen}) == len(chosen):
            yield {name: text for name, (_, text) in zip(mine, chosen, strict=True)}


def _of_cell(mine: list[str], unit: list[str], own: Shapes, theirs: Shapes, labels: str) -> Iterator[Mapping_]:
    """Gates in one matrix or one each, in any order; both inputs side by side; one bias for both."""
    named = {side: next((name for name in unit if name.startswith(side)), "") for side in _SIDES}
    units, width = theirs[named["weight_hh"]][1], theirs[named["weight_ih"]][1]
    count = len(labels)
    columns = {width: ("ih",), units: ("hh",), width + units: ("ih", "hh")}
    found: dict[str, tuple[bool, tuple[str, ...], list[bool]]] = {}
    for name in mine:
        shape = own[name]
        if len(shape) == 1 and shape[0] in (units, count * units):
            found[name] = shape[0] == units, (), [False]
            continue
        if len(shape) != 2:
            return
        ways = [
            (turned, shape[turned] == units, columns[shape[1 - turned]])
            for turned in (False, True)
            if shape[turned] in (units, count * units) and shape[1 - turned] in columns
        ]
        if not ways:
            return
        found[name] = ways[0][1], ways[0][2], [turned for turned, *_ in ways]
    keys = list(dict.fromkeys(_key(name) for name, (single, *_) in found.items() if single))
    if len(keys) not in (0, count):
        return
    orders = list(itertools.permutations(labels))
    if keys:
        orders.sort(key=lambda order: -sum(_hint(key, label) for key, label in zip(keys, order, strict=True)))
    ambiguous = any(len(turned) > 1 for *_, turned in found.values())
    for order, first, swap, turn in itertools.product(orders, ("ih", "hh"), (False, True), (False, True)):
        if turn and not ambiguous:
            continue
        of_key = dict(zip(keys, order, strict=True)) if keys else {}
        biases = [name for name in mine if len(own[name]) == 1]
        per_key: dict[str, list[str]] = {}
        for name in biases:
            per_key.setdefault(_key(name) if keys else "", []).append(name)
        made = {}
        for name, (single, sides, turned) in found.items():
            lie = of_key[_key(name)] if single else "".join(order) if not keys else labels
            if sides:
                sides = sides if first == "ih" else sides[::-1]
                text = " | ".join(_rows(named[f"weight_{side}"], lie, labels) for side in sides)
                is_turned = turned[-1] if turn else turned[0]
                made[name] = f"({text}).T" if is_turned else text
                continue
            together = sorted(per_key[_key(name) if keys else ""], key=lambda one: -_hint(one, "ih") + _hint(one, "hh"))
            both = [named["bias_ih"], named["bias_hh"]]
            if not both[0]:
                return
            if len(together) == 1:
                made[name] = " + ".join(_rows(bias, lie, labels) for bias in both)
            else:
                made[name] = _rows(both[together.index(name) ^ swap], lie, labels)
        yield made


_SIDES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _rows(name: str, lie: str, labels: str) -> str:
    """The parts of a parameter that lie there, in their order."""
    return written(name) if lie == labels else " / ".join(f"{written(name)}[{label}]" for label in lie)


def _of_attention(mine: list[str], unit: list[str], own: Shapes, theirs: Shapes) -> Iterator[Mapping_]:
    """Queries, keys and values in one matrix, two or three; rows by head; the way out."""
    prefix = unit[0].rpartition("in_proj")[0] if "in_proj" in unit[0] else unit[0].rpartition("q_proj")[0]
    packed = f"{prefix}in_proj_weight" in unit
    width = theirs[f"{prefix}out_proj.weight"][0]
    parts = {
        label: f"{written(prefix)}in_proj_weight[{label}]" if packed else f"{written(prefix)}{label}_proj_weight"
        for label in "qkv"
    }
    groups: dict[str, list[str]] = {}
    for name in mine:
        groups.setdefault(_holder(name), []).append(name)
    sizes = {}
    for holder, names in groups.items():
        longest = [max(own[name]) if len(own[name]) == 2 and packed else own[name][0] for name in names]
        sizes[holder] = 3 if 3 * width in longest else 2 if 2 * width in longest else 1
    singles = [holder for holder, size in sizes.items() if size == 1]
    wanted = {(3, 1): "o", (2, 1, 1): "qo", (1, 1, 1, 1): "qkvo"}.get(tuple(sorted(sizes.values(), reverse=True)))
    if wanted is None:
        return
    orders = sorted(
        itertools.permutations(wanted),
        key=lambda order: -sum(_hint(name, label) for name, label in zip(singles, order, strict=True)),
    )
    others = ["".join(lie) for lie in itertools.permutations("qkv")][1:]
    lies = ["qkv", "by_head", *others] if 3 in sizes.values() else [""]
    for order, lie, turn in itertools.product(orders, lies, (False, True)):
        label_of = dict(zip(singles, order, strict=True))
        made = {}
        for holder, names in groups.items():
            label = label_of.get(holder, "kv" if sizes[holder] == 2 else lie)
            for name in names:
                text = _projection(label, prefix, parts, bias=len(own[name]) == 1)
                rows = sizes[holder] * width
                square = len(own[name]) == 2 and own[name][0] == own[name][1]
                turned = len(own[name]) == 2 and (turn if square else own[name][0] != rows)
                made[name] = f"({text}).T" if turned else text
        yield made


def _projection(label: str, prefix: str, parts: Mapping[str, str], *, bias: bool) -> str:
    prefix = written(prefix)
    if label == "o":
        return f"{prefix}out_proj.{'bias' if bias else 'weight'}"
    if label in ("qkv", "by_head") and (bias or "in_proj" in parts["q"]):
        text = f"{prefix}in_proj_{'bias' if bias else 'weight'}"
        return text if label == "qkv" else f"by_head({text})"
    labels = "qkv" if label == "by_head" else label
    return " / ".join(f"{prefix}in_proj_bias[{one}]" if bias else parts[one] for one in labels)


_GENERIC = {
    "weight",
    "bias",
    "proj",
    "projection",
    "linear",
    "to",
    "gate",
    "layer",
    "lin",
    "fc",
    "w",
    "u",
    "b",
    "x",
    "h",
}


def _holder(name: str) -> str:
    """What a weight and its bias share of their names."""
    head, _, last = name.rpartition(".")
    if last in ("weight", "bias"):
        return head
    return re.sub(r"(^|_)(weight|bias|w|b)(_|$)", r"\1\3", name, flags=re.IGNORECASE).strip("_")


def _key(name: str) -> str:
    """What of a name says which gate it is."""
    words = [word for word in re.findall(r"[a-z]+|\d+", name.lower()) if word not in _GENERIC]
    return " ".join(words) or name


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+", text.lower()))


def _hint(name: str, label: str) -> int:
    """How much a name looks like a label."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    return sum(word in _HINTS[label] or word[-1:] == label for word in words) + (name.lower() == label)
