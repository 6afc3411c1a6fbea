"""Threshold networks: what one decides is proved for all its inputs, or refuted with a counterexample.

The negation of a claim is handed to the solver z3 (de Moura and Bjørner 2008) as a formula over reals or integers.
Where it has no solution, the claim holds for every input; a solution is a counterexample, which is computed again in
rational numbers, without z3, before it is shown. What z3 cannot settle within the limit is undecided.
"""

import ast
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from qkv.check.worksheets.expressions import names, number
from qkv.check.worksheets.syntax import Claim, Domain, Let
from qkv.check.worksheets.values import Exact
from qkv.check.worksheets.verdict import Scope, UnusableError, Verdict
from qkv.errors import InputError, unknown_name

Array = np.ndarray[Any, np.dtype[np.object_]]
Point = dict[str, Array]

_MOST = 10_000  # entries of an array: past it a proof would not end either
_BOUNDS = (0, 1, 2, 3, 5, 10, 100)
_PARTS = (1, 2, 3, 4, 10, 100)
_SHOWN = 3
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_COMBINED: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
}  # fmt: skip
_FUNCTIONS = ("hard_threshold", "step", "indicator", "relu", "abs", "sum", "max", "min", "dot", "concat", "iff")


@dataclass(frozen=True)
class Question:
    """A claim about all values of some variables.

    Attributes:
        claim: the condition that is to hold.
        over: the variables.
        assumptions: under which it is to.
        numbers: names that stand for numbers, such as weights.
        functions: defined in the sheet, such as the network.
    """

    claim: ast.expr
    over: Sequence[Domain]
    assumptions: Sequence[ast.expr] = ()
    numbers: Mapping[str, Array] = field(default_factory=dict)
    functions: Mapping[str, Let] = field(default_factory=dict)


@dataclass(frozen=True)
class Counterexample:
    """Values for which a claim does not hold, and what parts of it come to there."""

    point: Point
    parts: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        """In words.

        >>> at = {"x": np.array([Fraction(1), Fraction(1, 2)], dtype=object)}
        >>> print(Counterexample(at, [("net(x)", "1"), ("the right side", "false")]))
        x = [1, 1/2]: net(x) is 1, the right side is false
        """
        values = ", ".join(f"{name} = {written(value)}" for name, value in self.point.items())
        return ": ".join([values, *[", ".join(f"{part} is {value}" for part, value in self.parts)] * bool(self.parts)])


@dataclass(frozen=True)
class Decision:
    """What became of a question; counterexamples come smallest first."""

    verdict: Literal["proved", "refuted", "undecided"]
    counterexamples: Sequence[Counterexample] = ()
    seconds: float = 0.0
    note: str = ""


def decide(question: Question, limit: float = 10.0) -> Decision:
    """Whether a claim holds for all values of its variables.

    Args:
        limit: seconds of work, after which it is undecided; what a busy machine gives to others is not counted.

    Raises:
        InputError: a claim that is none, or is not piecewise polynomial; z3 is not there.
    """
    z3 = require_z3()
    start = time.thread_time()
    variables = {name: value for domain in question.over for name, value in _variables(z3, domain).items()}
    terms = _Terms(z3, question, variables)
    solver = z3.Solver()
    solver.add(*terms.bounds, *map(terms.condition, question.assumptions), z3.Not(terms.condition(question.claim)))
    search = _Search(z3, solver, variables, start + limit)
    found = search.check()
    if found == z3.unsat:
        return Decision("proved", seconds=time.thread_time() - start)
    if found != z3.sat:
        return Decision("undecided", seconds=time.thread_time() - start, note=f"not settled within {limit:g} s")
    first = search.point()
    search.deadline = min(search.deadline, time.thread_time() + 2.0)
    points = [point for point in [*search.smallest(), first] if fails(question, point)]
    if not points:
        return Decision(
            "undecided", seconds=time.thread_time() - start, note="only a counterexample that is no fraction"
        )
    shown = [Counterexample(point, _parts(question, point)) for point in (points[:-1] or points)[:_SHOWN]]
    return Decision("refuted", shown, time.thread_time() - start)


