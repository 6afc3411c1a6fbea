"""Chains of equations between matrices of any size, proved link by link.

A link is proved where both sides have one normal form (`forms`), with as few of the rules as will do. One that the
rules do not reach is tried in random instances, and is supported there or refuted.
"""

import ast
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qkv.check.worksheets.algebra import Setting
from qkv.check.worksheets.forms import RULES, Forms, Rules
from qkv.check.worksheets.identity import Comparison, Identities, refuted, supported
from qkv.check.worksheets.names import links_of, setting_of, unusable
from qkv.check.worksheets.syntax import Claim
from qkv.check.worksheets.terms import UnprovableError
from qkv.check.worksheets.verdict import Scope, Verdict


@dataclass(frozen=True)
class Link:
    """One equation of a chain.

    Attributes:
        rules: of a proved one, those that it takes, by their names in `RULES`.
        comparison: of one that is not proved, what random instances say.
    """

    left: ast.expr
    right: ast.expr
    word: Literal["proved", "supported", "refuted"]
    rules: Sequence[str] = ()
    comparison: Comparison | None = None


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges a chain of three links or more, or an equation `by` a lemma, of names given by shape; None for others."""
    links = links_of(claim, scope)
    if len(links) < 2 or not (len(links) > 2 or claim.by):
        return None
    with unusable():
        setting = setting_of(claim, scope, links)
        if setting is None:
            return None
        identities = Identities(setting, scope.seed)
        found = chain(identities, links)
    notes = [_told(link, claim) for link in found] if len(found) > 1 else []
    broken = next((link for link in found if link.word == "refuted"), None)
    if broken is not None:
        assert broken.comparison is not None
        place = found.index(broken) + 1
        where = f"Link {place} of {len(links) - 1} does not hold. " if len(links) > 2 else ""
        return refuted(identities, broken.left, broken.right, broken.comparison, where, notes)
    unproved = [link.comparison for link in found if link.comparison is not None]
    if unproved:
        proved = len(found) - len(unproved)
        first = f"{proved} of {len(found)} links are proved, and no rule reaches " if proved else "no rule reaches "
        return supported(unproved[0], f"{first}{'the rest' if proved else 'it'}; ", notes)
    rules = [name for name in RULES if any(name in link.rules for link in found)]
    told = f"Proved for all sizes{_with(rules)}."
    notes += _unneeded(claim, rules)
    return Verdict("correct", word="proved", explanation=told, notes=notes, facts={"links": len(found)})


def chain(identities: Identities, links: Sequence[ast.expr]) -> list[Link]:
    """Each link of a chain, up to the first that is refuted.

    Raises:
        InputError: names that are not known, shapes that do not fit.
    """
    found = []
    for left, right in itertools.pairwise(links):
        identities.check_shapes(left, right)
        rules = proof(identities.setting, left, right)
        if rules is not None:
            found.append(Link(left, right, "proved", rules))
            continue
        comparison = identities.compare(left, right)
        found.append(Link(left, right, "supported" if comparison.agrees else "refuted", (), comparison))
        if not comparison.agrees:
            break
    return found


def proof(setting: Setting, left: ast.expr, right: ast.expr) -> list[str] | None:
    """The rules that show two expressions to be equal, as few as will do; None where they do not.

    >>> from qkv.check.worksheets.algebra import Symbol
    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> n = read("n")
    >>> setting = Setting({"S": Symbol((n, n)), "P": Symbol((n, n), "permutation")})
    >>> proof(setting, read("softmax(P @ S @ P.T)"), read("P @ softmax(S) @ P.T"))
    ['equivariance']
    >>> proof(setting, read("S @ P"), read("P @ S"))
    """
    rules = Rules()
    if not _equal(setting, left, right, rules):
        return None
    spare: set[str] = set()
    for name in [name for name in RULES if name in rules.used and name != "definition"]:
        if _equal(setting, left, right, Rules(frozenset(spare | {name}))):
            spare.add(name)
    return [name for name in RULES if name in rules.used - spare]


def _equal(setting: Setting, left: ast.expr, right: ast.expr, rules: Rules) -> bool:
    try:
        one, other = (Forms(setting, rules).evaluate(side) for side in (left, right))
    except UnprovableError:
        return False
    return one.terms == other.terms


def _unneeded(claim: Claim, rules: Sequence[str]) -> list[str]:
    """What to say of lemmas that are named among the rules and that the proof does without."""
    spare = [RULES[lemma] for lemma in claim.by if lemma in RULES and lemma not in rules]
    return [f"It does without {'; '.join(spare)}."] if spare else []


def _told(link: Link, claim: Claim) -> str:
    """What became of a link."""
    return f"{claim.cut(link.left)} = {claim.cut(link.right)}: {link.word}{_with(link.rules)}"


def _with(rules: Sequence[str]) -> str:
    return f", with: {'; '.join(RULES[name] for name in rules)}" if rules else ""
