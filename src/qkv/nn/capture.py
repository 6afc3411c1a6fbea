"""Attention maps from models that are not ours, seen from outside while they run as they are.

Three things tell what a model attends to: the functions of torch that it calls (`scaled_dot_product_attention`, or a
softmax whose result is multiplied with values), the modules that call them, whose paths become names, and the edges
that graph attention hands to its neighbours. What a call returns is never touched, and neither is the path that torch
takes: its Transformer blocks have a fused path in inference which any watching would close, so there the watch is
lifted, and the block runs once more for its maps.
"""

import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from types import FunctionType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils.weak import WeakTensorKeyDictionary

from qkv import trace
from qkv.errors import InputError, InputTypeError
from qkv.nn.attention import AdditiveAttention, MultiheadAttention
from qkv.nn.forms import AttentionForm
from qkv.nn.kept import Choice, Edges, Scaled, Weights, Whole
from qkv.nn.rnn import LSTMDecoder
from qkv.types import Fact, Step, Trace

_LOOKED_FOR = (
    "a model that calls scaled_dot_product_attention, torch.nn.MultiheadAttention, a softmax over keys whose result is "
    "multiplied with values (matmul, bmm, @, einsum), a GAT layer of torch_geometric, or attention of qkv.nn"
)


@contextmanager
def record(
    model: nn.Module | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    top: int | None = None,
) -> Iterator[Trace]:
    """Records what runs inside the block, in this thread: every `step` of ours, and the attention of any `model`.

    Outputs and random states are those of a run that nobody watches. A nested block records for itself alone. Code
    under `torch.compile` runs eagerly meanwhile, in all threads, so its outputs differ by rounding; `backend` then says
    so. Dropout in training is part of the recorded weights, except where a kernel on a GPU draws it itself.

    Args:
        model: whose attention to record; what runs outside of its modules is not seen. Without a model, only modules
            of `qkv` record themselves.
        layers: module paths to record, such as `"encoder.layer.3"` (and all inside) or `"decoder.*.cross_attn"`.
        heads: which heads, in this order.
        queries: which rows of the maps, by position, in this order.
        top: keep only so many of the largest weights of a row, found without ever holding the whole map.

    Raises:
        InputTypeError: a `model` that is not a module.
        InputError: a traced model; choices that cannot be made; at the end of the block, that nothing was recorded.

    Warns:
        UserWarning: at the end of the block, of attention that could not be recorded beside some that was.

    >>> model = nn.TransformerEncoderLayer(6, nhead=2, batch_first=True).eval()
    >>> with record(model) as recorded, torch.no_grad():
    ...     output = model(torch.randn(1, 5, 6))
    >>> (one,) = recorded.maps()
    >>> one.layer, one.weights.shape, one.obtained
    ('self_attn', torch.Size([2, 5, 5]), 'recomputed')
    """
    choice = Choice((layers,) if isinstance(layers, str) else layers, heads, queries, top)
    if model is None:
        if choice != Choice():
            raise InputError(
                "layers, heads, queries and top choose from a model's attention", hint="record(model, ...)"
            )
        with _instead_of_outer(None), trace.record() as plain:
            yield plain
        return
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            "model cannot be watched", expected="a torch.nn.Module", got=f"a value of type {type(model).__name__}"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "a traced or scripted model cannot be watched: torch.jit runs it out of Python's sight",
            expected="an eager module",
            got=type(model).__name__,
            hint="the module that it was made from",
        )
    capture = _Capture(model, choice)
    with _instead_of_outer(capture), trace.record(capture), _eager, ExitStack() as stack:
        if capture.compiled:  # hooks that fire twice are told apart by their modules
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message=".*global hooks on modules")
        for remove in capture.hooks():
            stack.callback(remove)
        stack.enter_context(capture.watch)
        yield capture
    if not capture.attention():
        raise capture.nothing()
    if capture.missed:
        warnings.warn(f"not recorded: {'; '.join(sorted(capture.missed))}", stacklevel=3)  # past `contextmanager`


# -- what is watched -------------------------------------------------------------------------------------------------

