"""Causal linear attention on processors by others: second-order Taylor attention as functions of query, key and value.

What they are made of is fetched by whoever runs the comparison; `HOW_TO_GET` says how.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import SubprocessError
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils import cpp_extension

KERNEL = Path("fast-transformers/fast_transformers/causal_product/causal_product_cpu.cpp")
PLAIN = Path("flash-linear-attention/fla/ops/linear_attn/naive.py")
PLAIN_TAYLOR = Path("flash-linear-attention/fla/ops/based/naive.py")
HOW_TO_GET = """The peers lie in one folder, DIR, and building takes g++ and ninja:

    git clone https://github.com/idiap/fast-transformers DIR/fast-transformers
    git clone https://github.com/fla-org/flash-linear-attention DIR/flash-linear-attention
    pip install --target DIR einops
"""

IDIAP, FLA = "idiap causal_dot_product", "fla naive_chunk_based"

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def folded_features(x: Tensor) -> Tensor:
    """`1, x` and each product of two coordinates once: 153 features of 16, whose product is `1 + s + s^2 / 2`.

    The pairs lie r = 0 to 8 places apart on a circle of 16; of those 8 apart half, since the others repeat them.
    Written where they belong: joining them afterwards takes twice as long, and the peers would pay for it.
    """
    width = x.shape[-1]
    half = width // 2
    phi = x.new_empty(*x.shape[:-1], 1 + width + half * width + half)
    one, linear, apart, opposite = phi.split([1, width, half * width, half], dim=-1)
    shifted = torch.cat([x, x], dim=-1).unfold(-1, width, 1)[..., :half, :]
    one.fill_(1)
    linear.copy_(x)
    torch.mul(x[..., None, :], shifted, out=apart.unflatten(-1, (half, width)))
    apart[..., :width] *= 0.5**0.5
    torch.mul(x[..., :half], x[..., half:], out=opposite)
    return phi


def with_ones(value: Tensor) -> Tensor:
    """The values and a column of ones, which comes out as the normaliser: cheaper than a running sum of features."""
    return torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)


def normalised(output: Tensor) -> Tensor:
    return output[..., :-1] / output[..., -1:]


def load_peers(folder: Path, threads: int) -> dict[str, Attention]:
    """The peers by name; exits, and says how to get them, where one is missing or cannot be built."""
    # The kernel may bring a thread pool of its own, whose size is read from the environment when it loads.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.path.append(str(folder))  # for einops
    try:
        plain, plain_taylor = load_file(folder / PLAIN), load_file(folder / PLAIN_TAYLOR)
        kernel: Any = cpp_extension.load(
            "causal_product_cpu",
            [str((folder / KERNEL).resolve(strict=True))],
            extra_cflags=["-O3", "-march=native", "-ffast-math", "-fopenmp"],
            extra_ldflags=["-fopenmp"],
        )
    except (OSError, ImportError, RuntimeError, SubprocessError) as error:
        sys.exit(f"No comparison without its peers: {error}\n\n{HOW_TO_GET}")

    def idiap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        value = with_ones(v)
        output = torch.empty_like(value)
        kernel.causal_dot_product(folded_features(q), folded_features(k), value, output)
        return normalised(output)

    def fla_taylor(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return plain_taylor.naive_chunk_based(q * q.shape[-1] ** 0.5, k, v)  # it scales the query itself

    def fla_linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        by_length = (x.transpose(1, 2) for x in (folded_features(q), folded_features(k), with_ones(v)))
        return normalised(plain.naive_chunk_linear_attn(*by_length, scale=1.0).transpose(1, 2))

    return {IDIAP: idiap, FLA: fla_taylor, "fla naive_chunk_linear_attn": fla_linear}


def load_file(path: Path) -> ModuleType:
    """A module by its file: importing its package would ask for what only GPUs have."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_naive", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
