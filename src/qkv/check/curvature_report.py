"""Whether products with a Hessian are what they should be: the same by every way, and symmetric."""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qkv.check.point import WAYS, Parameters, Point, Tensors, Way, flat, inner
from qkv.check.subject import guarded
from qkv.errors import InputError, InputTypeError, unknown_name
from qkv.types import Claim, Entry, Report, Verdict

_WITNESS = 1e-3  # a difference of gradients is known to so much at best where kinks are near


def agreement(
    loss: Callable[..., Tensor],
    parameters: Parameters,
    *,
    ways: Sequence[str] = ("forward", "reverse", "difference"),
    vectors: int = 3,
    tolerance: float | None = None,
    seed: int = 0,
    title: str = "curvature",
) -> Report:
    """Products with the Hessian along random vectors, by several ways: whether they agree, and `u . H v = v . H u`.

    Forward-over-reverse multiplies by the derivative of the backward pass, reverse-over-reverse by its transpose: they
    agree where the backward pass is the gradient of something. Whether of this loss, the difference of gradients does
    not ask either; that is what `gradients` checks. It tells whether what the kernels of the model compute bends as
    their plain formulas do.

    Args:
        loss, parameters: as for `hessian_vector`.
        ways: those to compare; the first that can be gone is what the others are held to.
        vectors: how many.
        tolerance: the largest relative difference that is none; by default 1e-6 in float64 and 1e-3 in float32. A
            difference of gradients is given a thousandth more, and as much as it differs from that over half its step.
        seed: decides the vectors.

    Raises:
        InputError: as `hessian_vector`; no way or an unknown one, fewer than two vectors, a tolerance that is none, a
            loss that depends on no parameter.

    >>> report = agreement(lambda x: x.sin().sum(), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    >>> [(claim.name, claim.verdict) for claim in report.claims]  # doctest: +NORMALIZE_WHITESPACE
    [('reverse-over-reverse', 'correct'), ('difference of gradients', 'correct'), ('symmetry', 'correct')]
    """
    for way in ways:
        if way not in WAYS:
            raise unknown_name("way", way, WAYS)
    chosen: list[Way] = list(dict.fromkeys(ways))  # pyright: ignore[reportAssignmentType] - those of WAYS, as seen above
    if not chosen:
        raise InputError("no way is named", expected=f"one or more of {', '.join(WAYS)}")
    if vectors < 2:
        raise InputError("too few vectors to compare", expected="2 or more", got=str(vectors))
    if seed < 0:
        raise InputError("seed is too small", expected="0 or more", got=str(seed))
    if tolerance is not None and not 0 < tolerance < 1:
        raise InputError("tolerance cannot be used", expected="between 0 and 1", got=f"{tolerance:g}")
    at = Point(loss, parameters)
    if at.unused == at.names:
        raise InputError(
            f"the loss of {title} does not depend on any of its parameters",
            expected="a loss that autograd can follow back to them",
            got=", ".join(at.names),
            hint="no .detach(), .item() or NumPy on the way",
        )
    exact = tolerance or (1e-6 if torch.finfo(at.tensors[0].dtype).eps < 1e-10 else 1e-3)
    generator = torch.Generator().manual_seed(seed)
    along = [
        [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in at.tensors]
        for _ in range(vectors)
    ]
    found: dict[Way, list[Tensors]] = {}
    missing: dict[Way, str] = {}
    for way in chosen:
        try:
            found[way] = [at.product(vector, (way,))[0] for vector in along]
        except InputError as error:
            missing[way] = error.got
    if not found:
        raise InputError("this cannot be differentiated twice", got="; ".join(missing.values()))
    (first, held), *others = found.items()
    claims = [_compared(at, way, held, products, along, exact) for way, products in others]
    claims += [Claim(WAYS[way], "undecided", 0.0, exact, explanation=told) for way, told in missing.items()]
    claims.append(_symmetry(held, along, exact))
    notes = [f"Held to {WAYS[first]}, along {vectors} random vectors, by {at.size:,} parameters.", *at.said]
    return Report(title, claims, notes)


