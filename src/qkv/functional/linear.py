"""Linear attention: weights `phi(q) . phi(k)`, so that keys and values are summed once and not once a query.

`sum_j w_ij v_j / sum_j w_ij` with `w_ij = phi(q_i) . phi(k_j)` is `phi(q_i) S / phi(q_i) . z`, with
`S = sum_j phi(k_j) v_j^T` and `z = sum_j phi(k_j)` (Katharopoulos et al. 2020, eq. 5): time linear in the length, and a
state (S, z) of fixed size for all that came before. Three ways to the same numbers: all at once, token by token from a
state, and by the weights that the feature map implies. Scores have no scale here: scale the query.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError, unknown_name
from qkv.functional._inputs import check_finite, check_inputs, exact_type
from qkv.functional._naive import naive_attention
from qkv.functional.feature_map import FeatureMap, TaylorFeatures
from qkv.functional.mask import full_mask
from qkv.functional.plain import opened

Vanishing = Literal["raise", "zeros"]

_CHUNK = 128  # rows whose weights among themselves are formed; their features are all that is held of them
_SPAN = 8 * _CHUNK  # rows between the states that are kept for backward
_LEAST_SHARE = 1e-6  # a normaliser that is smaller beside the sum of absolute weights is what rounding left of them


def linear_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    feature_map: FeatureMap,
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
    vanishing: Vanishing = "raise",
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"] | None]:
    """`phi(q) S / phi(q) z`, and the implied weights if asked for (Katharopoulos et al. 2020, eq. 5 and 9).

    Linear in the length without a mask, with one that is the same for all queries (padding), and causal: there a chunk
    of queries reads the state of all keys before it, and weighs the keys of its own chunk one by one. Features are held
    for one chunk at a time; backward computes them anew. Any other mask, or weights, take `linear_attention_weights`.

    Sums are in float32 for half precision and under autocast.

    Args:
        query, key, value: usually `(batch, heads, length, head_dim)`; any leading axes do.
        feature_map: such as `TaylorFeatures(order=2)`.
        mask: True where a query may attend to a key; broadcasts to the weights.
        is_causal: no query sees a key after it; the last query sits at the last key. Adds to `mask`.
        vanishing: what to do about a query whose weights vanish: refuse, or give zeros. They do where they are negative
            in part (`feature_map.signed`) and add up to less than 1e-6 of the sum of their absolute values, and
            where they are too small for the type. Where `|q . k|` is below 1, no Taylor map's do.
        need_weights: also return the weights.

    Raises:
        InputTypeError: tensors that are not floating, a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, weights that vanish.

    >>> from qkv.functional import TaylorFeatures
    >>> query, key, value = torch.zeros(1, 2), torch.ones(2, 2), torch.tensor([[1.0], [3.0]])
    >>> linear_attention(query, key, value, TaylorFeatures(order=2), need_weights=True)
    (tensor([[2.]]), tensor([[0.5000, 0.5000]]))
    """
    check_inputs(query=query, key=key, value=value)
    _require_vanishing(vanishing)
    full_mask(query, key, mask)
    real = _same_for_all_queries(mask)
    short = query.shape[-2] * key.shape[-2] <= _CHUNK**2
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = (x.to(exact_type(query)) for x in (query, key, value))
        if need_weights or short or (mask is not None and real is None) or opened("linear attention"):
            weights = _weights(q, k, feature_map, mask, is_causal, vanishing)
            output = weights @ v
        else:
            weights = None
            output, total = _attend(q, k, v, feature_map, real, is_causal)
            output = _without_vanished(output, total, q, k, feature_map, real, is_causal, vanishing)
    check_finite(output, query=query, key=key, value=value)
    return output.to(value.dtype), weights.to(value.dtype) if weights is not None and need_weights else None


def linear_attention_weights(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    feature_map: FeatureMap,
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
    vanishing: Vanishing = "raise",
) -> Float[Tensor, "*batch queries keys"]:
    """`phi(q_i) . phi(k_j)` over its sum by j: the weights by which `linear_attention` averages the values.

    Args:
        query, key: usually `(batch, heads, length, head_dim)`; any leading axes do.
        feature_map: such as `TaylorFeatures(order=2)`.
        mask: True where a query may attend to a key; broadcasts to the weights.
        is_causal: no query sees a key after it; the last query sits at the last key. Adds to `mask`.
        vanishing: refuse queries whose weights vanish, or give zeros; see `linear_attention`.

    Raises:
        InputTypeError: tensors that are not floating, a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, weights that vanish.

    >>> from qkv.functional import TaylorFeatures
    >>> query, key = torch.ones(1, 1), torch.tensor([[0.0], [2.0]])
    >>> linear_attention_weights(query, key, TaylorFeatures(order=2))  # 1 + 0 + 0 and 1 + 2 + 2
    tensor([[0.1667, 0.8333]])
    """
    check_inputs(query=query, key=key)
    _require_vanishing(vanishing)
    with torch.autocast(query.device.type, enabled=False):
        weights = _weights(
            query.to(exact_type(query)), key.to(exact_type(query)), feature_map, mask, is_causal, vanishing
        )
    check_finite(weights, query=query, key=key)
    return weights.to(query.dtype)


@dataclass(frozen=True)
class LinearState:
    """What linear attention remembers of any number of keys and values.

    Attributes:
        weighted: `S = sum_j phi(k_j) v_j^T`.
        total: `z = sum_j phi(k_j)`.
    """

    weighted: Float[Tensor, "*batch features value_dim"]
    total: Float[Tensor, "*batch features"]

    def add(
        self, features: Float[Tensor, "*batch length features"], value: Float[Tensor, "*batch length value_dim"]
    ) -> "LinearState":
        """The state after these keys, by their features, and their values."""
        return LinearState(self.weighted + features.mT @ value, self.total + features.sum(dim=-2))


def linear_attention_start(
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    feature_map: FeatureMap,
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> LinearState:
    """The state of a prefix to go on from by `linear_attention_step`, or of a memory for `linear_attention_read`.

    The state is in float64: after n single steps in float32 its error would grow like `sqrt(n)`, to 1e-5 at 65,536.

    Args:
        key, value: any number of them; none for a state to start from.
        feature_map: such as `TaylorFeatures(order=2)`.
        mask: True where a key may be attended to, `(..., 1, keys)`.

    Raises:
        InputTypeError: tensors that are not floating, a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or a mask that is not the same for all queries.

    >>> from qkv.functional import TaylorFeatures
    >>> linear_attention_start(torch.ones(3, 1), torch.ones(3, 2), TaylorFeatures(order=1)).total
    tensor([3., 3.], dtype=torch.float64)
    """
    check_inputs(query=key, key=key, value=value)
    full_mask(key[..., :1, :], key, mask)
    with torch.autocast(key.device.type, enabled=False):
        nothing = _nothing(key, value, feature_map, torch.float64)
        state = _sum_up(nothing, key, value, _same_for_all_queries(mask), feature_map)
    check_finite(state.weighted, key=key, value=value)
    return state


def linear_attention_read(
    query: Float[Tensor, "*batch queries head_dim"],
    state: LinearState,
    feature_map: FeatureMap,
    *,
    vanishing: Vanishing = "raise",
) -> Float[Tensor, "*batch queries value_dim"]:
    """`phi(q) S / phi(q) z`: what each query gets from all that the state holds.

    A state holds no single weights, so a normaliser `phi(q) . z` counts as vanished below 1e-6 of the sum of its
    absolute terms.

    Args:
        query: any number of them.
        state: from `linear_attention_start` or `linear_attention_step`.
        feature_map: the one that made the state.
        vanishing: refuse queries whose weights vanish, or give zeros.

    Raises:
        InputTypeError: a query that is not floating.
        InputError: a state of other sizes or of another feature map, NaN or infinity, weights that vanish.

    >>> from qkv.functional import TaylorFeatures
    >>> state = linear_attention_start(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]), TaylorFeatures())
    >>> linear_attention_read(torch.ones(1, 1), state, TaylorFeatures())
    tensor([[2.]])
    """
    check_inputs(query=query, key=query)
    _require_vanishing(vanishing)
    _require_fit("query", query, state, feature_map)
    with torch.autocast(query.device.type, enabled=False):
        features = feature_map.of_queries(query.to(state.total.dtype))
        total = _times(features, state.total)
        if feature_map.may_vanish:
            vanished = _too_little(total, _times(features.abs(), state.total.abs()))
            _refuse(vanished & state.total.any(dim=-1, keepdim=True), vanishing)
            total = total.masked_fill(vanished, torch.inf)
        output = _over(features @ state.weighted, total).to(query.dtype)
    check_finite(output, query=query, key=state.total)
    return output


def linear_attention_step(
    query: Float[Tensor, "*batch 1 head_dim"],
    key: Float[Tensor, "*batch 1 head_dim"],
    value: Float[Tensor, "*batch 1 value_dim"],
    state: LinearState,
    feature_map: FeatureMap,
    *,
    vanishing: Vanishing = "raise",
) -> tuple[Float[Tensor, "*batch 1 value_dim"], LinearState]:
    """One more token of causal `linear_attention`, at a cost that does not grow with those before it.

    Raises:
        InputTypeError: tensors that are not floating.
        InputError: shapes that cannot go together, a state of other sizes or of another feature map, NaN or infinity,
            weights that vanish.

    >>> from qkv.functional import TaylorFeatures, linear_attention_start, linear_attention_step
    >>> nothing = linear_attention_start(torch.ones(0, 1), torch.ones(0, 1), TaylorFeatures())
    >>> output, state = linear_attention_step(*torch.tensor([[[1.0]], [[0.0]], [[5.0]]]), nothing, TaylorFeatures())
    >>> output
    tensor([[5.]])
    """
    check_inputs(query=query, key=key, value=value)
    _require_fit("key", key, state, feature_map)
    with torch.autocast(query.device.type, enabled=False):
        dtype = state.total.dtype
        state = state.add(feature_map(key.to(dtype)), value.to(dtype))
    check_finite(state.weighted, key=key, value=value)
    return linear_attention_read(query, state, feature_map, vanishing=vanishing), state


def naive_linear_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    feature_map: Callable[[Tensor], Tensor],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `linear_attention`: each query's products of features, over their sum."""
    return naive_attention(
        lambda q, keys: feature_map(keys) @ feature_map(q[None])[0],
        query,
        key,
        value,
        full_mask(query, key, mask, is_causal),
    )


