"""Second-order Taylor attention on a processor, forward and backward: compiled loops around small matrix products.

The weights are `2 (1 + s + s^2 / 2) = (s + 1)^2 + 1` with `s = q . k`: the factor 2 cancels in the normaliser, and what
is left costs two operations. The features behind them, `phi(q) . phi(k) = 2 + 2 s + s^2`, are the squares, the products
of two coordinates, the coordinates and one; the coefficient 2 of all but the squares is with the queries. Features are
made a chunk at a time and never kept, not for the backward pass either; what is carried from chunk to chunk is
`sum_j phi(k_j) v_j^T`, one matrix a head, and `sum_j phi(k_j)`.

Heads run side by side in threads. The products are BLAS's in single precision, called by address so that they can add
to the carried matrix in place. No compiler is needed; what was compiled is kept on disk for the next process.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, no_type_check

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - loads the library whose address is taken
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from threadpoolctl import ThreadpoolController
from torch import Tensor

_SGEMM = get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
_NORMAL, _TRANSPOSED = ord("N"), ord("T")
_TWO, _ONE, _ZERO = np.float32(2), np.float32(1), np.float32(0)


@no_type_check
def compiled(function):
    """Compiled when first called, without the interpreter's lock; kept on disk where a folder can be written."""
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # neither beside the package nor in the user's cache
        return njit(**options)(function)


@no_type_check
@intrinsic
def _sgemm(context, address, trans_a, trans_b, m, n, k, a, lda, b, ldb, beta, c, ldc):  # noqa: ARG001 - typed by it
    """BLAS's `sgemm` at an address: column-major, alpha = 1, everything by reference as Fortran wants it."""
    integer, pointer = types.int64, cgutils.voidptr_t
    signature = types.void(types.intp, *[integer] * 5, a, integer, b, integer, types.float32, c, integer)

    def generate(context, builder, signature, arguments):
        i8, i32 = ir.IntType(8), ir.IntType(32)

        def reference(value):
            slot = cgutils.alloca_once(builder, value.type)
            builder.store(value, slot)
            return slot

        def argument(position):
            value, kind = arguments[position], signature.args[position]
            if isinstance(kind, types.Array):
                return context.make_array(kind)(context, builder, value).data
            if isinstance(kind, types.Float):
                return reference(value)
            return reference(builder.trunc(value, i8 if position in (1, 2) else i32))

        given = [argument(position) for position in range(1, len(arguments))]
        alpha = reference(ir.Constant(ir.FloatType(), 1.0))
        references = [builder.bitcast(value, pointer) for value in (*given[:5], alpha, *given[5:])]
        function = ir.FunctionType(ir.VoidType(), [pointer] * len(references))
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), references)
        return context.get_dummy_value()

    return signature, generate


@no_type_check
@compiled
def _multiply(gemm, a, a_is, b, b_is, rows, inner, columns, into, beta):
    """`into = a b + beta into` for row-major matrices of which only the first rows and columns count."""
    _sgemm(gemm, b_is, a_is, columns, rows, inner, b, b.shape[1], a, a.shape[1], np.float32(beta), into, into.shape[1])


# -- one chunk: positions along the rows, so that every loop runs over neighbours in memory --------------------------


@no_type_check
@compiled
def _transpose(x, rows, columns, into):
    for i in range(rows):
        for c in range(columns):
            into[c, i] = x[i, c]


@no_type_check
@compiled
def _features(x, n, coefficient, phi):
    """Writes the features of `n` positions, the columns of `x`, into the first rows of `phi`."""
    d, row = len(x), 0
    for a in range(d):
        for i in range(n):
            phi[row, i] = x[a, i] * x[a, i]
        row += 1
        for b in range(a + 1, d):
            for i in range(n):
                phi[row, i] = coefficient * x[a, i] * x[b, i]
            row += 1
        for i in range(n):
            phi[row, i] = coefficient * x[a, i]
        row += 1
    for i in range(n):
        phi[row, i] = coefficient


@no_type_check
@compiled
def _features_backward(x, n, coefficient, gradient, sign, common, dx):
    """Adds to `dx` what comes back through `_features` from `gradient[:, i] + sign[i] * common`."""
    d, row = len(x), 0
    for a in range(d):
        for i in range(n):
            dx[a, i] += _TWO * x[a, i] * (gradient[row, i] + sign[i] * common[row])
        row += 1
        for b in range(a + 1, d):
            for i in range(n):
                came = coefficient * (gradient[row, i] + sign[i] * common[row])
                dx[a, i] += came * x[b, i]
                dx[b, i] += came * x[a, i]
            row += 1
        for i in range(n):
            dx[a, i] += coefficient * (gradient[row, i] + sign[i] * common[row])
        row += 1


