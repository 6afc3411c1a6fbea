"""Curvature: products with the Hessian of a loss, which is never formed; the Hessian itself where it is small.

With `g` the gradient of a loss `L` by its `n` parameters, and `H` its Hessian,

    H v   = d/de g(p + e v) at e = 0      forward-over-reverse: the reverse pass, carried along `v`
    v^T H = d/dp (g(p) . v)               reverse-over-reverse: the gradient of one number (Pearlmutter 1994)

so that either costs a few gradients, and memory for a few, where `H` takes `n` of them. They agree because second
derivatives commute. Where a backward pass written by hand is not the gradient of anything, they do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.autograd.forward_ad as forward_mode
from jaxtyping import Float
from torch import Tensor

from qkv.check.point import (
    Mode,
    Parameters,
    Point,
    Tensors,
    Vector,
    Way,
    duals,
    flat,
    gradient,
    inner,
    moving_forward,
    ways,
)
from qkv.errors import InputError, unknown_name

EXPLICIT_LIMIT = 2048  # parameters whose Hessian is formed: 32 MB in float64


@dataclass(frozen=True)
class Product:
    """What came of a product.

    Attributes:
        value: as the vector was given: a tensor, a tuple, or a dictionary by the names of a module's parameters.
        way: how it was computed.
        said: what was done instead of what the model does, and what the numbers do not say; by the names of layers.
    """

    value: Any
    way: Way
    said: tuple[str, ...]


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a Hessian, the largest first or, of the smallest, the smallest first.

    Attributes:
        vectors: as columns, over all parameters laid end to end.
        residuals: `|H u - value u|` of each.
        products: how many products with `H` it took.
    """

    values: Float[np.ndarray, " count"]
    vectors: Float[np.ndarray, "n count"]
    residuals: Float[np.ndarray, " count"]
    products: int
    way: Way
    said: tuple[str, ...]


def hessian_vector(
    loss: Callable[..., Tensor], parameters: Parameters, vector: Vector, *, mode: Mode = "auto"
) -> Product:
    """`H v`, with `H` the Hessian of `loss` at `parameters` (Pearlmutter 1994; Baydin et al. 2018, section 3.2).

    Layers that have no second derivatives or no forward mode are computed by their plain formulas, and if that does not
    do, by the other way: `said` tells of both. Random numbers, such as dropout's, are the same in every pass.

    Args:
        loss: gives one number, of the tensors in `parameters` as its arguments or, where that is a module, of the
            module: `lambda model: model.loss(batch)`.
        parameters: where: a module (all of its parameters that require a gradient), a tensor or several.
        vector: a tensor for each parameter, of its shape; by name where `parameters` is a module.
        mode: `forward` (over reverse), `reverse` (over reverse), `difference` (of gradients, central: a witness who
            knows neither, and takes the model's own kernels), or `auto`: forward, else reverse.

    Raises:
        InputTypeError: a loss that is no tensor, parameters or a vector that are not floating.
        InputError: a loss of more than one number, shapes that do not fit, a loss that cannot be differentiated twice.
        NotFiniteError: NaN or infinity in the loss, the vector or the product.

    >>> v = torch.tensor([4.0, 2.0, 1.0])
    >>> x, y = torch.zeros(3), torch.tensor([2.0, 2.0, 1.0])
    >>> product = hessian_vector(lambda x: (v @ x) ** 2 / 2, x, y)
    >>> product.value, product.way
    (tensor([52., 26., 13.]), 'forward')
    """
    return _product(loss, parameters, vector, mode, ("forward", "reverse"))


def vector_hessian(
    loss: Callable[..., Tensor], parameters: Parameters, vector: Vector, *, mode: Mode = "auto"
) -> Product:
    """`v^T H`: as `hessian_vector`, with reverse-over-reverse first, which computes just that.

    `H` is symmetric, so the numbers are those of `H v`; where they are not, some backward pass is wrong.

    >>> v = torch.tensor([3.0, 1.0, 4.0])
    >>> vector_hessian(lambda x: (v @ x) ** 2 / 2, torch.zeros(3), torch.tensor([2.0, 1.0, 3.0])).value
    tensor([57., 19., 76.])
    """
    return _product(loss, parameters, vector, mode, ("reverse", "forward"))


def gauss_newton_vector(
    outputs: Callable[..., Tensor],
    loss: Callable[[Tensor], Tensor],
    parameters: Parameters,
    vector: Vector,
    *,
    mode: Literal["auto", "forward", "reverse"] = "auto",
) -> Product:
    """`J^T H_L J v`, with `J` the Jacobian of the outputs and `H_L` the Hessian of the loss by them (Schraudolph 2002).

    What is left out of `H` is the curvature of the model itself, weighted by the gradient at its outputs: where the
    loss is convex in them, as cross-entropy is in logits, no eigenvalue is negative.

    Args:
        outputs: of the parameters, as `loss` is for `hessian_vector`; one tensor of any shape.
        loss: of the outputs, one number.
        parameters, vector, mode: as for `hessian_vector`. `forward` carries `v` along the forward pass; `reverse`
            takes the gradient of `J^T u` by `u`.

    Raises:
        InputTypeError, InputError, NotFiniteError: as `hessian_vector`.

    >>> model = lambda x: x.square()  # J = 2 x, and of the loss z^2 / 2 the Hessian is 1
    >>> gauss_newton_vector(model, lambda z: z.square().sum() / 2, torch.tensor([3.0]), torch.ones(1)).value
    tensor([36.])
    """
    at = Point(outputs, parameters, scalar=False)
    if mode not in ("auto", "forward", "reverse"):
        raise unknown_name("mode", mode, ("auto", "forward", "reverse"))
    along = at.unpack(vector)
    said: list[str] = []

    def go(way: Way) -> Tensors:
        leaves = at.leaves()
        with at.differentiable():
            if way == "forward":
                with moving_forward():
                    made, moved = forward_mode.unpack_dual(at(duals(leaves, along)))
                    moved = torch.zeros_like(made) if moved is None else moved.detach()
            else:
                made = at(leaves)
                by = torch.zeros_like(made, requires_grad=True)
                (moved,) = gradient(inner(gradient(made, leaves, by, create_graph=True), along), [by])
            outer = Point(loss, made.detach())
            (bent,), _ = outer.product([moved], ("forward", "reverse"))
            said.extend(outer.said)
            return gradient(made, leaves, bent)

    value, way = at.first(ways(mode, ("forward", "reverse")), go)
    return Product(at.pack(value), way, (*at.said, *(told for told in said if told not in at.said)))


