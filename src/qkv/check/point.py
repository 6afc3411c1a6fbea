"""A function of parameters at a point, and its second derivatives along a vector, by whichever way can be gone.

Both ways need what some layers lack: forward mode, or a derivative of the backward pass. So our own forms are opened,
torch's fused kernels are replaced by the operations that they fuse, and a way that still cannot be gone gives place to
the other; what was done is said by the names of layers.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from qkv.check.graph import Graph, behind, fused, pieces
from qkv.errors import InputError, InputTypeError, NotFiniteError, unknown_name
from qkv.functional import in_the_open

Way = Literal["forward", "reverse", "difference"]
Mode = Literal["auto", "forward", "reverse", "difference"]
Parameters = nn.Module | Tensor | Sequence[Tensor]
Vector = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
Tensors = list[Tensor]

WAYS: Mapping[Way, str] = {
    "forward": "forward-over-reverse",
    "reverse": "reverse-over-reverse",
    "difference": "difference of gradients",
}


class Point:
    """A function at its parameters, run once to see what it is made of.

    Args:
        function: of the tensors in `parameters`, or of the module that they are.
        scalar: whether it has to give one number.

    Attributes:
        names, tensors: the parameters.
        value: what the function gives, by plain operations where forms of ours have faster ones.
        size: how many numbers they are.
        unused: the names of those that the function does not depend on.
        said: what was done instead of what the model does, and what the derivatives do not say.

    Raises:
        InputTypeError, InputError, NotFiniteError: parameters, or what comes of them, that cannot be differentiated.
    """

    def __init__(self, function: Callable[..., Tensor], parameters: Parameters, *, scalar: bool = True):
        self.function = function
        self.model = parameters if isinstance(parameters, nn.Module) else None
        self.alone = isinstance(parameters, Tensor)
        named = _named(parameters)
        _check_parameters(named)
        self.names, self.tensors = list(named), [x.detach() for x in named.values()]
        self.size = sum(x.numel() for x in self.tensors)
        self._said: dict[str, None] = {}
        self._look(scalar)

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(self._said)

    def say(self, text: str, *layers: str) -> None:
        """Notes `text`, with the layers that it is about; nothing is noted twice."""
        named = ", ".join(dict.fromkeys(filter(None, layers)))
        self._said[f"{named}: {text}" if named else text] = None

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """The function of `tensors` in place of its parameters."""
        if self.model is None:
            return self.function(*tensors)
        # What a model counts or averages as it runs is written into copies.
        state = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        state |= dict(zip(self.names, tensors, strict=True))
        return functional_call(_Bound(self.model, self.function), {f"model.{name}": x for name, x in state.items()}, ())

    def leaves(self) -> Tensors:
        """The parameters, to be differentiated by."""
        return [x.clone().requires_grad_() for x in self.tensors]

    @contextmanager
    def differentiable(self) -> Iterator[None]:
        """Computes by what can be differentiated twice."""
        with self._steady(), in_the_open(), ExitStack() as stack:
            if "scaled_dot_product_attention" in self._fused:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any("recurrent" in name for name in self._fused):
                for library in (torch.backends.mkldnn, torch.backends.cudnn):
                    stack.enter_context(library.flags(enabled=False, allow_tf32=library.allow_tf32))
            yield

    def product(self, vector: Tensors, order: Sequence[Way]) -> tuple[Tensors, Way]:
        """The second derivative along `vector` by the first of the ways in `order` that can be gone."""
        passes: Mapping[Way, Callable[[Tensors], Tensors]] = {
            "forward": self._forward_over_reverse,
            "reverse": self._reverse_over_reverse,
            "difference": self.difference,
        }
        return self.first(order, lambda way: passes[way](vector))

    def matrix(self, order: Sequence[Way]) -> tuple[Tensor, Way]:
        """The second derivatives along every parameter in turn, as columns."""
        columns = []
        for basis in torch.eye(self.size, dtype=self.tensors[0].dtype, device=self.tensors[0].device):
            column, *order = self.product(self.split(basis), order)  # a way that one product could not go, none can
            columns.append(flat(column))
        return torch.stack(columns, dim=1), order[0]

    def first(self, order: Sequence[Way], go: Callable[[Way], Tensors]) -> tuple[Tensors, Way]:
        """What `go` finds by the first of the ways in `order` that can be gone, and which that was."""
        lacking: list[str] = []
        for way in order:
            if way == "reverse" and self._once:
                lacking.append(f"no {WAYS[way]}, which {_listed(self._once)} does not have")
                continue
            try:
                found = go(way)
            except RuntimeError as error:  # torch's only kind; NotImplementedError is one of it
                lacking.append(f"no {WAYS[way]}, {self._lacking(error)}")
                continue
            self._check_finite(found)
            for told in lacking:
                self.say(f"{told}; {WAYS[way]} instead")
            return found, way
        raise InputError(
            "this cannot be differentiated twice" if len(order) > 1 else "this way cannot be gone",
            expected="operations that can be differentiated twice",
            got="; ".join(lacking),
            hint="mode='difference'" if len(order) > 1 else "mode='auto'",
        )

    def _forward_over_reverse(self, vector: Tensors) -> Tensors:
        with self.differentiable(), moving_forward():
            moving = duals(self.leaves(), vector)
            slopes = [forward_mode.unpack_dual(slope).tangent for slope in gradient(self(moving), moving)]
            return [
                torch.zeros_like(x) if slope is None else slope.detach()
                for x, slope in zip(self.tensors, slopes, strict=True)
            ]

    def _reverse_over_reverse(self, vector: Tensors) -> Tensors:
        leaves = self.leaves()
        with self.differentiable():
            return gradient(inner(gradient(self(leaves), leaves, create_graph=True), vector), leaves)

    def difference(self, vector: Tensors, share: float = 1.0) -> Tensors:
        """The central difference of gradients, by the model's own kernels, over a `share` of the usual step."""
        step = share * difference_step(self.tensors, vector)
        before, after = (
            self.slope([x + move * v for x, v in zip(self.tensors, vector, strict=True)])[1] for move in (-step, step)
        )
        return [(b - a) / (2 * step) for a, b in zip(before, after, strict=True)]

    def slope(self, tensors: Tensors) -> tuple[float, Tensors]:
        """The loss and its gradient as training has them, by the model's own kernels."""
        leaves = [x.detach().clone().requires_grad_() for x in tensors]
        with self._steady():
            made = self(leaves)
            return float(made.detach()), gradient(made, leaves)

    @contextmanager
    def _steady(self) -> Iterator[None]:
        """The same random numbers in every pass, and none of them taken from those that come after."""
        devices = {x.device.index for x in self.tensors if x.is_cuda}
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield

    def _look(self, scalar: bool) -> None:
        """Runs the function once, all but forms of our own as it is, and says what follows from what it is made of."""
        graph, leaves = Graph(self.model), self.leaves()
        opened: dict[str, list[str]] = {}

        def say(form: str) -> None:
            opened.setdefault(form, []).append(graph.layer)

        with self._steady(), graph.watched(), in_the_open(say):
            made = self(leaves)
        _check_output(made, scalar)
        self.value = made.detach()
        self.operations, self.by_hand = graph.operations(made), graph.by_hand()
        self._once = graph.by_hand(once=True)
        self._fused = fused(self.operations)
        for name, layers in (opened | self._fused).items():
            self.say(f"{name} by plain operations", *layers)
        for name, layers in pieces(self.operations).items():
            self.say(f"{name} is made of linear pieces: this is the curvature of those that the point is on", *layers)
        for name, layers in self.by_hand.items():
            self.say(f"the backward pass of {name} is differentiated as it was written", *layers)
        with self._steady():
            used = depends(made, leaves)
        self.unused = [name for name, does in zip(self.names, used, strict=True) if not does]
        for name in self.unused:
            self.say("the loss does not depend on it: zeros", name)

    def _lacking(self, error: RuntimeError) -> str:
        """What an error of torch's says to be missing, with its layer."""
        text = str(error)
        kernel = re.search(r"(?:AD with|derivative for) (?:aten::)?(\w+)", text)
        if kernel:
            return f"which {kernel[1]}{_places(behind(kernel[1], self.operations))} does not have"
        if "autograd.Function" in text:
            return f"which {_listed(self.by_hand)} does not have"
        return f"says torch: {text.partition(chr(10))[0]}"

    # -- structures

    def unpack(self, vector: Vector) -> Tensors:
        """A vector as it was given, as one tensor for each parameter."""
        named = self._named_vector(vector)
        found = []
        for name, x in zip(self.names, self.tensors, strict=True):
            part = named[name]
            if not isinstance(part, Tensor) or not part.is_floating_point():
                kind = str(part.dtype) if isinstance(part, Tensor) else type(part).__name__
                raise InputTypeError(f"vector cannot be used for {name}", expected="a floating tensor", got=kind)
            if part.shape != x.shape:
                raise InputError(
                    f"vector does not fit {name}", expected=f"{tuple(x.shape)}", got=f"{tuple(part.shape)}"
                )
            if not bool(part.isfinite().all()):
                raise NotFiniteError(f"vector is not finite for {name}", expected="numbers")
            found.append(part.detach().to(x))
        return found

    def pack(self, tensors: Tensors) -> Any:
        """One tensor for each parameter, in the form in which vectors are given."""
        if self.model is not None:
            return dict(zip(self.names, tensors, strict=True))
        return tensors[0] if self.alone else tuple(tensors)

    def split(self, flat: Tensor) -> Tensors:
        """All parameters laid end to end, as one tensor for each."""
        parts = flat.split([x.numel() for x in self.tensors])
        return [part.reshape(x.shape).to(x) for part, x in zip(parts, self.tensors, strict=True)]

    def _named_vector(self, vector: Vector) -> Mapping[str, Any]:
        if self.model is not None:
            if isinstance(vector, Mapping) and set(vector) == set(self.names):
                return vector
            raise InputError(
                "vector does not fit the model",
                expected=f"a dictionary with {', '.join(self.names)}",
                got=", ".join(vector) if isinstance(vector, Mapping) else f"a {type(vector).__name__}",
                hint="{name: torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}",
            )
        parts = [vector] if isinstance(vector, Tensor) else list(vector)
        if len(parts) != len(self.names):
            raise InputError(
                "vector does not fit the parameters", expected=f"{len(self.names)} tensors", got=str(len(parts))
            )
        return dict(zip(self.names, parts, strict=True))

    # -- refusals

    def _check_finite(self, value: Tensors) -> None:
        for name, part in zip(self.names, value, strict=True):
            if not bool(part.isfinite().all()):
                raise NotFiniteError(
                    f"the second derivatives by {name} are not finite",
                    expected="a loss that is twice differentiable here",
                    hint="a point a little away; roots and norms have no curvature at zero",
                )