@no_type_check
@compiled
def _add_rows(phi, n, weights, sums):
    """`sums[f] += sum_i phi[f, i] * weights[i]`."""
    for f in range(len(sums)):
        row_sum = _ZERO
        for i in range(n):
            row_sum += phi[f, i] * weights[i]
        sums[f] += row_sum


@no_type_check
@compiled
def _add_columns(phi, n, sums, total):
    """`total[i] += sum_f phi[f, i] * sums[f]`."""
    for f in range(len(sums)):
        for i in range(n):
            total[i] += phi[f, i] * sums[f]


@no_type_check
@compiled
def _divide(output, total):
    for i in range(len(total)):
        share = _ONE / total[i]
        for c in range(output.shape[1]):
            output[i, c] *= share


@no_type_check
@compiled
def _through_division(d_output, output, total, g, h):
    """Gradients by numerator and normaliser of `output = numerator / total`."""
    for i in range(len(total)):
        share, inner = _ONE / total[i], _ZERO
        for c in range(output.shape[1]):
            g[i, c] = d_output[i, c] * share
            inner += d_output[i, c] * output[i, c]
        h[i] = -inner * share


# -- one head --------------------------------------------------------------------------------------------------------


@no_type_check
@compiled
def _causal_forward(gemm, query, key, value, output, total, chunk):
    """`output[i] = sum_(j <= i) w_ij v_j / total[i]`: each chunk against the state before it and against itself."""
    (length, d), m = query.shape, value.shape[1]
    size = 1 + d + d * (d + 1) // 2
    left = np.empty((size + chunk, chunk), np.float32)  # features of the queries, then weights inside the chunk
    right = np.zeros((size + chunk, m), np.float32)  # the state, then the values of the chunk
    phi = np.empty((size, chunk), np.float32)
    scores = np.empty((chunk, chunk), np.float32)  # key, query
    q, k = np.empty((d, chunk), np.float32), np.empty((d, chunk), np.float32)
    sums, ones = np.zeros(size, np.float32), np.ones(chunk, np.float32)
    total[:] = _ZERO
    for start in range(0, length, chunk):
        n = min(chunk, length - start)
        here = slice(start, start + n)
        v, sum_here = value[here], total[here]
        _transpose(query[here], n, d, q)
        _transpose(key[here], n, d, k)
        _features(q, n, _TWO, left)
        _add_columns(left, n, sums, sum_here)
        _multiply(gemm, k, _TRANSPOSED, q, _NORMAL, n, d, n, scores, 0)
        for j in range(n):
            for i in range(j):
                left[size + j, i] = _ZERO
            for i in range(j, n):
                weight = (scores[j, i] + _ONE) * (scores[j, i] + _ONE) + _ONE
                left[size + j, i] = weight
                sum_here[i] += weight
            for c in range(m):
                right[size + j, c] = v[j, c]
        _multiply(gemm, left, _TRANSPOSED, right, _NORMAL, n, size + n, m, output[here], 0)
        _divide(output[here], sum_here)
        _features(k, n, _ONE, phi)
        _multiply(gemm, phi, _NORMAL, v, _NORMAL, size, n, m, right, 1)
        _add_rows(phi, n, ones, sums)