def hessian(
    loss: Callable[..., Tensor], parameters: Parameters, *, mode: Mode = "auto", limit: int = EXPLICIT_LIMIT
) -> Product:
    """The Hessian itself, column by column: `n` products, over all parameters laid end to end.

    Args:
        loss, parameters, mode: as for `hessian_vector`.
        limit: the largest `n`; memory grows with `n^2`, time with `n` gradients.

    Raises:
        InputTypeError, NotFiniteError: as `hessian_vector`.
        InputError: as `hessian_vector`, and more parameters than `limit`.

    >>> v = torch.tensor([3.0, 1.0])
    >>> hessian(lambda x: (v @ x) ** 2 / 2, torch.zeros(2)).value
    tensor([[9., 3.],
            [3., 1.]])
    """
    at = Point(loss, parameters)
    if at.size > limit:
        raise InputError(
            f"the Hessian by {at.size:,} parameters is too large to be formed",
            expected=f"at most {limit:,}",
            got=f"{at.size:,}, so {at.size**2:,} entries",
            hint="hessian_vector, which needs no matrix; eigenvalues; or limit=",
        )
    matrix, way = at.matrix(ways(mode, ("forward", "reverse")))
    return Product(matrix, way, at.said)


def eigenvalues(
    loss: Callable[..., Tensor],
    parameters: Parameters,
    count: int = 1,
    *,
    which: Literal["largest", "smallest"] = "largest",
    mode: Mode = "auto",
    seed: int = 0,
) -> Spectrum:
    """The largest eigenvalues of the Hessian, or the smallest, by products alone (implicitly restarted Lanczos).

    A negative one is a direction in which the loss curves down: the point is no minimum.

    Args:
        loss, parameters, mode: as for `hessian_vector`.
        count: how many.
        seed: decides the vector that Lanczos starts from.

    Raises:
        InputTypeError, NotFiniteError: as `hessian_vector`.
        InputError: as `hessian_vector`; fewer parameters than `count`; an iteration that does not come to an end.

    >>> v = torch.tensor([3.0, 1.0, 4.0])
    >>> eigenvalues(lambda x: (v @ x) ** 2 / 2, torch.zeros(3), 2).values.round(3)  # |v|^2 and 0
    array([26.,  0.])
    """
    at = Point(loss, parameters)
    if which not in ("largest", "smallest"):
        raise unknown_name("which", which, ("largest", "smallest"))
    if not 1 <= count <= at.size:
        raise InputError("so many eigenvalues are not there", expected=f"1 to {at.size:,}", got=str(count))
    order, products = ways(mode, ("forward", "reverse")), 0

    def times(x: np.ndarray) -> np.ndarray:
        nonlocal order, products
        product, *order = at.product(at.split(torch.from_numpy(x.reshape(-1))), order)
        products += 1
        return flat(product).double().cpu().numpy()

    start = np.random.default_rng(seed).standard_normal(at.size)
    values, vectors = _lanczos(times, start, count, which, accuracy=torch.finfo(at.tensors[0].dtype).eps ** 0.5)
    residuals = [float(np.linalg.norm(times(u) - a * u)) for a, u in zip(values, vectors.T, strict=True)]
    return Spectrum(values, vectors, np.array(residuals), products, order[0], at.said)


def _lanczos(
    times: Callable[[np.ndarray], np.ndarray], start: np.ndarray, count: int, which: str, *, accuracy: float
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the symmetric matrix that `times` multiplies by."""
    import scipy.sparse.linalg

    scipy_linalg: Any = scipy.sparse.linalg
    size = len(start)
    if size <= max(2 * count + 1, 20):  # as many products as Lanczos would begin with
        matrix = np.stack([times(basis) for basis in np.eye(size)], axis=1)
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    elif not times(start).any():  # no matrix but zero sends a random vector to zero, and Lanczos cannot start there
        values, vectors = np.zeros(count), np.eye(size, count)
    else:
        matrix = scipy_linalg.LinearOperator((size, size), matvec=times, dtype=np.float64)
        end = "LA" if which == "largest" else "SA"
        try:
            values, vectors = scipy_linalg.eigsh(matrix, count, which=end, v0=start, tol=accuracy)
        except scipy_linalg.ArpackNoConvergence as error:
            raise InputError(
                f"Lanczos did not come to an end: {len(error.eigenvalues)} of {count} eigenvalues were found",
                hint="fewer of them, or float64",
            ) from None
    best = np.argsort(-values if which == "largest" else values)[:count]
    return values[best], vectors[:, best]


def _product(
    loss: Callable[..., Tensor], parameters: Parameters, vector: Vector, mode: Mode, order: Sequence[Way]
) -> Product:
    at = Point(loss, parameters)
    value, way = at.product(at.unpack(vector), ways(mode, order))
    return Product(at.pack(value), way, at.said)