def fails(question: Question, point: Point) -> bool:
    """Whether the assumptions hold at `point` and the claim does not, in rational numbers."""
    exact = _Exact(question, point)
    return all(map(exact.condition, question.assumptions)) and not exact.condition(question.claim)


def written(value: Any) -> str:
    """Rational numbers as people write them.

    >>> written(np.array([[Fraction(1), Fraction(-1, 2)]], dtype=object))
    '[[1, -1/2]]'
    """
    return f"[{', '.join(map(written, value))}]" if isinstance(value, np.ndarray) and value.ndim else str(value)


def _parts(question: Question, point: Point) -> list[tuple[str, str]]:
    """What the calls of own functions come to at a point, and both sides of `iff`."""
    exact = _Exact(question, point)
    calls = [node for node in ast.walk(question.claim) if isinstance(node, ast.Call)]
    own = {ast.unparse(call): call for call in calls if _called(call) in question.functions}
    told = [(text, written(_alone(exact.value(call)))) for text, call in own.items()]
    if isinstance(question.claim, ast.Call):  # iff, the only one that is a condition
        truths = ["true" if exact.condition(side) else "false" for side in question.claim.args]
        told += zip(("the left side of iff", "the right side"), truths, strict=True)
    return told


def _called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _alone(value: Any) -> Any:
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def require_z3() -> Any:
    """The solver's module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import z3
    except ImportError as error:
        raise InputError("this takes z3, which is not installed", hint="pip install 'qkv[verify]'") from error
    return z3


def _variables(z3: Any, domain: Domain) -> dict[str, Array]:
    """The unknowns of a domain."""
    if domain.kind not in ("R", "Z"):
        raise InputError(f"no proof over every {domain.kind}", expected="variables in R^n or Z^n")
    size = None if domain.size is None else int(number(domain.size)) if isinstance(domain.size, ast.Constant) else 0
    if size is not None and not 0 < size <= 100:
        raise InputError("a proof is over so many numbers as are said", expected="R^n or Z^n, n from 1 to 100")

    def one(name: str) -> Any:
        return z3.Real(name) if domain.kind == "R" else z3.Int(name)

    made: dict[str, Array] = {}
    for name in domain.names:
        entries = one(name) if size is None else [one(f"{name}[{place}]") for place in range(size)]
        made[name] = np.array(entries, dtype=object)
    return made


# -- expressions -----------------------------------------------------------------------------------------------------


class _Meaning(ABC):
    """What expressions mean, in numbers or in terms of a solver: arrays of objects, and conditions on them."""

    def __init__(self, question: Question, names: Mapping[str, Array]):
        self._functions = question.functions
        self._names = {
            name: self.numbers(np.asarray(array, dtype=object)) for name, array in question.numbers.items()
        } | dict(names)

    @abstractmethod
    def numbers(self, array: Array) -> Array: ...
    @abstractmethod
    def choose(self, condition: Any, then: Any, other: Any) -> Any: ...
    @abstractmethod
    def every(self, conditions: Sequence[Any]) -> Any: ...
    @abstractmethod
    def some(self, conditions: Sequence[Any]) -> Any: ...
    @abstractmethod
    def negate(self, condition: Any) -> Any: ...

    def condition(self, node: ast.expr, names: Mapping[str, Array] | None = None) -> Any:
        """What a comparison, or several with `and`, `or`, `not`, `iff`, says; one of arrays says it of all entries."""
        names = self._names if names is None else names
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                return self.every([self.condition(part, names) for part in parts])
            case ast.BoolOp(op=ast.Or(), values=parts):
                return self.some([self.condition(part, names) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return self.negate(self.condition(part, names))
            case ast.Call(func=ast.Name(id="iff"), args=[left, right]):
                a, b = self.condition(left, names), self.condition(right, names)
                return self.some([self.every([a, b]), self.every([self.negate(a), self.negate(b)])])
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self.value(side, names) for side in (left, *others)]
                steps = zip(ops, sides[:-1], sides[1:], strict=True)
                return self.every([said for op, a, b in steps for said in self._compared(op, a, b, node)])
        raise InputError(f"{ast.unparse(node)} is no condition", expected="a comparison, and, or, not, iff")

    def _compared(self, op: ast.cmpop, left: Array, right: Array, node: ast.expr) -> Iterator[Any]:
        try:
            pairs = np.broadcast(_alone(left), _alone(right))
        except ValueError as error:
            raise InputError(f"shapes do not fit in {ast.unparse(node)}", got=f"{left.shape}, {right.shape}") from error
        yield from (_COMPARED[type(op)](a, b) for a, b in pairs)

    def value(self, node: ast.expr, names: Mapping[str, Array] | None = None) -> Array:
        """The array that an expression stands for."""
        names = self._names if names is None else names
        match node:
            case ast.Constant():
                return self.numbers(np.array(number(node), dtype=object))
            case ast.Name(id=name):
                if name not in names:
                    raise unknown_name("name", name, names)
                return names[name]
            case ast.Attribute(value=inner):
                return self.value(inner, names).T
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return np.asarray(-self.value(inner, names), dtype=object)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.value(inner, names)
            case ast.BinOp(op=ast.Pow(), left=left, right=ast.Constant(value=int() as power)) if 0 < power < 10:
                return np.asarray(reduce(np.multiply, [self.value(left, names)] * power), dtype=object)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMBINED:
                return self._combined(op, self.value(left, names), self.value(right, names), node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) if parts:
                return self._stacked([self.value(part, names) for part in parts], node)
            case ast.Subscript(value=inner, slice=where):
                return self._part(self.value(inner, names), where, node)
            case ast.Call(func=ast.Call(func=ast.Name(id="indicator"), args=bounds), args=[inner]):
                return self._applied("indicator", [self.value(part, names) for part in (inner, *bounds)], node)
            case ast.Call(func=ast.Name(id=name), args=arguments) if not node.keywords:
                return self._applied(name, [self.value(argument, names) for argument in arguments], node)
        raise InputError(f"{ast.unparse(node)} cannot stand in a proof", expected="arithmetic, thresholds, comparisons")

    def _combined(self, op: ast.operator, left: Array, right: Array, node: ast.expr) -> Array:
        try:
            return np.asarray(_COMBINED[type(op)](left, right), dtype=object)
        except ValueError as error:
            raise InputError(f"shapes do not fit in {ast.unparse(node)}", got=f"{left.shape}, {right.shape}") from error
        except ZeroDivisionError as error:
            raise InputError(f"{ast.unparse(node)} divides by zero") from error

    def _stacked(self, parts: list[Array], node: ast.expr) -> Array:
        if len({part.shape for part in parts}) > 1:
            raise InputError(f"rows of other lengths in {ast.unparse(node)}")
        return np.stack(parts)

    def _part(self, whole: Array, where: ast.expr, node: ast.expr) -> Array:
        try:
            return np.asarray(whole[ast.literal_eval(where)], dtype=object)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"{ast.unparse(node)} is not there", got=f"a shape of {whole.shape}") from error

    def _applied(self, name: str, arguments: list[Array], node: ast.expr) -> Array:
        if name in self._functions:
            function = self._functions[name]
            parameters = function.parameters or ()
            if len(parameters) != len(arguments):
                raise InputError(f"{ast.unparse(node)} has {len(arguments)} arguments", expected=", ".join(parameters))
            return self.value(function.value, self._names | dict(zip(parameters, arguments, strict=True)))
        zero, one = (self.numbers(np.array(Fraction(k), dtype=object))[()] for k in (0, 1))
        match name, arguments:
            case "hard_threshold", [z]:
                return _each(lambda a: self.choose(a >= zero, one, zero), z)
            case "step", [z]:
                return _each(lambda a: self.choose(a > zero, one, zero), z)
            case "indicator", [z, low, high]:
                a, b = _alone(low[()]), _alone(high[()])
                return _each(lambda c: self.choose(self.every([a <= c, c <= b]), one, zero), z)
            case "relu", [z]:
                return _each(lambda a: self.choose(a > zero, a, zero), z)
            case "abs", [z]:
                return _each(lambda a: self.choose(a >= zero, a, -a), z)
            case "sum", [z]:
                return np.array(sum(z.reshape(-1), start=zero), dtype=object)
            case "max" | "min", [z] if z.size:
                first, *rest = z.reshape(-1)
                for entry in rest:
                    first = self.choose(entry > first if name == "max" else entry < first, entry, first)
                return np.array(first, dtype=object)
            case "dot", [a, b] if a.shape == b.shape and a.ndim == 1:
                return np.array(a @ b, dtype=object)
            case "concat", [_, *_] if all(part.ndim == 1 for part in arguments):
                return np.concatenate(arguments)
        if name in _FUNCTIONS:
            raise InputError(f"{ast.unparse(node)} has other arguments than {name} takes")
        raise unknown_name("function in a proof", name, [*_FUNCTIONS, *self._functions])


def _each(function: Callable[[Any], Any], array: Array) -> Array:
    made = np.empty(array.shape, dtype=object)
    for place, entry in np.ndenumerate(array):
        made[place] = function(entry)
    return made


class _Exact(_Meaning):
    """Rational numbers."""

    def numbers(self, array: Array) -> Array:
        return array

    def choose(self, condition: bool, then: Fraction, other: Fraction) -> Fraction:
        return then if condition else other

    def every(self, conditions: Sequence[bool]) -> bool:
        return all(conditions)

    def some(self, conditions: Sequence[bool]) -> bool:
        return any(conditions)

    def negate(self, condition: bool) -> bool:
        return not condition


class _Terms(_Meaning):
    """Terms of z3. `bounds` is what makes them mean the same as numbers do."""

    def __init__(self, z3: Any, question: Question, names: Mapping[str, Array]):
        self._z3 = z3
        self.bounds: list[Any] = []
        super().__init__(question, names)

    def numbers(self, array: Array) -> Array:
        if array.size > _MOST:
            raise InputError("too large a network for a proof", expected=f"arrays of at most {_MOST:,} entries")
        return _each(self._number, array)

    def _number(self, entry: Fraction) -> Any:
        # Whole numbers stay whole: over integers z3 then cuts, where branching alone may never end.
        return self._z3.IntVal(entry.numerator) if entry.denominator == 1 else self._z3.RealVal(str(entry))

    def choose(self, condition: Any, then: Any, other: Any) -> Any:
        return self._z3.If(condition, then, other)

    def every(self, conditions: Sequence[Any]) -> Any:
        return self._z3.And(*conditions)

    def some(self, conditions: Sequence[Any]) -> Any:
        return self._z3.Or(*conditions)

    def negate(self, condition: Any) -> Any:
        return self._z3.Not(condition)

    def _combined(self, op: ast.operator, left: Array, right: Array, node: ast.expr) -> Array:
        if isinstance(op, ast.Div):
            # z3 takes division by zero for any number; here there is none. Of integers it divides with a remainder.
            self.bounds += [entry != 0 for entry in right.reshape(-1)]
            left = _each(lambda entry: self._z3.ToReal(entry) if entry.is_int() else entry, left)
        return super()._combined(op, left, right, node)


# -- counterexamples -------------------------------------------------------------------------------------------------


@dataclass
class _Search:
    """A solver with what is asked, and the unknowns of which small values are wanted."""

    z3: Any
    solver: Any
    variables: Mapping[str, Array]
    deadline: float

    def check(self) -> Any:
        """Sat, unsat or unknown.

        Raises:
            KeyboardInterrupt: Ctrl-C, which z3 takes for itself.
        """
        while (left := self.deadline - time.thread_time()) > 0:
            self.solver.set("timeout", 1 + int(1000 * left))  # by the clock on the wall, which runs for others too
            found = self.solver.check()
            reason = self.solver.reason_unknown() if found == self.z3.unknown else ""
            if reason == "interrupted from keyboard":
                raise KeyboardInterrupt
            if reason != "timeout":
                return found
        return self.z3.unknown

    def point(self) -> Point:
        """What the solver has found, as fractions; of roots, something near."""
        model = self.solver.model()

        def of(entry: Any) -> Fraction:
            found = model.eval(entry, model_completion=True)
            found = found.approx(20) if self.z3.is_algebraic_value(found) else found
            return Fraction(found.as_string())

        return {name: _each(of, array) for name, array in self.variables.items()}

    def smallest(self) -> Iterator[Point]:
        """Points of whole numbers, else of halves, thirds, ...: those of the smallest entries, by their sum, first."""
        z3, entries = self.z3, [entry for array in self.variables.values() for entry in array.reshape(-1)]
        magnitudes = [z3.If(entry >= 0, entry, -entry) for entry in entries]
        reals = [entry for entry in entries if entry.is_real()]
        for parts in _PARTS if reals else _PARTS[:1]:
            for bound in _BOUNDS:
                self.solver.push()
                self.solver.add(z3.IsInt(parts * entry) for entry in reals)
                self.solver.add(magnitude <= bound for magnitude in magnitudes)
                found = [*self._by_size(z3.Sum(*magnitudes))]
                self.solver.pop()
                if found:
                    yield from found
                    return
                if self.deadline < time.thread_time():
                    return

    def _by_size(self, size: Any) -> Iterator[Point]:
        for _ in range(_SHOWN):
            best = None
            self.solver.push()
            while self.check() == self.z3.sat:
                best = self.point()
                total = sum((abs(entry) for array in best.values() for entry in array.reshape(-1)), start=Fraction(0))
                self.solver.add(size < self.z3.RealVal(str(total)))
            self.solver.pop()
            if best is None:
                return
            yield best
            pairs = [(a, b) for name in best for a, b in np.broadcast(self.variables[name], best[name])]
            self.solver.add(self.z3.Or(*[a != self.z3.RealVal(str(b)) for a, b in pairs]))


# -- worksheets ------------------------------------------------------------------------------------------------------


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges a claim about all values of variables in R^n or Z^n."""
    domains = [domain for domain in claim.over if domain.kind in ("R", "Z")]
    read = set().union(*map(names, claim.links))
    domains += [replace(domain, names=(name,)) for name, domain in scope.domains.items() if name in read]
    if not domains:
        return None
    try:
        start = time.monotonic()
        require_z3()
        scope.deadline += time.monotonic() - start  # z3 is loaded once, in some seconds
        question = _question(claim, domains, scope)
        scope.check_time()
        decision = decide(question, min(scope.limit, max(scope.deadline - time.monotonic(), 0.1)))
    except InputError as error:
        raise UnusableError.of(error) from error
    facts = {"seconds": round(decision.seconds, 3)}
    match decision.verdict:
        case "proved":
            every = ", ".join(f"{', '.join(domain.names)} in {_written_domain(domain)}" for domain in domains)
            return Verdict("correct", word="proved", notes=[f"It holds for every {every}."], facts=facts)
        case "refuted":
            from qkv.check.worksheets.network_causes import cause_of

            cause = cause_of(question, [example.point for example in decision.counterexamples], scope.limit)
            notes = [f"Counterexample: {example}." for example in decision.counterexamples]
            name, words = (cause.name, cause.explanation) if cause else ("", "")
            return Verdict("wrong", word="refuted", cause=name, explanation=words, notes=notes, facts=facts)
    return Verdict("undecided", notes=[f"{decision.note[0].upper()}{decision.note[1:]}."], facts=facts)


def _question(claim: Claim, domains: Sequence[Domain], scope: Scope) -> Question:
    """A claim with what it is about; equations in a row are conditions."""
    pairs = [ast.Compare(a, [ast.Eq()], [b]) for a, b in pairwise(claim.links)]
    whole = claim.links[0] if not pairs else pairs[0] if len(pairs) == 1 else ast.BoolOp(ast.And(), list(pairs))
    variables = {name for domain in domains for name in domain.names}
    assumptions = [*([claim.condition] if claim.condition else []), *scope.assumptions]
    assumptions = [one for one in assumptions if names(one) & variables]
    numbers = {}
    for name, known in (pair for node in (whole, *assumptions) for pair in scope.used(node).items()):
        if not isinstance(known.true, Exact):
            raise InputError(f"{name} is not rational", expected="whole numbers, decimals and fractions in a proof")
        numbers[name] = np.array(known.true.fractions(), dtype=object).reshape(known.true.shape)
    return Question(whole, domains, assumptions, numbers, scope.functions)


def _written_domain(domain: Domain) -> str:
    return domain.kind if domain.size is None else f"{domain.kind}^{ast.unparse(domain.size)}"
