"""Anyone's code as a loss and its gradients: torch modules and functions, NumPy functions, classes with a backward."""

import copy
import difflib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkv.errors import InputError, InputTypeError, NotFiniteError, QkvError

Arrays = dict[str, np.ndarray]

_OURS = str(Path(__file__).parent)

_HOW = "a function of a dict of arrays that returns (loss, gradients), a torch module or function, or a class with "
_HOW += "`parameters`, `loss` and `backward`"


@dataclass
class Subject:
    """Code whose gradients are checked.

    Attributes:
        parameters: the point that came with the code.
        loss: the loss at other parameters; of a NumPy function also at complex ones.
        gradients: the gradients that the code claims at other parameters. None where it says that there is none.
        eps: what the code rounds to: that of float32 where it cannot be run in float64.
        notes: what a reader should know of how it was run.
    """

    title: str
    parameters: Arrays
    loss: Callable[[Mapping[str, np.ndarray]], Any]
    gradients: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray | None]]
    eps: float = float(np.finfo(np.float64).eps)
    notes: list[str] = field(default_factory=list)
    analytic: bool = False


def subject(thing: Any, arguments: Sequence[Any], title: str) -> Subject:
    """What `thing`, called with `arguments`, has for a loss and gradients.

    Raises:
        InputError, InputTypeError, NotFiniteError: it cannot be called so, or what it returns is no loss or no
            gradients.
    """
    if inspect.isclass(thing) and not issubclass(thing, torch.autograd.Function):
        thing = guarded(title, thing)
    if isinstance(thing, nn.Module):
        return _first_that_runs(lambda exact: _of_module(thing, arguments, title, exact), title)
    if inspect.isclass(thing):
        thing = thing.apply  # pyright: ignore[reportAttributeAccessIssue] - only functions of autograd come here
    if all(hasattr(thing, name) for name in ("parameters", "loss", "backward")):
        return _first_that_runs(lambda exact: _of_class(thing, arguments, title, exact), title)
    if not callable(thing):
        raise InputTypeError(f"{title} cannot be checked", expected=_HOW, got=type(thing).__name__)
    if any(isinstance(argument, Tensor) for argument in arguments):
        return _first_that_runs(lambda exact: _of_tensors(thing, arguments, title, exact), title)
    return _first_that_runs(lambda exact: _of_arrays(thing, arguments, title, exact), title)


def _first_that_runs(made: Callable[[bool], Subject], title: str) -> Subject:
    """The code in float64, or as it came where it does not run so."""
    try:
        found = made(True)
        _require_usable(found)
        return found
    except RaisedError as error:
        found = made(False)
        try:
            _require_usable(found)
        except RaisedError:
            raise error from None
        if found.eps < 1e-10:  # float64 already: then nothing was cast
            raise
        found.notes.append(f"{title} does not run in float64 ({error.problem}), so it is judged as float32 code.")
        return found


def _require_usable(found: Subject) -> None:
    """Calls the code once and looks at what comes back."""
    if not found.parameters:
        raise InputError(f"{found.title} has no parameters to differentiate by", expected="at least one array of them")
    for name, value in found.parameters.items():
        if not np.isfinite(value).all():
            raise NotFiniteError(f"the parameter {name} holds NaN or infinity")
    value = found.loss(found.parameters)
    if not np.isfinite(value):
        raise NotFiniteError(f"{found.title} returns no finite loss", expected="a number", got=f"{value}")
    kinds = set()
    for name, gradient in found.gradients(found.parameters).items():
        if gradient is None:
            continue
        kinds.add(gradient.dtype)
        if gradient.shape != found.parameters[name].shape:
            raise InputError(
                f"the gradient by {name} has another shape than {name}",
                expected=str(found.parameters[name].shape),
                got=str(gradient.shape),
            )
        if not np.isfinite(gradient).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(gradient))[0])
            raise NotFiniteError(f"the gradient by {name} is not finite", got=f"{gradient[index]} at {list(index)}")
    if np.dtype(np.float32) in kinds or np.dtype(np.float16) in kinds:
        found.eps = float(np.finfo(np.float32).eps)


class RaisedError(InputError):
    """An error that the code raised; the file and line are its own."""


