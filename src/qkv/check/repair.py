"""The edit that mends a backward pass, found by trying: the line that is wrong, and what it should say.

The functions that run are those of the user; their source is read, one statement at a time is edited, and the edited
function takes the place of the original for one call. An edit counts where the loss stays what it was and all
gradients are then right, at every point.
"""

import ast
import gc
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from qkv.check import edits, pieces
from qkv.check.edits import Edit, Known, bare

_TRIALS = 5000
_EDITS = 4  # edits that are thought of for each that is tried: most of the others do not fit
_NEAR = 1e-4
_LIBRARIES = tuple({str(Path(np.__file__).parents[1]), str(Path(ast.__file__).parent), str(Path(__file__).parent)})


@dataclass(frozen=True)
class Mended:
    """The cause, and where: file, line, as it stands and as it would be right."""

    cause: str
    path: str
    line: int
    stands: str
    right: str


@dataclass(frozen=True)
class Wanted:
    """A point, and the gradients that are right there; NaN where they are not known."""

    parameters: Mapping[str, np.ndarray]
    gradients: Mapping[str, np.ndarray]


@dataclass
class _Function:
    """A function of the user's that ran, with its source, and what its names stood for when it returned."""

    function: Any
    tree: ast.FunctionDef
    values: dict[str, Any]

    def fits(self, statement: ast.stmt, edit: Edit) -> bool:
        """Whether an edited line says an array that could stand for the one it said; it does where that is not seen."""
        value = _value(statement)
        if value is None or all(node is not edit.old for node in ast.walk(value)):
            return True
        shape = self._shape(value)
        if shape is None:
            return True
        if edit.old is value:
            new = self._shape(edit.new)
        else:
            _swap(value, edit.old, edit.new)
            new = self._shape(value)
            _swap(value, edit.new, edit.old)
        return new is not None and _fit(shape, new)

    def _shape(self, value: ast.AST) -> tuple[int, ...] | None:
        """What shape an expression has once the function has returned."""
        whole = ast.fix_missing_locations(ast.Expression(value))  # pyright: ignore[reportArgumentType]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return np.shape(eval(compile(whole, "edited", "eval"), self.function.__globals__, self.values))
        except Exception:  # it need not run
            return None


class _Trials:
    """Runs edited code.

    Args:
        gradients, loss: the code, which calls the functions that are edited.
        wanted: points, and what is right there.
    """

    def __init__(
        self,
        gradients: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray | None]],
        loss: Callable[[Mapping[str, np.ndarray]], Any],
        wanted: Sequence[Wanted],
    ):
        self.gradients, self.loss, self.wanted = gradients, loss, wanted
        self.losses = [loss(one.parameters) for one in wanted]

    def mends(self, one: _Function, edit: Edit) -> bool:
        """Whether all is right with this edit."""
        with _replaced(one, edit) as possible:
            return possible and all(map(self._right, self.wanted, self.losses))
        return False  # it raised

    def _right(self, one: Wanted, loss: float) -> bool:
        found = self.gradients(one.parameters)
        for name, true in one.gradients.items():
            given, known = found[name], ~np.isnan(true)
            if given is None or given.shape != true.shape:
                return False
            off = np.linalg.norm(given[known] - true[known])
            if not off <= _NEAR * np.linalg.norm(true[known]) + 1e-12:
                return False
        return bool(abs(self.loss(one.parameters) - loss) <= 1e-9 * abs(loss))

    def touched(self, one: _Function, statement: ast.stmt) -> set[str] | None:
        """The gradients that a statement has a part in; None where it has one in the loss, or none that is seen."""
        start, value = self.wanted[0].parameters, _value(statement)
        if value is None:
            return None
        before = self.gradients(start)
        with _replaced(one, Edit("", value, ast.BinOp(value, ast.Mult(), ast.Constant(1.5)))) as possible:
            if not possible or self.loss(start) != self.losses[0]:
                return None
            after = self.gradients(start)
            return {name for name, found in before.items() if not _equal(found, after[name])}
        return None  # it raised


