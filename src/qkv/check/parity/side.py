"""A module of anyone's as one of the two sides: how it is made, what it is called with, what of it is which output."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from qkv.check.parity.case import Case, Sizes, State, Trial
from qkv.check.parity.mapping import BLOCKS, Mapping_, Rows
from qkv.check.parity.signature import Signature
from qkv.check.subject import guarded
from qkv.errors import InputError, InputTypeError

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Ways:
    """What is free in how a module is called.

    Attributes:
        batch_first: whether its sequences have the batch first.
        allows: whether True in its masks means "may be attended to".
        mask: the form of a mask: torch's own, or one for the whole batch, with room for heads or without.
        packed: whether padded sequences are packed.
    """

    batch_first: bool = True
    allows: bool = False
    mask: str = "own"
    packed: bool = True


@dataclass
class Side:
    """A module, made and ready to be called.

    Attributes:
        mapping: its parameters as expressions over the reference's; None while that is not known.
        ways: how it is called; `ways_of` in trials that settle it otherwise.
        layout_known: whether it says itself which axis is the batch.
    """

    title: str
    module: nn.Module
    case: Case | None
    sizes: Sizes
    signature: Signature | None
    mapping: Mapping_ = field(default_factory=dict)
    ways: Ways = field(default_factory=Ways)
    ways_of: dict[str, Ways] = field(default_factory=dict)
    layout_known: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.module.named_parameters()}

    @property
    def renamed(self) -> set[str]:
        """What it takes under another name than torch's, and with a meaning of its own."""
        return (
            set() if self.signature is None else {role for name, role in self.signature.role_of.items() if name != role}
        )

    def takes(self, trial: Trial) -> bool:
        """Whether it can be asked this: it has arguments for all that the trial gives, or one for what it means."""
        if self.case is None or self.signature is None:
            return True
        needed = {name for name in trial.inputs if name not in ("h", "c", "h_0", "c_0")}
        has = self.signature.roles
        if not needed <= has or (len(trial.inputs) > len(needed) and not has & {"hx", "h", "h_0"}):
            return False
        if self.signature.lacks(self.case.arguments(trial, trial.inputs)):
            return False
        for full, (padding, _) in self.case.masks.items():
            numbers = full in trial.given and trial.given[full].dtype != torch.bool
            if full in trial.given and (full not in has or (numbers and full in self.renamed)):
                return False
            if padding in trial.given and not {padding, full} & has:
                return False
        return True

    def run(self, trial: Trial, inputs: State, state: State, expected: Mapping[str, Any] | None = None) -> Outputs:
        """Its outputs by name.

        Args:
            inputs: in the place of the trial's own.
            state: the reference's parameters, from which its own are made.
            expected: the shapes of outputs, by name.

        Raises:
            InputError: it raises, or returns nothing that fits.
        """
        if trial.name in self.ways_of:
            return replace(self, ways=self.ways_of[trial.name], ways_of={}).run(trial, inputs, state, expected)
        self.module.train(trial.training)
        rows = Rows(
            BLOCKS[self.case.kind] if self.case else {}, self.sizes.get("num_heads", self.sizes.get("nhead", 1))
        )
        parameters = {name: rows.value(text, state).contiguous() for name, text in self.mapping.items()}
        if self.case is None or self.signature is None:
            returned = guarded(self.title, lambda: functional_call(self.module, parameters, tuple(inputs.values())))
            return {f"output {k}" if k else "output": value for k, value in enumerate(_flat(returned))}
        values = self._arranged(trial, self.case.arguments(trial, inputs))
        by_place, by_name = self.signature.arguments(values)
        returned = guarded(self.title, lambda: functional_call(self.module, parameters, tuple(by_place), by_name))
        return self._named(returned, trial, expected)

    def _arranged(self, trial: Trial, values: dict[str, Any]) -> dict[str, Any]:
        """The values of a trial as this module wants them."""
        assert self.case is not None
        assert self.signature is not None
        done: dict[int, Tensor] = {}  # what was one tensor stays one
        arranged: dict[str, Any] = {}
        for role, value in values.items():
            if isinstance(value, Tensor) and role in self.case.sequences and not self.ways.batch_first:
                value = done.setdefault(id(value), value.transpose(0, 1))
            arranged[role] = value
        if "lengths" in trial.given and self.ways.packed and not {"lengths", "real"} & self.signature.roles:
            arranged["input"] = pack_padded_sequence(
                arranged["input"], trial.given["lengths"], self.ways.batch_first, enforce_sorted=False
            )
        if self.ways.allows or self.ways.mask != "own":
            for full, (padding, _) in self.case.masks.items():
                arranged |= self._mask(full, padding, arranged, next(iter(trial.inputs.values())).shape[1])
        return arranged

    def _mask(self, full: str, padding: str, given: Mapping[str, Any], queries: int) -> dict[str, Tensor]:
        """Masks of another meaning or form than torch's."""
        assert self.signature is not None
        mask, padded = given.get(full), given.get(padding)
        together = padded is not None and padding not in self.signature.roles
        if together and padded is not None:
            wide = padded[:, None, :].expand(-1, queries, -1)
            mask = wide if mask is None else wide | mask
        found = {}
        if mask is not None:
            if mask.dim() == 2 and self.ways.mask in ("batch", "heads"):
                mask = mask[None]
            mask = mask[:, None] if self.ways.mask == "heads" else mask
            found[full] = ~mask if self.ways.allows and mask.dtype == torch.bool else mask
        if padded is not None and not together:
            found[padding] = ~padded if self.ways.allows else padded
        return found

    def _named(self, returned: Any, trial: Trial, expected: Mapping[str, Any] | None) -> Outputs:
        """What was returned, by name: by shape where shapes are known, else in order."""
        assert self.case is not None
        if isinstance(returned, PackedSequence) or (
            isinstance(returned, tuple) and returned and isinstance(returned[0], PackedSequence)
        ):
            whole = (
                returned if isinstance(returned, tuple) and not isinstance(returned, PackedSequence) else (returned,)
            )
            length = next(iter(trial.inputs.values())).shape[1]
            returned = (pad_packed_sequence(whole[0], self.ways.batch_first, total_length=length)[0], *whole[1:])
        tensors = _flat(returned)
        if not tensors:
            raise InputTypeError(
                f"{self.title} returns no tensor",
                expected=f"{', '.join(self.case.outputs)}",
                got=type(returned).__name__,
            )
        tensors = [one for place, one in enumerate(tensors) if not any(_equal(one, other) for other in tensors[:place])]
        found: Outputs = {}
        for name in self.case.outputs:
            if not tensors:
                break
            if expected is None:
                found[name] = self._turned(name, tensors.pop(0))
                continue
            for one in tensors:
                fitted = _fitted(self._turned(name, one), expected[name].shape)
                if fitted is not None:
                    found[name] = fitted
                    tensors = [other for other in tensors if other is not one]
                    break
        if not found and expected is not None:
            name = self.case.outputs[0]
            of_rank = [one for one in tensors if one.dim() == expected[name].dim()]
            found = {name: of_rank[0]} if of_rank else {}  # of another size: wrong
        if not found and expected is not None:
            wanted = ", ".join(f"{name} {tuple(value.shape)}" for name, value in expected.items())
            raise InputError(
                f"{self.title} returns other shapes",
                expected=wanted,
                got=", ".join(str(tuple(one.shape)) for one in tensors),
                hint="a function in the file that makes a module which returns these",
            )
        if self.told_nothing(trial):  # states at the end have read the padding
            found = {name: value for name, value in found.items() if name in trial.real}
        return self.case.derived(found)

    def told_nothing(self, trial: Trial) -> bool:
        """Whether it is given padding without being told what is."""
        assert self.signature is not None
        ways = self.ways_of.get(trial.name, self.ways)
        return "lengths" in trial.given and not ways.packed and not {"lengths", "real"} & self.signature.roles

    def _turned(self, name: str, value: Tensor) -> Tensor:
        assert self.case is not None
        turns = name in self.case.sequences and not self.ways.batch_first and value.dim() > 2
        return value.transpose(0, 1) if turns else value

    def masks_are_free(self, trial: Trial) -> bool:
        """Whether a mask of this trial goes to an argument of another name than torch's."""
        if self.case is None or self.signature is None:
            return False
        own = self.signature.roles
        return any(
            (full in trial.given and full in self.renamed)
            or (padding in trial.given and (padding in self.renamed or padding not in own))
            for full, (padding, _) in self.case.masks.items()
        )

    def other_ways(self, trial: Trial) -> Iterator["Side"]:
        """This module called in other ways that may be meant."""
        if self.case is None or self.signature is None:
            return
        layouts = (True, False) if self.case.sequences and not self.layout_known else (None,)
        forms = [("own", False)]
        if self.masks_are_free(trial):
            forms = [(form, allows) for allows in (True, False) for form in ("own", "heads", "batch")]
        for layout in layouts:
            for form, allows in forms:
                for packed in (True, False) if "lengths" in trial.given else (self.ways.packed,):
                    first = self.ways.batch_first if layout is None else layout
                    yield replace(self, ways=Ways(first, allows, form, packed), ways_of={})

    def cast(self, dtype: torch.dtype) -> "Side":
        """A copy that computes in this type."""
        return replace(self, module=copy.deepcopy(self.module).to(dtype))