def as_loss(thing: Any, arguments: Sequence[Any], title: str) -> tuple[Callable[..., Tensor], Parameters]:
    """A torch module or function and what it is called with, as a loss and its parameters, in float64.

    A module is differentiated by its parameters, through its method `loss` where it has one; a function by those of its
    arguments that require a gradient, or by all that are floating where none does.

    Raises:
        InputTypeError: neither of them, or a function without such arguments.
        InputError: it cannot be called so; with the line that raises.

    >>> loss, (x,) = as_loss(lambda x, power: (x**power).sum(), [torch.ones(2), 3], "loss")
    >>> loss(x)
    tensor(2., dtype=torch.float64)
    """
    if inspect.isclass(thing) and issubclass(thing, nn.Module):
        thing = guarded(title, thing)
    given = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments]
    if isinstance(thing, nn.Module):
        model = copy.deepcopy(thing).double()
        guarded(title, lambda: getattr(model, "loss", model)(*given))
        return lambda model: getattr(model, "loss", model)(*given), model
    if not callable(thing):
        raise InputTypeError(
            f"{title} has no curvature", expected="a torch module, or a function of tensors", got=type(thing).__name__
        )
    floats = {place for place, x in enumerate(given) if isinstance(x, Tensor) and x.is_floating_point()}
    places = sorted({place for place in floats if arguments[place].requires_grad} or floats)
    if not places:
        raise InputTypeError(
            f"{title} came without tensors to differentiate by",
            expected="a floating tensor among its arguments",
            got=", ".join(type(x).__name__ for x in arguments) or "no argument",
            hint=f"a function `{title}_sample` beside it that returns its arguments",
        )

    def loss(*tensors: Tensor) -> Any:
        filled = dict(zip(places, tensors, strict=True))
        return thing(*(filled.get(place, x) for place, x in enumerate(given)))

    parameters = [given[place].detach() for place in places]
    guarded(title, lambda: loss(*parameters))
    return loss, parameters


def _compared(
    at: Point, way: Way, held: list[Tensors], products: list[Tensors], along: list[Tensors], exact: float
) -> Claim:
    """Whether `products` are those that `held` is; of a difference, whether it is known well enough to tell."""
    if way != "difference":
        return _judged(at, WAYS[way], held, products, [0.0] * len(held), exact)
    plain, own = float(at.value), at.slope(at.tensors)[0]
    if abs(plain - own) > exact * max(abs(plain), abs(own)):
        told = f"the model's own kernels give a loss of {own:.6g}, their plain formulas {plain:.6g}: random numbers "
        told += "fall otherwise there. In evaluation mode there are none."
        return Claim(WAYS[way], "undecided", 0.0, exact, explanation=told)
    unsure = [
        _relative(flat(at.difference(vector, 0.5)), flat(product))
        for vector, product in zip(along, products, strict=True)
    ]
    return _judged(at, WAYS[way], held, products, unsure, exact + _WITNESS)


def _judged(
    at: Point, name: str, held: list[Tensors], products: list[Tensors], unsure: list[float], tolerance: float
) -> Claim:
    errors = [_relative(flat(a), flat(b)) for a, b in zip(products, held, strict=True)]
    worst = max(range(len(errors)), key=lambda place: errors[place] - 4 * unsure[place])
    verdict: Verdict = "correct" if errors[worst] <= tolerance else "wrong"
    told = ""
    if verdict == "wrong" and errors[worst] <= tolerance + 4 * unsure[worst]:
        verdict = "undecided"
        told = f"it changes by {unsure[worst]:.1e} where its step is halved: there is a kink nearby."
    entry, parameter = _worst_entry(at, held[worst], products[worst])
    return Claim(name, verdict, errors[worst], tolerance, (entry,), "", told, {"parameter": parameter})


def _symmetry(held: list[Tensors], along: list[Tensors], exact: float) -> Claim:
    """`u . H v` against `v . H u` over all pairs, beside the lengths of what is multiplied."""
    errors = []
    for i, u in enumerate(along):
        for j, v in enumerate(along[:i]):
            scale = math.sqrt(float(inner(u, u) * inner(held[j], held[j])))
            errors.append(abs(float(inner(u, held[j]) - inner(v, held[i]))) / (scale or 1.0))
    verdict: Verdict = "correct" if max(errors) <= exact else "wrong"
    told = "" if verdict == "correct" else "A Hessian is symmetric: some backward pass is the gradient of nothing."
    return Claim(
        "symmetry", verdict, max(errors), exact, explanation=told, facts={"parameters": sum(x.numel() for x in held[0])}
    )


def _worst_entry(at: Point, held: Tensors, product: Tensors) -> tuple[Entry, str]:
    """Where two products differ most, and in which parameter."""
    apart = [float((a - b).abs().max()) if a.numel() else 0.0 for a, b in zip(product, held, strict=True)]
    place = apart.index(max(apart))
    a, b = product[place], held[place]
    index = tuple(int(i) for i in torch.unravel_index((a - b).abs().argmax(), a.shape))
    claimed, value = float(a[index]), float(b[index])
    error = abs(claimed - value) / (max(abs(claimed), abs(value)) or 1.0)
    return Entry(index, claimed, value, error), at.names[place]


def _relative(a: Tensor, b: Tensor) -> float:
    """The length of the difference beside that of the longer of the two."""
    return float((a - b).norm()) / (max(float(a.norm()), float(b.norm())) or 1.0)