def guarded(title: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call of anyone's code returns; its errors become ours, with the place where they arose."""
    try:
        return call(*arguments)
    except QkvError:
        raise
    except (Exception, SystemExit) as error:
        apart = (_OURS, "<")  # "<" begins the names of code that no file holds
        theirs = [
            (frame.filename, frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(apart) and "site-packages" not in frame.filename
        ]
        # There is no line of theirs where a layer of torch refuses its input, or what came back to it.
        path, line = theirs[-1] if theirs else (None, None)
        words = " ".join(str(error).split())
        raise RaisedError(
            f"{title} raises {type(error).__name__}{': ' * bool(words)}{words}", path=path, line=line
        ) from error


# -- NumPy -----------------------------------------------------------------------------------------------------------


def _of_arrays(function: Callable[..., Any], arguments: Sequence[Any], title: str, exact: bool) -> Subject:
    if not arguments or not isinstance(arguments[0], Mapping):
        raise InputTypeError(
            f"{title} came without parameters",
            expected="a dict of arrays as its first argument, or tensors",
            got=f"{type(arguments[0]).__name__}" if arguments else "no argument",
            hint="a function `sample` beside it that returns its arguments",
        )
    given, *rest = arguments
    parameters = {name: _parameter(name, value, exact) for name, value in given.items()}
    where = f"{title}(parameters)"

    def call(at: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        returned = guarded(title, function, {name: value.copy() for name, value in at.items()}, *rest)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise InputTypeError(
                f"{where} returns something else",
                expected="(loss, gradients), a number and a dict of arrays",
                got=_told(returned),
            )
        return returned

    def gradients(at: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        claimed = call(at)[1]
        return _claimed(claimed, at, where)

    return Subject(title, parameters, lambda at: _number(call(at)[0], where), gradients, analytic=True)


def _parameter(name: str, value: Any, exact: bool) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputTypeError(f"the parameter {name} is no array", got=_told(value)) from error
    if not np.issubdtype(array.dtype, np.floating):
        kind = "integers" if np.issubdtype(array.dtype, np.integer) else str(array.dtype)
        raise InputTypeError(
            f"the parameter {name} cannot be differentiated by",
            expected="floating-point numbers",
            got=kind,
            hint="what is no parameter goes into further arguments",
        )
    return array.astype(np.float64) if exact else array.copy()


def _claimed(claimed: Any, parameters: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray | None]:
    """The gradients that came back, by parameter."""
    if not isinstance(claimed, Mapping):
        raise InputTypeError(f"{where} returns no gradients by name", expected="a dict of arrays", got=_told(claimed))
    for name in claimed:
        if name not in parameters:
            folded = {known.lower(): known for known in parameters}
            near = difflib.get_close_matches(str(name).lower(), folded, n=1)
            raise InputError(
                f"{where} returns a gradient by {name!r}, which is no parameter",
                expected=", ".join(parameters),
                hint=folded[near[0]] if near else "",
            )
    found: dict[str, np.ndarray | None] = {}
    for name in parameters:
        gradient = claimed.get(name)
        if gradient is None:
            found[name] = None
            continue
        array = np.asarray(gradient.detach().cpu() if isinstance(gradient, Tensor) else gradient)
        if not np.issubdtype(array.dtype, np.floating):
            raise InputTypeError(
                f"the gradient by {name} holds no floating-point numbers",
                expected="an array of floats",
                got=f"{array.dtype}",
            )
        found[name] = array
    return found


def _number(value: Any, where: str) -> float | complex:
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.size != 1 or not np.issubdtype(array.dtype, np.number):
        raise InputTypeError(f"{where} returns no loss", expected="one number", got=_told(value))
    return complex(array.item()) if np.iscomplexobj(array) else float(array.item())


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "nothing" if value is None else type(value).__name__


# -- classes ---------------------------------------------------------------------------------------------------------


def _of_class(thing: Any, arguments: Sequence[Any], title: str, exact: bool) -> Subject:
    if not isinstance(thing.parameters, Mapping):
        raise InputTypeError(
            f"{title}.parameters is no dict", expected="a dict of arrays by name", got=_told(thing.parameters)
        )
    # Whatever refers to one of the arrays refers to its copy afterwards.
    arrays = {name: _parameter(name, value, exact) for name, value in thing.parameters.items()}
    own = copy.deepcopy(thing, {id(value): arrays[name] for name, value in thing.parameters.items()})
    own.parameters = arrays
    where = f"{title}.backward()"
    takes = len(inspect.signature(own.backward).parameters)

    def put(at: Mapping[str, np.ndarray]) -> None:
        for name, value in at.items():
            arrays[name][...] = value

    def loss(at: Mapping[str, np.ndarray]) -> float | complex:
        put(at)
        return _number(guarded(f"{title}.loss", own.loss, *arguments), f"{title}.loss()")

    def gradients(at: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        loss(at)
        returned = guarded(where, own.backward, *arguments[:takes])
        claimed = getattr(own, "gradients", None) if returned is None else returned
        found = _claimed(claimed, at, where)
        return {name: None if array is None else array.copy() for name, array in found.items()}

    return Subject(title, {name: value.copy() for name, value in arrays.items()}, loss, gradients)


# -- torch -----------------------------------------------------------------------------------------------------------


def _of_module(module: nn.Module, arguments: Sequence[Any], title: str, exact: bool) -> Subject:
    own = copy.deepcopy(module)
    own = own.double() if exact else own
    held = {name: value for name, value in own.named_parameters() if value.requires_grad}
    by_hand = getattr(own, "loss_and_gradients", None)
    if by_hand is not None:
        return _of_hand_written_module(by_hand, held, arguments, title)
    call = getattr(own, "loss", own)
    names = _argument_names(getattr(own, "loss", own.forward), arguments)
    given = _differentiable(arguments, names, exact, required=bool(held))
    return _by_autograd(call, held, given, arguments, title, exact)


def _of_tensors(function: Callable[..., Any], arguments: Sequence[Any], title: str, exact: bool) -> Subject:
    names = _argument_names(function, arguments)
    return _by_autograd(function, {}, _differentiable(arguments, names, exact, required=False), arguments, title, exact)


def _by_autograd(
    call: Callable[..., Any],
    held: dict[str, Any],
    given: dict[int, tuple[str, Tensor]],
    arguments: Sequence[Any],
    title: str,
    exact: bool,
) -> Subject:
    tensors: dict[str, Tensor] = held | dict(given.values())
    passed = [given[place][1] if place in given else _cast(value, exact) for place, value in enumerate(arguments)]
    seen: dict[str, np.ndarray] = {}
    notes: list[str] = []

    def forward(at: Mapping[str, np.ndarray]) -> Tensor:
        _put(tensors, at, seen)
        return _scalar(guarded(title, call, *passed), title, notes)

    def loss(at: Mapping[str, np.ndarray]) -> float:
        with torch.no_grad():
            return float(forward(at))

    def gradients(at: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        with torch.enable_grad():
            value = forward(at)
            if not value.requires_grad:
                return dict.fromkeys(tensors)
            leaves = list(tensors.values())
            found = guarded(title, lambda: torch.autograd.grad(value, leaves, allow_unused=True))
        return {
            name: None if gradient is None else gradient.detach().cpu().numpy().copy()
            for name, gradient in zip(tensors, found, strict=True)
        }

    parameters = {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
    return Subject(title, parameters, loss, gradients, notes=notes)


def _of_hand_written_module(
    by_hand: Callable[..., Any], held: dict[str, Any], arguments: Sequence[Any], title: str
) -> Subject:
    """A module that tells loss and gradients itself, as `train.fit` drives it."""
    seen: dict[str, np.ndarray] = {}
    where = f"{title}.loss_and_gradients()"

    def call(at: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        _put(held, at, seen)
        return guarded(where, by_hand, *arguments)

    def gradients(at: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        return {
            name: None if array is None else array.copy() for name, array in _claimed(call(at)[1], at, where).items()
        }

    parameters = {name: value.detach().cpu().numpy().copy() for name, value in held.items()}
    return Subject(title, parameters, lambda at: _number(call(at)[0], where), gradients)


def _put(tensors: Mapping[str, Tensor], at: Mapping[str, np.ndarray], seen: dict[str, np.ndarray]) -> None:
    """Writes parameters into tensors; the arrays that stand there already are passed over."""
    with torch.no_grad():
        for name, value in at.items():
            if seen.get(name) is not value:
                tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))
                seen[name] = value


def _scalar(output: Any, title: str, notes: list[str]) -> Tensor:
    """The loss; of outputs that are none, their sum with random factors, whose gradient holds all of theirs."""
    if isinstance(output, Tensor) and output.numel() == 1:
        return output.reshape(())
    tensors = [output] if isinstance(output, Tensor) else list(_floats(output))
    if not tensors:
        raise InputTypeError(f"{title} returns no tensor", expected="a loss, or outputs", got=_told(output))
    generator = torch.Generator().manual_seed(0)
    note = "Its outputs are no loss, so their sum with fixed random factors is differentiated."
    if note not in notes:
        notes.append(note)
    sums = [
        (x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)).sum()
        for x in tensors
        if x.is_floating_point()
    ]
    return torch.stack(sums).sum()


def _floats(output: Any) -> Any:
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    for value in values:
        if isinstance(value, Tensor):
            if value.is_floating_point():
                yield value
        else:
            yield from _floats(value)


def _differentiable(
    arguments: Sequence[Any], names: Sequence[str], exact: bool, *, required: bool
) -> dict[int, tuple[str, Tensor]]:
    """The tensors among arguments to differentiate by: those that ask for it, or all of floats where nothing does."""
    floats = {place: x for place, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()}
    asked = {place: x for place, x in floats.items() if x.requires_grad}
    chosen = asked if asked or required else floats
    return {place: (names[place], _cast(x.detach().clone(), exact).requires_grad_(True)) for place, x in chosen.items()}


def _cast(value: Any, exact: bool) -> Any:
    return value.double() if exact and isinstance(value, Tensor) and value.is_floating_point() else value


def _argument_names(function: Callable[..., Any], arguments: Sequence[Any]) -> list[str]:
    try:
        names = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return [*names, *(f"argument {place}" for place in range(len(names), len(arguments)))][: len(arguments)]