def _flat(value: Any) -> list[Tensor]:
    """The floating tensors in what was returned, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [one for part in value for one in _flat(part)] if isinstance(value, (tuple, list)) else []


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether it is the same output once more, such as h beside (h, c)."""
    return one is other or (one.shape == other.shape and torch.equal(one, other))


def _fitted(value: Tensor, shape: Sequence[int]) -> Tensor | None:
    """The value if it has this shape, but for axes of size 1."""
    if tuple(value.shape) == tuple(shape):
        return value
    if [size for size in value.shape if size > 1] == [size for size in shape if size > 1]:
        return value.reshape(tuple(shape))
    return None


# -- made --------------------------------------------------------------------------------------------------------------


def made(thing: Any, case: Case | None, sizes: dict[str, Any], title: str) -> Side | None:
    """A side of a class, a factory or an instance; None where it cannot be made of these sizes.

    Raises:
        InputError, InputTypeError: it makes no module, raises, or its arguments cannot be told apart.
    """
    if isinstance(thing, nn.Module):
        module = copy.deepcopy(thing)
    elif not callable(thing):
        raise InputTypeError(
            f"{title} is no module", expected="a class, a function or a module", got=type(thing).__name__
        )
    elif case is None:
        module = guarded(title, lambda: thing(**sizes))
    else:
        signature = Signature(thing, case.constructor, case.constructor_orders, f"{title}()", _adapter(case))
        lost = [name for name in sizes if name not in signature.roles and not signature.anything]
        if any(name not in case.soft and not _usual(case, name, sizes[name]) for name in lost):
            return None
        sizes = {name: value for name, value in sizes.items() if name not in lost}
        if "dropout" in lost:
            sizes["dropout"] = 0.0
        usual = _usual_sizes(case)
        sizes |= {role: usual[role] for name in signature.lacks(sizes) if (role := signature.role_of[name]) in usual}
        by_place, by_name = signature.arguments(sizes)
        if signature.anything:
            by_name |= {name: value for name, value in sizes.items() if name not in signature.roles}
        module = guarded(title, lambda: thing(*by_place, **by_name))
    if not isinstance(module, nn.Module):
        raise InputTypeError(f"{title} makes no module", expected="a torch.nn.Module", got=type(module).__name__)
    if case is None:
        return Side(title, module, None, sizes, None)
    own = Signature(_forward(module), case.forward, case.forward_orders, f"{title}.forward", _adapter(case))
    own.part("hx", {"c": "h", "c_0": "h_0"})
    side = Side(title, module, case, sizes, own)
    first = getattr(module, "batch_first", getattr(getattr(module, "self_attn", None), "batch_first", None))
    if not isinstance(first, bool) and "batch_first" in sizes:
        first = bool(sizes["batch_first"])
    if isinstance(first, bool):
        side.ways, side.layout_known = Ways(first), True
    return side


def _usual_sizes(case: Case) -> dict[str, Any]:
    signature = inspect.signature(case.reference.__init__)
    return {name: one.default for name, one in signature.parameters.items() if one.default is not one.empty}


def _forward(module: nn.Module) -> Callable[..., Any]:
    """The forward that says what it takes: one that passes on whatever it gets takes what the one above it does."""
    for kind in type(module).__mro__:
        function = vars(kind).get("forward")
        if inspect.isfunction(function):
            known = inspect.signature(function).parameters.values()
            if not any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in known):
                return partial(function, None)
    return module.forward


def _usual(case: Case, name: str, value: Any) -> bool:
    """Whether an argument has the value that the reference gives it anyway."""
    usual = _usual_sizes(case)
    return name in usual and (usual[name] == value or (usual[name] is None and value is None))


def _adapter(case: Case) -> str:
    sizes = ", ".join(list(case.constructor)[:2])
    return f"a function in the file that makes it as the reference is made: def make({sizes}): return ..."
