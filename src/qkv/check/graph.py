"""What a value is made of: the operations of its graph, by the layers of the model that made them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, once_differentiable

# Kernels that torch can differentiate once: a part of the names of their nodes, what users call them.
_FUSED = {
    "ScaledDotProduct": "scaled_dot_product_attention",
    "MkldnnRnn": "a recurrent layer in oneDNN",
    "CudnnRnn": "a recurrent layer in cuDNN",
    "MiopenRnn": "a recurrent layer in MIOpen",
}
_PIECES = {
    "Abs", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D", "Amax", "Amin", "Clamp", "ClampMax", "ClampMin", "Hardsigmoid",
    "Hardtanh", "LeakyRelu", "Max", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Maximum", "Min", "Minimum",
    "PreluKernel", "Relu", "RreluWithNoise", "Threshold",
}  # fmt: skip

_ONCE = once_differentiable(print).__code__  # what the mark makes of every backward pass


class Graph:
    """Watches a model run, and then knows which of its layers made which node of autograd's graph.

    Args:
        model: whose layers have names; without one, everything is made by none.
    """

    def __init__(self, model: nn.Module | None):
        self.model = model
        self.stack: list[str] = []
        self.made: dict[Any, str] = {}  # nodes, kept alive so that none takes another's place

    @property
    def layer(self) -> str:
        """The path of the layer that runs at the moment."""
        return self.stack[-1] if self.stack else ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follows the layers that run inside the block."""
        with ExitStack() as stack:
            for path, module in self.model.named_modules() if self.model is not None else ():
                before = module.register_forward_pre_hook(partial(self._before, path), with_kwargs=True)
                after = module.register_forward_hook(self._after, always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
            yield
        self.stack.clear()

    def operations(self, output: Tensor) -> dict[str, list[str]]:
        """The operations that `output` was made by, such as `Relu`, each with its layers."""
        self._name(output)
        found: dict[str, dict[str, None]] = {}
        for node, path in self.made.items():
            found.setdefault(_operation(node), {})[path] = None
        return {operation: list(paths) for operation, paths in found.items()}

    def by_hand(self, *, once: bool = False) -> dict[str, list[str]]:
        """The `autograd.Function`s among them, each with its layers; or only those marked to be differentiable `once`.

        torch refuses to differentiate these again, but only where what they were given depends on the parameters too;
        elsewhere it takes their gradient for a constant.
        """
        found: dict[str, dict[str, None]] = {}
        for node, path in self.made.items():
            if isinstance(node, BackwardCFunction) and (not once or _backward(node).__code__ is _ONCE):
                found.setdefault(_operation(node), {})[path] = None
        return {name: list(paths) for name, paths in found.items()}

    def _before(self, path: str, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._name(args, kwargs)  # what comes in was made by whoever calls
        self.stack.append(path)

    def _after(self, module: nn.Module, args: tuple, output: Any) -> None:  # noqa: ARG002
        self._name(output)
        self.stack.pop()

    def _name(self, *values: Any) -> None:
        """Gives the nodes behind `values` to the layer that runs, but for those that belong to one already."""
        waiting = [x.grad_fn for x in _tensors(values)]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in self.made:
                self.made[node] = self.layer
                waiting += [before for before, _ in node.next_functions]


def fused(operations: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Those of `operations` that torch differentiates once only, by the names that users know, with their layers."""
    return {
        told: paths
        for part, told in _FUSED.items()
        if (paths := [path for operation, at in operations.items() if part in operation for path in at])
    }


def pieces(operations: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Those made of linear pieces, whose second derivative is zero on each and does not exist between them."""
    return {_words(operation): paths for operation, paths in operations.items() if operation in _PIECES}


def behind(kernel: str, operations: Mapping[str, list[str]]) -> list[str]:
    """The layers with the operation that a kernel such as `native_group_norm_backward` belongs to."""
    wanted = _letters(kernel)
    return [path for operation, paths in operations.items() if _letters(operation) == wanted for path in paths]


def _operation(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])


def _backward(node: Any) -> Any:
    return node._forward_cls.backward


def _words(operation: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()


def _letters(name: str) -> str:
    return re.sub(r"backward|[^a-z0-9]", "", name.lower())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors inside tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tensors(tuple(getattr(value, field.name) for field in fields(value)))