_BLOCKS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
_OWN = (AttentionForm, AdditiveAttention, LSTMDecoder)  # these record themselves
_PRODUCTS = {"matmul", "__matmul__", "bmm", "mm"}
_FOLLOWED = {
    "dropout", "to", "type", "type_as", "float", "half", "bfloat16", "double", "contiguous", "clone", "detach",
    "masked_fill", "nan_to_num", "mul", "__mul__", "__rmul__", "div", "__truediv__", "view", "reshape", "unsqueeze",
    "squeeze", "flatten", "unflatten", "__getitem__",
}  # fmt: skip

# The body of torch's function without its first question, which would send every call back to the watch.
_multi_head_attention_forward = FunctionType(
    F.multi_head_attention_forward.__code__,
    vars(F) | {"has_torch_function": lambda _: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)


class _Watch(TorchFunctionMode):
    """Sees the functions of torch that are called, and hands each one's result on untouched."""

    def __init__(self, capture: "_Capture"):
        super().__init__()
        self.capture = capture

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, capture, name = kwargs or {}, self.capture, getattr(func, "__name__", "")
        if _active.get() is not capture or capture.silent:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            query, key, *_ = args
            with self, capture.heads_of(args[4], kind="self" if query is key else "cross"):
                return _multi_head_attention_forward(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            return capture.fused(func, *args, **kwargs)
        output = func(*args, **kwargs)
        if name == "flex_attention":
            capture.missed.add(f"flex_attention in {capture.path or 'the model'}, which hands out no weights")
        elif name == "softmax":
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if output.dim() > 1 and dim in (-1, output.dim() - 1):
                capture.softmaxes[output] = output.shape
        elif name in _FOLLOWED:
            capture.follow(args[:2], output)
        elif name in _PRODUCTS and len(args) > 1:
            capture.product(args[0], args[1])
        elif name == "einsum" and len(args) == 3 and isinstance(args[0], str):
            capture.einsum(*args)
        return output

    def leave(self) -> bool:
        """Stops watching for a while, unless something else has come to watch since."""
        top = _get_current_function_mode() is self
        if top:
            self.__exit__(None, None, None)
        return top


class _Capture(Trace):
    """A trace that watches a model, and keeps of its attention what was chosen."""

    def __init__(self, model: nn.Module, choice: Choice):
        super().__init__()
        self.model, self.choice = model, choice
        self.paths = {
            module: ".".join(part for part in name.split(".") if part != "_orig_mod")
            for name, module in model.named_modules()
        }
        self.compiled = any(_is_compiled(module) for module in self.paths)
        self.watch = _Watch(self)
        self.stack: list[tuple[str, nn.Module]] = []
        self.softmaxes: Any = WeakTensorKeyDictionary()
        self.heads: tuple[int, Literal["self", "cross"]] | None = None
        self.block: nn.Module | None = None
        self.ran, self.seen, self.missed, self.within = False, set[str](), set[str](), set[str]()

    def hooks(self) -> Iterator[Callable[[], Any]]:
        """Attaches what follows the modules, and gives what removes it.

        Global hooks, since a module's own would close torch's fused paths.
        """
        yield register_module_forward_pre_hook(self._before).remove
        after = register_module_forward_hook(self._after, with_kwargs=True, always_call=True)
        yield after.remove
        yield partial(_global_forward_hooks_with_kwargs.pop, after.id, None)  # `remove` leaves this entry behind
        module: Any
        for module in self.paths:
            if hasattr(module, "register_propagate_forward_pre_hook") and hasattr(module, "edge_updater"):
                yield module.register_propagate_forward_pre_hook(self._propagate).remove

    @property
    def path(self) -> str:
        return self.stack[-1][0] if self.stack else ""

    @property
    def silent(self) -> bool:
        """Whether what runs records itself, or is no part of the model."""
        foreign = bool(self.stack) and self.stack[-1][1] not in self.paths
        return foreign or any(isinstance(module, _OWN) for _, module in self.stack)

    # -- modules

    def _before(self, module: nn.Module, args: tuple) -> None:  # noqa: ARG002
        if _active.get() is not self:
            return
        inside = module in self.paths
        if inside or not self.stack:  # what a module makes for itself on the way is part of it
            self.stack.append((self.paths.get(module, ""), module))
        self.ran |= inside
        if inside and self.block is None and isinstance(module, _BLOCKS) and not module.training and self.watch.leave():
            self.block = module

    def _after(self, module: nn.Module, args: tuple, *rest: Any) -> None:
        if _active.get() is not self:
            return
        if module is self.block:
            self.watch.__enter__()
            if len(rest) == 2:  # after an error there is but one
                self._once_more(module, args, rest[0])
            self.block = None
        if self.stack and self.stack[-1][1] is module:
            self.stack.pop()

    def _once_more(self, block: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """Runs torch's block again, in the open, where it hands out what its fused path does not."""
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if any(x.is_nested for x in tensors):
            self.missed.add(f"nested tensors in {self.path}, whose attention is never in the open")
            return
        devices = {x.device.index for x in tensors if x.is_cuda}
        with torch.no_grad(), torch.random.fork_rng(devices):
            block.forward(*args, **kwargs)

    def _propagate(self, module: nn.Module, inputs: tuple) -> None:
        edge_index, size, given = inputs
        weights, x = given.get("alpha"), given.get("x")
        if _active.get() is not self or weights is None or x is None or not isinstance(edge_index, Tensor):
            return
        sources, targets = (x, x) if isinstance(x, Tensor) else x
        count = len(sources)
        nodes = (size[1] if size and size[1] else count) if targets is None else len(targets)
        source, target = edge_index if getattr(module, "flow", "") != "target_to_source" else edge_index.flip(0)
        weights = weights.detach().reshape(edge_index.shape[1], -1)
        attention = Edges(source, target, weights, (nodes, count))
        kind = "self" if nodes == count else "cross"
        self._take(attention, kind=kind, obtained="captured", backend=type(module).__name__, signed=False)

    # -- functions

    @contextmanager
    def heads_of(self, heads: int, kind: Literal["self", "cross"]) -> Iterator[None]:
        """Knows, inside torch's multi-head attention, how many heads share the batch axis and whom they attend to."""
        outer = self.heads
        self.heads = (heads, kind)
        try:
            yield
        finally:
            self.heads = outer

    def fused(
        self,
        function: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: int | float = 0.0,
        is_causal: bool = False,
        scale: int | float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The result of `scaled_dot_product_attention`; its weights are made from the same arguments."""
        random = torch.get_rng_state() if dropout_p and query.device.type == "cpu" else None
        output = function(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if query.is_nested or key.is_nested:
            self.missed.add(f"nested tensors in {self.path or 'the model'}, whose weights are of several sizes")
            return output
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
            q, k, lead = query.detach(), key.detach(), query.shape[:-2]
            if not enable_gqa:
                lead = torch.broadcast_shapes(lead, k.shape[:-2])
                q, k = (x.expand(*lead, *x.shape[-2:]) for x in (q, k))
            shape = *lead, q.shape[-2], k.shape[-2]
            mask = None if attn_mask is None else _four_axes(attn_mask.detach().expand(shape))
            dropout = None
            if random is not None:  # the same numbers again, and the generator left where the call left it
                with torch.random.fork_rng([]):
                    torch.set_rng_state(random)
                    dropout = _four_axes(F.dropout(q.new_ones(shape), dropout_p))
            full_scale = q.shape[-1] ** -0.5 if scale is None else scale
            attention = Scaled(_four_axes(q), _four_axes(k), mask, is_causal, full_scale, dropout)
            backend = "scaled_dot_product_attention"
            self._take(attention, kind=self._kind(attention), obtained="recomputed", backend=backend, signed=False)
        return output

    def follow(self, inputs: Sequence[Any], output: Any) -> None:
        """Weights that went through dropout, a change of type or of axes are the weights still."""
        for x in inputs:
            if isinstance(x, Tensor) and x in self.softmaxes and isinstance(output, Tensor):
                if output.numel() == x.numel() and output.shape[-1] == x.shape[-1]:
                    self.softmaxes[output] = self.softmaxes[x]
                return

    def product(self, weights: Any, value: Any) -> None:
        """A softmax that is multiplied with values was attention; with parameters, it mixed what was learned."""
        if not isinstance(weights, Tensor) or weights not in self.softmaxes or isinstance(value, nn.Parameter):
            return
        origin, weights = self.softmaxes[weights], weights.detach()
        if origin[-2:] == weights.shape[-2:]:  # batch and heads apart, as where the softmax was taken
            weights = weights.reshape(origin)
        if self.heads is not None and weights.dim() == 3:
            weights = weights.unflatten(0, (-1, self.heads[0]))
        attention = Whole(_four_axes(weights))
        with torch.no_grad():
            self._take(attention, kind=self._kind(attention), obtained="captured", backend="softmax", signed=False)

    def einsum(self, equation: str, first: Any, second: Any) -> None:
        """`product`, written as a sum over the weights' last axis."""
        inputs, _, output = equation.replace(" ", "").partition("->")
        axes = inputs.split(",")
        for weights, value, keys, others in ((first, second, *axes), (second, first, *reversed(axes))):
            if keys and keys[-1] in others and keys[-1] not in output:
                self.product(weights, value)

    def _kind(self, attention: Weights) -> Literal["self", "cross"]:
        """Whom a call attends to, where only lengths and names tell."""
        if self.heads is not None:
            return self.heads[1]
        _, _, queries, keys = attention.shape
        if re.search(r"cross|enc(oder)?_?(dec|att)", self.path.lower()):
            return "cross"
        if queries == keys or "self" in self.path.lower():
            self.within.add(self.path)
        return "self" if self.path in self.within else "cross"  # with a cache, one query attends to all keys so far

    # -- steps

    def add(self, step: Step) -> None:
        """A step of ours: weights are kept as chosen, under the path of the module that has them."""
        path, _, last = step.name.rpartition(".")
        if last != "weights":
            self.steps.append(step)
            return
        if self.stack and isinstance(self.stack[-1][1], MultiheadAttention | AdditiveAttention):
            path = self.path
        self.ran = True
        self._take(Whole(step.value), path, **step.facts)

    def _take(self, attention: Weights, path: str | None = None, **facts: Any) -> None:
        path = self.path if path is None else path
        self.seen.add(path)
        if not self.choice.takes(path):
            return
        if self.block is not None:
            facts |= {"obtained": "recomputed", "backend": f"torch.nn.{type(self.block).__name__}"}
        if self.compiled:
            facts["backend"] += ", eager while recorded"
        with torch.no_grad(), torch._C.DisableTorchFunction():  # hooks, unlike functions, are still watched
            value, kept = self.choice.keep(attention, path, signed=facts["signed"])
        known: dict[str, Fact] = facts
        self.steps.append(Step(f"{path}.weights" if path else "weights", value, known, kept))

    def nothing(self) -> InputError:
        """What to say where nothing was recorded."""
        traced = [path for module, path in self.paths.items() if isinstance(module, torch.jit.ScriptModule)]
        if self.seen:
            return InputError(
                "nothing was recorded",
                expected=f"layers among {', '.join(sorted(path or 'the model itself' for path in self.seen))}",
                got=", ".join(self.choice.layers or ()),
            )
        if not self.ran:
            got, hint = "a block in which it did not run", "model(...) inside the block, in the same thread"
        else:
            got = "; ".join([*sorted(self.missed), *(f"{path}, which torch.jit traced" for path in traced)])
            hint = "attn_implementation='sdpa' or 'eager', where a model has the choice" if self.missed else ""
        return InputError("nothing was recorded", expected=_LOOKED_FOR, got=got, hint=hint)


def _four_axes(x: Tensor) -> Tensor:
    """`(batch, heads, ., .)`: three axes are a batch with one head, more than four a batch over several."""
    match x.dim():
        case 2:
            return x[None, None]
        case 3:
            return x[:, None]
        case _:
            return x.flatten(0, -4)


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


# -- who watches -----------------------------------------------------------------------------------------------------

_active: ContextVar[_Capture | None] = ContextVar("qkv_capture", default=None)


@contextmanager
def _instead_of_outer(capture: _Capture | None) -> Iterator[None]:
    """Lets `capture` watch in this thread, and nobody else: an outer watch would close torch's fused paths."""
    outer = _active.get()
    token = _active.set(capture)
    left = outer is not None and outer.watch.leave()
    try:
        yield
    finally:
        if outer is not None and left:
            outer.watch.__enter__()
        _active.reset(token)


class _Eager:
    """Runs compiled code eagerly while anyone records; torch has one setting for all threads, so blocks are counted."""

    def __init__(self):
        self.lock, self.open, self.stance = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self.lock:
            self.open += 1
            if self.stance is None and "torch._dynamo" in sys.modules:  # else nothing was compiled
                self.stance = torch.compiler.set_stance("force_eager")
                self.stance.__enter__()

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0 and self.stance is not None:
                self.stance.__exit__(None, None, None)
                self.stance = None


_eager = _Eager()