# -- by weights ------------------------------------------------------------------------------------------------------


def _weights(query, key, feature_map, mask, is_causal, vanishing) -> Tensor:
    mask = full_mask(query, key, mask, is_causal)
    weights = feature_map.kernel(query, key)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    total = weights.sum(dim=-1)
    if feature_map.may_vanish and key.shape[-2]:
        vanished = _too_little(total, weights.abs().sum(dim=-1) if feature_map.signed else None)
        _refuse(vanished if mask is None else vanished & mask.any(dim=-1), vanishing)
        total = total.masked_fill(vanished, torch.inf)
    return _over(weights, total)


# -- all at once -----------------------------------------------------------------------------------------------------


def _attend(query, key, value, feature_map, real, is_causal) -> tuple[Tensor, Tensor]:
    """Output and normalisers, by whichever implementation serves these inputs best."""
    queries, keys = query.shape[-2], key.shape[-2]
    if is_causal and queries > keys:  # the first queries sit before all keys
        early = queries - keys
        output, total = _attend(query[..., early:, :], key, value, feature_map, real, is_causal)
        return F.pad(output, (0, 0, early, 0)), F.pad(total, (early, 0))
    return _eager(_run)(query, key, value, feature_map, real, keys - queries if is_causal else keys)


def _eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which compiled code is to call as it is: its loop would be unrolled, chunk by chunk."""
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


def _run(query, key, value, feature_map, real, past) -> tuple[Tensor, Tensor]:
    """What was compiled for this feature map and device, loaded when first used; else chunks of plain products."""
    if feature_map == TaylorFeatures(order=2) and real is None and past in (0, key.shape[-2]):
        kernel: Any = None
        if query.is_cuda:
            from qkv.functional import _taylor_triton

            kernel = _taylor_triton.taylor_attention_triton if _taylor_triton.usable(query, value) else None
        else:
            from qkv.functional import _taylor_cpu

            kernel = _taylor_cpu.taylor_attention if _taylor_cpu.usable(query, key, value) else None
        if kernel is not None:
            # No normalisers come back: those of this map never vanish.
            return kernel(query, key, value, is_causal=past == 0), query.new_empty(0)
    return _Chunked.apply(query, key, value, feature_map, real, past)


class _Chunked(torch.autograd.Function):
    """`_walk`, forgetting all features; backward goes over its spans from the last, with the state before each kept."""

    @staticmethod
    @no_type_check
    def forward(ctx: Any, query, key, value, feature_map, real, past):
        output, total = query.new_empty(*query.shape[:-1], value.shape[-1]), query.new_empty(query.shape[:-1])
        states = []
        for rows, state, *found in _walk(query, key, value, feature_map, real, past):
            output[..., rows, :], total[..., rows] = found
            states += [state.weighted, state.total] if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(query, key, value, *states)
        ctx.feature_map, ctx.real, ctx.past = feature_map, real, past
        ctx.mark_non_differentiable(total)
        return output, total

    @staticmethod
    @no_type_check
    def backward(ctx: Any, grad, _):
        query, key, value, *states = ctx.saved_tensors
        inputs, rest = (query, key, value), (ctx.feature_map, ctx.real, ctx.past)
        with torch.autocast(query.device.type, enabled=False):
            if torch.is_grad_enabled():  # to be differentiated again: in the open, with everything held
                output = torch.cat([part for _, _, part, _ in _walk(*inputs, *rest)], dim=-2)
                wanted = [x for x in inputs if x.requires_grad]
                found = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
                gradients = [next(found) if x.requires_grad else None for x in inputs]
            else:
                gradients = _walk_back(*inputs, *rest, states, grad)
        return *gradients, None, None, None


def _walk(query, key, value, feature_map, real, past) -> Iterator[tuple[slice, LinearState, Tensor, Tensor]]:
    """Sums up the first keys, `past` of them, which all queries see; then goes over the queries and the keys beside
    them, if there are more, a span at a time: its rows, the state before it, its output, its normalisers.
    """
    state = _nothing(key, value, feature_map, key.dtype)
    for rows in _spans(past):
        state = _sum_up(state, *_cut(rows, key, value, real), feature_map)
    for rows in _spans(query.shape[-2]):
        beside = _cut(_after(past, rows), key, value, real)
        output, total, after = _span(state, query[..., rows, :], *beside, feature_map)
        yield rows, state, output, total
        state = after


def _walk_back(query, key, value, feature_map, real, past, states, grad) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values. Within a span they are torch's."""
    gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    grad_state = [torch.zeros_like(part) for part in states[:2]]
    for rows in reversed(_spans(query.shape[-2])):
        state = states[2 * (rows.start // _SPAN) :][:2]
        k, v, r = _cut(_after(past, rows), key, value, real)

        def span(q, k, v, weighted, total, r=r):
            output, _, after = _span(LinearState(weighted, total), q, k, v, r, feature_map)
            return output, after.weighted, after.total

        parts = _pull_back(span, (query[..., rows, :], k, v, *state), (grad[..., rows, :], *grad_state))
        places = (rows, _after(past, rows), _after(past, rows))
        for gradient, place, part in zip(gradients, places, parts, strict=False):
            gradient[..., place, :] = part
        grad_state = parts[3:]
    for rows in _spans(past):
        k, v, r = _cut(rows, key, value, real)

        def summed(k, v, r=r):
            state = _sum_up(_nothing(k, v, feature_map, k.dtype), k, v, r, feature_map)
            return state.weighted, state.total

        for gradient, part in zip(gradients[1:], _pull_back(summed, (k, v), grad_state), strict=True):
            gradient[..., rows, :] = part
    return gradients


def _span(state, query, key, value, real, feature_map) -> tuple[Tensor, Tensor, LinearState]:
    """Output, normalisers and the state after these queries, which see the state and, causally, these keys if any."""
    outputs, totals = [], []
    beside = zip(*map(_split, (key, value, real)), strict=False) if key.shape[-2] else repeat(None)
    for q, kept in zip(_split(query), beside, strict=False):
        features = feature_map.of_queries(q)
        output, total = features @ state.weighted, _times(features, state.total)
        if kept is not None:
            k, v, r = kept
            weights = feature_map.kernel(q, k).tril()
            weights = weights if r is None else weights.masked_fill(~r.mT, 0)
            output, total = output + weights @ v, total + weights.sum(dim=-1)
            state = state.add(_features(k, r, feature_map), v)
        outputs.append(_over(output, total))
        totals.append(total)
    return torch.cat(outputs, dim=-2), torch.cat(totals, dim=-1), state


def _sum_up(state, key, value, real, feature_map) -> LinearState:
    """The state after these keys and values, in its own precision."""
    for k, v, r in zip(*map(_split, (key, value, real)), strict=False):
        state = state.add(_features(k.to(state.total.dtype), r, feature_map), v.to(state.total.dtype))
    return state


def _pull_back(function, inputs, cotangents) -> tuple[Tensor, ...]:
    """The gradients of `function` at `inputs`; zeros where it ignores one."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        outputs = function(*inputs)
    return torch.autograd.grad(outputs, inputs, cotangents, materialize_grads=True)


def _nothing(key, value, feature_map, dtype) -> LinearState:
    *batch, _, head_dim = key.shape
    size = feature_map.size(head_dim)
    return LinearState(
        key.new_zeros(*batch, size, value.shape[-1], dtype=dtype), key.new_zeros(*batch, size, dtype=dtype)
    )


def _features(key, real, feature_map) -> Tensor:
    return feature_map(key) if real is None else feature_map(key).masked_fill(~real, 0)


def _spans(length: int) -> list[slice]:
    return [slice(start, min(start + _SPAN, length)) for start in range(0, length, _SPAN)]


def _split(x: Tensor | None) -> Iterable[Tensor | None]:
    return repeat(None) if x is None else x.split(_CHUNK, dim=-2)


def _after(past: int, rows: slice) -> slice:
    return slice(past + rows.start, past + rows.stop)


def _cut(rows: slice, key: Tensor, value: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return key[..., rows, :], value[..., rows, :], None if real is None else real[..., rows, :]


# -- masks, types, and normalisers -----------------------------------------------------------------------------------


def _same_for_all_queries(mask: Tensor | None) -> Tensor | None:
    """Which keys are real, `(..., keys, 1)`, if the mask says the same to all queries."""
    return mask.mT if mask is not None and mask.dim() > 1 and mask.shape[-2] == 1 else None


def _times(features, total) -> Tensor:
    return (features @ total[..., None]).squeeze(-1)


def _over(summed, total) -> Tensor:
    """`summed / total`, row by row; zeros where nothing was added up."""
    nothing = total.abs() < torch.finfo(total.dtype).tiny
    return summed / total.masked_fill(nothing, torch.inf)[..., None]


def _too_little(total, absolute: Tensor | None) -> Tensor:
    """Which normalisers have vanished: beside the sum of absolute weights or, without one, for their type."""
    least = torch.finfo(total.dtype).tiny if absolute is None else _LEAST_SHARE * absolute
    return total.abs() <= least


def _without_vanished(output, total, query, key, feature_map, real, is_causal, vanishing) -> Tensor:
    """`output`, with zeros for queries whose weights have vanished; a refusal if so asked."""
    if not feature_map.may_vanish:
        return output
    with torch.no_grad():
        if feature_map.signed:
            vanished = _cancelled(total, query, key, feature_map, real, is_causal)
        else:
            vanished = _too_little(total, None)
        vanished &= _sees_any(query, key, real, is_causal)
    _refuse(vanished, vanishing)
    return output.masked_fill(vanished[..., None], 0)


def _cancelled(total, query, key, feature_map, real, is_causal) -> Tensor:
    """Which normalisers are below their share of the sum of absolute weights.

    That sum is quadratic in the length. But `|phi(q) . phi(k)| <= |phi(q)| |phi(k)|` bounds it, and it is formed only
    for queries whose normaliser is small beside the bound: commonly none.
    """
    keys = key.shape[-2]
    bound = keys * _norm(query, feature_map) * _norm(key, feature_map).amax(dim=-1, keepdim=True)
    doubtful = _too_little(total, bound)
    vanished = torch.zeros_like(doubtful)
    for rows in doubtful.reshape(-1, query.shape[-2]).any(dim=0).nonzero().flatten().split(_CHUNK):
        weights = feature_map.kernel(query[..., rows, :], key)
        if real is not None:
            weights = weights.masked_fill(~real.mT, 0)
        if is_causal:
            places = rows[:, None] + keys - query.shape[-2]
            weights = weights.masked_fill(torch.arange(keys, device=key.device) > places, 0)
        vanished[..., rows] = _too_little(total[..., rows], weights.abs().sum(dim=-1))
    return vanished


def _norm(x, feature_map) -> Tensor:
    """`|phi(x)|`, by the kernel of each vector with itself."""
    return feature_map.kernel(x[..., None, :], x[..., None, :]).sqrt()[..., 0, 0]


def _sees_any(query, key, real, is_causal) -> Tensor:
    """Whether each query has any key to attend to."""
    queries, keys = query.shape[-2], key.shape[-2]
    first = torch.zeros(1, dtype=torch.int64, device=key.device)
    if real is not None:
        first = torch.where(real.any(dim=-2), real.int().argmax(dim=-2), keys)
    last = torch.arange(queries, device=key.device) + keys - queries if is_causal else keys - 1
    return first <= last


def _refuse(vanished, vanishing) -> None:
    if vanishing == "raise" and bool(vanished.any()):
        row = tuple(vanished.nonzero()[0].tolist())
        raise InputError(
            f"the weights of query {row} add up to nothing",
            expected="a sum of at least 1e-6 of the absolute weights, and in range of the type",
            got=f"{int(vanished.sum())} queries without",
            hint='query and key scaled so that their products stay below 1, an even order, or vanishing="zeros"',
        )


def _require_fit(name, x, state, feature_map) -> None:
    shape = (*x.shape[:-2], feature_map.size(x.shape[-1]))
    if state.total.shape != shape:
        raise InputError(
            f"the state does not fit {name}",
            expected=f"sums over features of shape {tuple(shape)}",
            got=f"{tuple(state.total.shape)}",
            hint="linear_attention_start with the same feature map and batch",
        )


def _require_vanishing(vanishing: str) -> None:
    if vanishing not in ("raise", "zeros"):
        raise unknown_name("vanishing", vanishing, ("raise", "zeros"))
