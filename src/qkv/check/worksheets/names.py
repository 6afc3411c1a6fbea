"""From a worksheet to the setting of a claim over names: what they stand for, and what it is claimed for all of."""

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from qkv.check.worksheets.algebra import Definition, Setting, Symbol, names_in
from qkv.check.worksheets.shapes import Shapes, fits
from qkv.check.worksheets.syntax import KINDS, Claim, Domain
from qkv.check.worksheets.values import UnusableError, floats
from qkv.check.worksheets.verdict import Scope
from qkv.errors import InputError


def links_of(claim: Claim, scope: Scope) -> tuple[ast.expr, ...]:
    """The sides of a claim, without a name that it defines."""
    known = scope.names() | {name for shape in scope.shapes.values() for size in shape for name in names_in(size)}
    return claim.links[1:] if claim.defines and claim.defines not in known else claim.links


def setting_above(scope: Scope) -> Setting:
    """What all names that are given so far stand for."""
    symbols = {name: Symbol(shape, scope.kinds.get(name, "")) for name, shape in scope.shapes.items()}
    values = {name: floats(known.true) for name, known in scope.numbers.items()}
    definitions = {name: Definition((), value) for name, value in scope.definitions.items()}
    functions = {name: Definition(let.parameters or (), let.value) for name, let in scope.functions.items()}
    return Setting(symbols, values, definitions | functions, scope.assumptions)


def setting_of(claim: Claim, scope: Scope, links: Sequence[ast.expr]) -> Setting | None:
    """What the names in a claim stand for; None where none of them is given by shape, or some over a domain.

    A quantified name without a size, as in `for permutation P`, gets the size with which the shapes of `links` fit.

    Raises:
        InputError: there is no such size.
    """
    setting = setting_above(scope)
    if claim.condition is not None:
        setting = replace(setting, conditions=[*setting.conditions, claim.condition])
    if any(domain.kind not in KINDS for domain in claim.over):
        return None
    for domain in claim.over:
        for name in domain.names:
            setting = _quantified(setting, name, domain, links)
    reached = setting.reach(*links)
    if reached & scope.domains.keys() or not reached & {*setting.symbols, *setting.sizes}:
        return None
    return setting.limited(*links)


@contextmanager
def unusable() -> Iterator[None]:
    """What cannot be used becomes what is said of a claim."""
    try:
        yield
    except UnusableError:
        raise
    except InputError as error:
        raise UnusableError.of(error) from error


def _quantified(setting: Setting, name: str, domain: Domain, links: Sequence[ast.expr]) -> Setting:
    def of(size: ast.expr) -> Setting:
        return replace(setting, symbols={**setting.symbols, name: Symbol((size, size), domain.kind)})

    if domain.size is not None:
        return of(domain.size)
    shapes = (size for symbol in setting.symbols.values() for size in symbol.shape)
    candidates = [of(size) for size in {ast.unparse(size): size for size in shapes}.values()]
    fitting = next((one for one in candidates if fits(one, *links)), None)
    if fitting is None and candidates:
        for link in links:
            Shapes(candidates[0]).evaluate(link)
    if fitting is None:
        raise InputError(f"no size of {name} fits here", hint=f"given {name} : {domain.kind}(n)")
    return fitting
