"""What a shipped case is: sizes, inputs, masks, what a layer takes and returns, and its reference formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qkv.check.parity.signature import Roles
from qkv.check.parity.variants import Formula

Sizes = Mapping[str, Any]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One call that both modules have to answer alike.

    Attributes:
        name: what is particular to it.
        inputs: tensors, by name; floating ones are differentiated by.
        given: what else it is called with: masks, lengths.
        training: whether the modules train.
        drops: whether dropout is at work where a module trains.
        real: the positions of an output that are compared, by its name.
    """

    name: str
    inputs: Mapping[str, Tensor]
    given: Mapping[str, Any] = field(default_factory=dict)
    training: bool = False
    drops: bool = True
    real: Mapping[str, Tensor] = field(default_factory=dict)

    def dropped(self, p: float) -> float:
        """The share that is dropped in this trial where a module trains."""
        return p if self.drops else 0.0


class Case:
    """A layer of `torch.nn` as it is checked."""

    name: ClassVar[str]
    reference: ClassVar[type[nn.Module]]
    kind: ClassVar[str] = "plain"
    sizes: ClassVar[Sequence[Sizes]]
    constructor: ClassVar[Roles]
    constructor_orders: ClassVar[Sequence[Sequence[str]]]
    forward: ClassVar[Roles]
    forward_orders: ClassVar[Sequence[Sequence[str]]]
    outputs: ClassVar[Sequence[str]]
    sequences: ClassVar[frozenset[str]] = frozenset()
    masks: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """For each mask the one of its keys' padding, and the input that the keys are."""
    formula: ClassVar[Formula]
    symbols: ClassVar[Mapping[str, str]] = {}
    soft: ClassVar[frozenset[str]] = frozenset({"dropout", "batch_first", "device", "dtype"})

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        """What is asked of both modules."""
        raise NotImplementedError

    def arguments(self, trial: Trial, inputs: State) -> dict[str, Any]:
        """The values of a trial by role, those that go together as tuples too."""
        return {**inputs, **trial.given}

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        """What the formula gives for a trial, by output."""
        raise NotImplementedError

    def sizes_of(self, module: nn.Module) -> Sizes:
        """The arguments that made a module of the reference's class."""
        return {name: getattr(module, name) for name in self.sizes[0]}

    def derived(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs with what else may be returned in their place."""
        return outputs


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def real_positions(lengths: Sequence[int], longest: int) -> Tensor:
    """True at the positions that are no padding."""
    return torch.arange(longest) < torch.tensor(lengths)[:, None]