class _Bound(nn.Module):
    """A function of a model, as a module whose parameters can be replaced."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Tensor]):
        super().__init__()
        self.model, self.function = model, function

    def forward(self) -> Tensor:
        return self.function(self.model)


def difference_step(tensors: Sequence[Tensor], vector: Sequence[Tensor]) -> float:
    """How far a central difference goes along `vector`: truncation grows with the square of the step, rounding with
    its inverse, so the cube root of the type's precision, on the scale of the parameters.
    """
    scale = 1 + max(float(x.abs().max()) for x in tensors if x.numel())
    length = max((float(v.abs().max()) for v in vector if v.numel()), default=0.0)
    return torch.finfo(tensors[0].dtype).eps ** (1 / 3) * scale / (length or 1.0)


def ways(mode: Mode, order: Sequence[Way]) -> Sequence[Way]:
    """The ways to try: those of `order`, or the one that is asked for.

    Raises:
        InputError: there is no such way.
    """
    if mode == "auto":
        return order
    if mode not in WAYS:
        raise unknown_name("mode", mode, ("auto", *WAYS))
    return (mode,)


def gradient(
    output: Tensor, inputs: Tensors, cotangent: Tensor | None = None, *, create_graph: bool = False
) -> Tensors:
    """The gradient of `output`, zeros by what it does not depend on."""
    if not output.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(output, inputs, cotangent, create_graph=create_graph, materialize_grads=True))


def depends(output: Tensor, inputs: Tensors) -> list[bool]:
    """Whether `output` was made of each of `inputs`."""
    if not output.requires_grad:
        return [False] * len(inputs)
    found = torch.autograd.grad(output, inputs, torch.ones_like(output), allow_unused=True)
    return [slope is not None for slope in found]


@contextmanager
def moving_forward() -> Iterator[None]:
    """Lets tensors carry tangents, inside the block."""
    with warnings.catch_warnings(), forward_mode.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*deprecated")  # torch's own, of its own formulas
        yield


def duals(tensors: Tensors, vector: Tensors) -> Tensors:
    """`tensors`, carrying `vector` along in forward mode."""
    return [forward_mode.make_dual(x, v) for x, v in zip(tensors, vector, strict=True)]


def inner(first: Tensors, second: Tensors) -> Tensor:
    """The sum of the products of all entries."""
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def flat(tensors: Tensors) -> Tensor:
    """All entries laid end to end."""
    return torch.cat([x.flatten() for x in tensors])


def _listed(operations: Mapping[str, Sequence[str]]) -> str:
    return " or ".join(f"{name}{_places(layers)}" for name, layers in operations.items())


def _places(layers: Sequence[str]) -> str:
    named = ", ".join(filter(None, layers))
    return f" (in {named})" if named else ""


def _named(parameters: Parameters) -> dict[str, Tensor]:
    if isinstance(parameters, nn.Module):
        return {name: x for name, x in parameters.named_parameters() if x.requires_grad}
    parts = (parameters,) if isinstance(parameters, Tensor) else tuple(parameters)
    return {f"argument {place}": x for place, x in enumerate(parts, 1)}


def _check_parameters(named: Mapping[str, Any]) -> None:
    for name, x in named.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise InputTypeError(f"{name} cannot be differentiated by", expected="a floating tensor", got=kind)
        if not bool(x.isfinite().all()):
            raise NotFiniteError(f"{name} is not finite", expected="numbers")
    if not any(x.numel() for x in named.values()):
        raise InputError("there is nothing to differentiate by", expected="a parameter that requires a gradient")


def _check_output(made: Any, scalar: bool) -> None:
    what = "the loss" if scalar else "what outputs returns"
    if not isinstance(made, Tensor) or not made.is_floating_point():
        kind = str(made.dtype) if isinstance(made, Tensor) else type(made).__name__
        hint = "the tensor itself, without .item()" if isinstance(made, int | float) else ""
        raise InputTypeError(f"{what} cannot be differentiated", expected="a floating tensor", got=kind, hint=hint)
    if scalar and made.numel() != 1:
        raise InputError(
            "the loss is not one number", expected="one", got=f"shape {tuple(made.shape)}", hint=".sum() or .mean()"
        )
    if not bool(made.isfinite().all()):
        raise NotFiniteError(f"{what} is not finite", expected="numbers", got=f"{made.detach().flatten()[0].item()}")