def mended(
    gradients: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray | None]],
    loss: Callable[[Mapping[str, np.ndarray]], Any],
    wanted: Sequence[Wanted],
    wrong: Sequence[str],
) -> Mended | None:
    """The first edit under which `gradients` are the ones wanted; None where no single one is found.

    Args:
        gradients, loss: the code as it is called with parameters.
        wanted: points, and what is right there.
        wrong: the parameters whose gradients are wrong: only lines that they come from are tried.
    """
    trials = _Trials(gradients, loss, wanted)
    queues: list[_Queue] = []
    for one in _functions(lambda: gradients(wanted[0].parameters)):
        touched = {statement: trials.touched(one, statement) for statement in _statements(one.tree)}
        known = _known(one, [statement for statement, names in touched.items() if names is not None])
        for statement, names in touched.items():
            if isinstance(statement, ast.For):
                inside = [touched.get(below) for below in ast.walk(statement) if isinstance(below, ast.stmt)]
                names = set().union(*(names for names in inside if names)) or None
            if names and names >= set(wrong):
                queues.append(_Queue(len(names), one, statement, known))
    tried, thought_of = 0, set[tuple[int, str]]()
    for one, statement, edit in _in_order(queues, len(wrong)):
        told = _told(statement, edit)
        if (id(statement), told) in thought_of:
            continue
        thought_of.add((id(statement), told))
        if tried == _TRIALS or len(thought_of) > _EDITS * _TRIALS:
            break
        if not one.fits(statement, edit):
            continue
        tried += 1
        if trials.mends(one, edit):
            stands, right = (text.split("\n")[0] for text in (ast.unparse(statement), told))
            return Mended(edit.cause, one.function.__code__.co_filename, statement.lineno, stands, right)
    return None


@dataclass(frozen=True)
class _Queue:
    """A statement whose edits are tried, and how many gradients it has a part in."""

    gradients: int
    one: _Function
    statement: ast.stmt
    known: Known


def _in_order(queues: Sequence[_Queue], wrong: int) -> Iterator[tuple[_Function, ast.stmt, Edit]]:
    """Edits, small ones first, and those of lines first in which all that they have a part in is wrong.

    One mistake rarely spares any of it: so larger edits of these lines come before small ones of others.
    """
    likely, others = ([queue for queue in queues if (queue.gradients > wrong) is more] for more in (False, True))
    small, larger, largest = edits.STAGES, *pieces.STAGES
    for group, stages in (
        (likely, small), (likely, larger), (others, small), (likely, largest), (others, larger), (others, largest)
    ):  # fmt: skip
        for stage in stages:
            for queue in group:
                yield from ((queue.one, queue.statement, edit) for edit in stage(queue.statement, queue.known))


# -- the user's functions ------------------------------------------------------------------------------------------