@no_type_check
@compiled
def _causal_backward(gemm, query, key, value, output, total, d_output, d_query, d_key, d_value, chunk):
    """Queries from the first chunk on, with the state before each; then keys and values from the last chunk back."""
    (length, d), m = query.shape, value.shape[1]
    size = 1 + d + d * (d + 1) // 2
    left = np.empty((size + chunk, chunk), np.float32)
    right = np.zeros((size + chunk, m), np.float32)
    came = np.empty((size + chunk, chunk), np.float32)  # gradients by features, then by weights inside the chunk
    phi = np.empty((size, chunk), np.float32)
    scores, d_scores = np.empty((chunk, chunk), np.float32), np.empty((chunk, chunk), np.float32)
    q, k, dx = np.empty((d, chunk), np.float32), np.empty((d, chunk), np.float32), np.empty((d, chunk), np.float32)
    g, h, ones = np.empty((chunk, m), np.float32), np.empty(chunk, np.float32), np.ones(chunk, np.float32)
    across = np.empty((m, chunk), np.float32)
    sums = np.zeros(size, np.float32)
    for start in range(0, length, chunk):
        n = min(chunk, length - start)
        here = slice(start, start + n)
        v = value[here]
        _transpose(query[here], n, d, q)
        _transpose(key[here], n, d, k)
        _through_division(d_output[here], output[here], total[here], g, h)
        _transpose(g, n, m, across)
        right[size : size + n] = v
        _multiply(gemm, right, _NORMAL, across, _NORMAL, size + n, m, n, came, 0)
        _multiply(gemm, k, _TRANSPOSED, q, _NORMAL, n, d, n, scores, 0)
        for j in range(n):
            for i in range(j):
                d_scores[j, i] = _ZERO
            for i in range(j, n):
                d_scores[j, i] = _TWO * (scores[j, i] + _ONE) * (came[size + j, i] + h[i])
        _multiply(gemm, k, _NORMAL, d_scores, _NORMAL, d, n, n, dx, 0)
        _features_backward(q, n, _TWO, came, h, sums, dx)
        _transpose(dx, d, n, d_query[here])
        _features(k, n, _ONE, phi)
        _multiply(gemm, phi, _NORMAL, v, _NORMAL, size, n, m, right, 1)
        _add_rows(phi, n, ones, sums)

    right[:] = _ZERO
    sums[:] = _ZERO
    for start in range((length - 1) // chunk * chunk, -1, -chunk):
        n = min(chunk, length - start)
        here = slice(start, start + n)
        _transpose(query[here], n, d, q)
        _transpose(key[here], n, d, k)
        _transpose(value[here], n, m, across)
        _through_division(d_output[here], output[here], total[here], g, h)
        right[size : size + n] = g[:n]
        _multiply(gemm, right, _NORMAL, across, _NORMAL, size + n, m, n, came, 0)
        _multiply(gemm, q, _TRANSPOSED, k, _NORMAL, n, d, n, scores, 0)
        for i in range(n):
            for j in range(i + 1):
                left[size + i, j] = (scores[i, j] + _ONE) * (scores[i, j] + _ONE) + _ONE
                d_scores[i, j] = _TWO * (scores[i, j] + _ONE) * (came[size + i, j] + h[i])
            for j in range(i + 1, n):
                left[size + i, j] = d_scores[i, j] = _ZERO
        _features(k, n, _ONE, left)
        _multiply(gemm, left, _TRANSPOSED, right, _NORMAL, n, size + n, m, d_value[here], 0)
        _multiply(gemm, q, _NORMAL, d_scores, _NORMAL, d, n, n, dx, 0)
        _features_backward(k, n, _ONE, came, ones, sums, dx)
        _transpose(dx, d, n, d_key[here])
        _features(q, n, _TWO, phi)
        _multiply(gemm, phi, _NORMAL, g, _NORMAL, size, n, m, right, 1)
        _add_rows(phi, n, h, sums)


@no_type_check
@compiled
def _gather(gemm, key, value, state, sums, chunk):
    """`state = sum_j phi(k_j) v_j^T` and `sums = sum_j phi(k_j)`."""
    k, phi = np.empty((key.shape[1], chunk), np.float32), np.empty((len(sums), chunk), np.float32)
    ones = np.ones(chunk, np.float32)
    state[:] = _ZERO
    sums[:] = _ZERO
    for start in range(0, len(key), chunk):
        n = min(chunk, len(key) - start)
        _transpose(key[start : start + n], n, len(k), k)
        _features(k, n, _ONE, phi)
        _multiply(gemm, phi, _NORMAL, value[start : start + n], _NORMAL, len(sums), n, value.shape[1], state, 1)
        _add_rows(phi, n, ones, sums)


@no_type_check
@compiled
def _full_forward(gemm, query, key, value, output, total, chunk):
    """`output[i] = sum_j w_ij v_j / total[i]` over all keys."""
    (length, d), m = query.shape, value.shape[1]
    size = 1 + d + d * (d + 1) // 2
    q, phi = np.empty((d, chunk), np.float32), np.empty((size, chunk), np.float32)
    state, sums = np.empty((size, m), np.float32), np.empty(size, np.float32)
    _gather(gemm, key, value, state, sums, chunk)
    total[:] = _ZERO
    for start in range(0, length, chunk):
        n = min(chunk, length - start)
        here = slice(start, start + n)
        _transpose(query[here], n, d, q)
        _features(q, n, _TWO, phi)
        _add_columns(phi, n, sums, total[here])
        _multiply(gemm, phi, _TRANSPOSED, state, _NORMAL, n, size, m, output[here], 0)
        _divide(output[here], total[here])


@no_type_check
@compiled
def _full_backward(gemm, query, key, value, output, total, d_output, d_query, d_key, d_value, chunk):
    """Queries against the state of all keys, then keys and values against that of all queries' gradients."""
    (length, d), m = query.shape, value.shape[1]
    size = 1 + d + d * (d + 1) // 2
    x, dx = np.empty((d, chunk), np.float32), np.empty((d, chunk), np.float32)
    phi, came = np.empty((size, chunk), np.float32), np.empty((size, chunk), np.float32)
    g, h, ones = np.empty((chunk, m), np.float32), np.empty(chunk, np.float32), np.ones(chunk, np.float32)
    across = np.empty((m, chunk), np.float32)
    state, sums = np.empty((size, m), np.float32), np.empty(size, np.float32)
    back, back_sums = np.zeros((size, m), np.float32), np.zeros(size, np.float32)
    _gather(gemm, key, value, state, sums, chunk)
    for start in range(0, length, chunk):
        n = min(chunk, length - start)
        here = slice(start, start + n)
        _transpose(query[here], n, d, x)
        _through_division(d_output[here], output[here], total[here], g, h)
        _transpose(g, n, m, across)
        _multiply(gemm, state, _NORMAL, across, _NORMAL, size, m, n, came, 0)
        dx[:] = _ZERO
        _features_backward(x, n, _TWO, came, h, sums, dx)
        _transpose(dx, d, n, d_query[here])
        _features(x, n, _TWO, phi)
        _multiply(gemm, phi, _NORMAL, g, _NORMAL, size, n, m, back, 1)
        _add_rows(phi, n, h, back_sums)
    for start in range(0, len(key), chunk):
        n = min(chunk, len(key) - start)
        here = slice(start, start + n)
        _transpose(key[here], n, d, x)
        _transpose(value[here], n, m, across)
        _features(x, n, _ONE, phi)
        _multiply(gemm, phi, _TRANSPOSED, back, _NORMAL, n, size, m, d_value[here], 0)
        _multiply(gemm, back, _NORMAL, across, _NORMAL, size, m, n, came, 0)
        dx[:] = _ZERO
        _features_backward(x, n, _ONE, came, ones, back_sums, dx)
        _transpose(dx, d, n, d_key[here])


# -- heads in threads ------------------------------------------------------------------------------------------------

_blas = ThreadpoolController()
_one_at_a_time = threading.Lock()  # the number of BLAS's threads is the whole process's


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="qkv")


def _each_head(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """Calls `kernel` with the slices of every head, in as many threads as torch has. The third tensor is the value."""
    size, value_dim = _size(tensors[0].shape[-1]), tensors[2].shape[-1]
    # BLAS has a way of its own for products below a million steps: it packs nothing and is twice as fast.
    chunk = 32 if 32 * (size + 32) * value_dim <= 1_000_000 else 128
    arrays = [tensor.numpy() for tensor in tensors]
    with _one_at_a_time, _blas.limit(limits=1, user_api="blas"):
        pool = _pool(os.getpid(), torch.get_num_threads())
        tasks = [pool.submit(kernel, _SGEMM, *head, chunk) for head in zip(*arrays, strict=True)]
        for task in tasks:
            task.result()


def _empty(*shape: int) -> Tensor:
    """Memory from NumPy, which unlike torch asks for huge pages: faults on small ones took a fifth of the time."""
    return torch.from_numpy(np.empty(shape, np.float32))


def _size(head_dim: int) -> int:
    return 1 + head_dim + head_dim * (head_dim + 1) // 2


class _TaylorAttention(torch.autograd.Function):
    @staticmethod
    @no_type_check
    def forward(ctx, query, key, value, is_causal):
        output, total = _empty(*query.shape[:2], value.shape[2]), _empty(*query.shape[:2])
        _each_head(_causal_forward if is_causal else _full_forward, query, key, value, output, total)
        ctx.save_for_backward(query, key, value, output, total)
        ctx.is_causal = is_causal
        return output

    @staticmethod
    @no_type_check
    def backward(ctx, d_output):
        query, key, value, output, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients: through the definition, which autograd knows
            defined = _definition(query, key, value, ctx.is_causal)
            return *torch.autograd.grad(defined, (query, key, value), d_output, create_graph=True), None
        gradients = [_empty(*x.shape) for x in (query, key, value)]
        kernel = _causal_backward if ctx.is_causal else _full_backward
        _each_head(kernel, query, key, value, output, total, d_output.contiguous(), *gradients)
        return *gradients, None


def _definition(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    weights = (query @ key.mT + 1).square() + 1
    weights = weights.tril() if is_causal else weights
    return weights @ value / weights.sum(-1, keepdim=True)


def usable(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether these can go through the kernels: single precision, on a processor, and something there."""
    return (
        all(x.device.type == "cpu" and x.dtype == torch.float32 for x in (query, key, value))
        and min(query.numel(), key.numel(), value.numel()) > 0
    )


def taylor_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries value_dim"]:
    """Linear attention with the second-order Taylor features of `exp(q . k)`.

    Args:
        query, key, value: what `usable` allows; all of the same leading axes.
        is_causal: no query sees a key after it; as many keys as queries.

    >>> taylor_attention(torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([[1.0], [3.0], [8.0]]), is_causal=True)
    tensor([[1.],
            [2.],
            [4.]])
    """
    query_, key_, value_ = (x.reshape(-1, *x.shape[-2:]).contiguous() for x in (query, key, value))
    output: Any = _TaylorAttention.apply(query_, key_, value_, is_causal)
    return output.reshape(*query.shape[:-1], value.shape[-1])