def _functions(call: Callable[[], object]) -> list[_Function]:
    """The functions that run in a call whose source can be read, but for those of libraries."""
    returned: dict[CodeType, dict[str, Any]] = {}

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and not frame.f_code.co_filename.startswith(_LIBRARIES):
            returned[frame.f_code] = dict(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    found = []
    for code, values in returned.items():
        tree = _source(code)
        owners = [owner for owner in gc.get_referrers(code) if isinstance(owner, FunctionType)]
        owners = [owner for owner in owners if owner.__code__ is code]
        if tree is not None and owners:
            found.append(_Function(owners[0], tree, values))
    return found


def _source(code: CodeType) -> ast.FunctionDef | None:
    lines = linecache.getlines(code.co_filename)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def _statements(tree: ast.FunctionDef) -> Iterator[ast.stmt]:
    """The statements of a function, but for those of functions inside it."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop(0)
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            waiting += [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]


def _known(one: _Function, late: Sequence[ast.stmt]) -> Known:
    """What edits of a function may draw on; `late` are the statements of its backward pass."""
    shapes: dict[str, tuple[int, ...]] = {}
    lists, masks, indices = set(), set(), set()
    for name, value in one.values.items():
        array = value
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            array = value[0]
            lists.add(name)
        if isinstance(array, (np.ndarray, np.floating, float, int)) and not isinstance(array, bool):
            shapes[name] = np.shape(array)
            kind = getattr(array, "dtype", np.dtype(type(array))).kind
            masks |= {name} if kind == "b" else set()
            indices |= {name} if kind in "iu" and shapes[name] else set()
    pieces, called = {}, {"np.sqrt": None, "np.tanh": None}
    early_calls, late_calls = set(), set()
    for statement in _statements(one.tree):
        if isinstance(statement, (ast.For, ast.While, ast.If, ast.With, ast.FunctionDef)):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                (late_calls if statement in late else early_calls).add(ast.unparse(node.func).rpartition(".")[2])
                if len(node.args) == 1 and not node.keywords and isinstance(node.func, (ast.Name, ast.Attribute)):
                    text = ast.unparse(node.func)
                    if isinstance(node.func, ast.Name) or text.startswith(("np.", "torch.", "math.")):
                        called[text] = None
            if isinstance(node, (ast.BinOp, ast.Call, ast.Subscript, ast.Compare)) and not isinstance(
                getattr(node, "ctx", None), ast.Store
            ):
                text = ast.unparse(node)
                if len(text) <= 60:
                    pieces[text] = None
    for name, value in one.function.__globals__.items():
        own = isinstance(value, FunctionType) and value.__module__ == one.function.__module__
        if own and value.__code__.co_argcount == 1 and value is not one.function:
            called[name] = None
    scalars = [name for name, value in one.function.__globals__.items() if isinstance(value, float)]
    used = [name for name in scalars if name in one.function.__code__.co_names]
    whole = [node for statement in _statements(one.tree) for node in ast.walk(statement)]
    divisors = [ast.unparse(node.right) for node in whole if isinstance(node, ast.BinOp) and _divides(node)]
    numbers = [name for name, shape in shapes.items() if not shape]
    places = [bare(node) for node in whole if isinstance(node, ast.Subscript) and _is_sliced(node)]
    assigned = [
        {node.id for line in lines for node in ast.walk(line) if isinstance(node, ast.Name) and _is_stored(node)}
        for lines in (late, [line for line in _statements(one.tree) if line not in late and not hasattr(line, "body")])
    ]
    sizes = {size for shape in shapes.values() for size in (*shape, int(np.prod(shape)))}
    counts = sorted(size for size in sizes if size > 1)
    return Known(
        shapes=shapes,
        lists=frozenset(lists),
        masks=frozenset(masks),
        indices=frozenset(indices),
        counts=counts[:24],
        pieces=[*used, *pieces],
        functions=list(called)[:24],
        adjoints=frozenset(assigned[0] - assigned[1]),
        divisors=list(dict.fromkeys([*numbers, *divisors]))[:24],
        places=list(dict.fromkeys(places))[:24],
        late=frozenset(late_calls - early_calls - {"sum", "mean", "swapaxes", "reshape", "zeros_like", "at"}),
    )


def _divides(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.Div) and not isinstance(node.right, ast.Constant)


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_sliced(node: ast.Subscript) -> bool:
    return any(isinstance(below, ast.Slice) and (below.lower or below.upper) for below in ast.walk(node.slice))


# -- edited functions ----------------------------------------------------------------------------------------------


class _replaced:  # noqa: N801 - used as a word
    """Lets an edited function run in the place of the original; what it raises is swallowed, for it need not run."""

    def __init__(self, one: _Function, edit: Edit):
        self.one, self.edit = one, edit

    def __enter__(self) -> bool:
        function = self.one.function
        self.code = function.__code__
        _swap(self.one.tree, self.edit.old, self.edit.new)
        try:
            new = _compiled(self.one.tree, self.code)
        except (SyntaxError, TypeError, ValueError):
            new = None
        finally:
            _swap(self.one.tree, self.edit.new, self.edit.old)
        if new is not None:
            function.__code__ = new
        return new is not None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self.one.function.__code__ = self.code
        return isinstance(error, Exception)


def _compiled(tree: ast.FunctionDef, like: CodeType) -> CodeType | None:
    """The code of a function that takes the place of `like`: with the same names from around it."""
    bare = ast.copy_location(ast.FunctionDef(tree.name, tree.args, tree.body, [], None), tree)
    names = [ast.arg(name) for name in like.co_freevars]
    arguments = ast.arguments([], names, None, [], [], None, [])
    around = ast.copy_location(ast.FunctionDef("around", arguments, [bare], [], None), tree)
    whole = ast.fix_missing_locations(ast.Module([around], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = compile(whole, like.co_filename, "exec")
    for name in ("around", tree.name):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code if code.co_freevars == like.co_freevars else None


def _swap(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Puts `new` where `old` stands."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
                return
            if isinstance(value, list):
                for place, item in enumerate(value):
                    if item is old:
                        value[place] = new
                        return


def _told(statement: ast.stmt, edit: Edit) -> str:
    """The statement as edited."""
    if edit.old is statement:
        return ast.unparse(ast.fix_missing_locations(edit.new))
    _swap(statement, edit.old, edit.new)
    try:
        return ast.unparse(statement)
    finally:
        _swap(statement, edit.new, edit.old)


def _value(statement: ast.stmt) -> ast.expr | None:
    """The right-hand side of a statement, or the last of what it hands to a call."""
    value = getattr(statement, "value", None)
    if isinstance(statement, ast.Expr):
        return value.args[-1] if isinstance(value, ast.Call) and value.args else None
    return value if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else None


def _fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes could stand in one place: one of them is spread over the other."""
    try:
        return np.broadcast_shapes(one, other) in (one, other)
    except ValueError:
        return False


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else bool(np.array_equal(one, other))
