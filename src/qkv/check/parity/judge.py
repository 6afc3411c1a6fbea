"""Anyone's module beside a reference: the same weights, the same inputs, and where the two first differ."""

import contextlib
import inspect
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from qkv.check.parity.case import Case, Trial
from qkv.check.parity.cases import CASES
from qkv.check.parity.compare import ALLOWED, Comparison, Finding, same
from qkv.check.parity.dropped import Switch, dropout_by_value
from qkv.check.parity.finder import Cause, cause
from qkv.check.parity.mapping import BLOCKS, Mapping_, Rows, mappings, written
from qkv.check.parity.side import Side, made
from qkv.check.subject import RaisedError
from qkv.errors import InputError, NotFiniteError, unknown_name
from qkv.types import Claim, Fact, Parity, Verdict

_TRIED = 400
Maker = type[nn.Module] | Callable[..., nn.Module] | nn.Module


def parity(
    ours: Maker,
    theirs: Maker,
    *,
    sizes: Sequence[Mapping[str, Any]] | None = None,
    mapping: Mapping[str, str] | None = None,
    case: str | None = None,
    arguments: Sequence[Tensor] = (),
    bfloat16: bool = False,
    seed: int = 0,
    tolerance: float | None = None,
    title: str = "",
) -> Parity:
    """Compares a module with a reference: outputs and all gradients, with the same weights.

    Both are made of several sizes, the parameters of `ours` are mapped to the reference's (by name, by shape, or by
    trying which order makes them agree), and both are asked the same: in evaluation and training, with and without
    masks and padding, in float64 and float32. Dropout drops the same values in both. Where they differ, the reference's
    formula is changed until it computes what `ours` does.

    Args:
        ours: a class, a function that makes a module, or a module.
        theirs: the same; a layer of `torch.nn` is known by its name.
        sizes: the reference's arguments, one dict for each size; the case's own where left out.
        mapping: for each own parameter an expression over the reference's, such as `"weight_ih[f]"` or `"weight.T"`.
        case: which layer of `torch.nn` it is, where `theirs` does not say it.
        arguments: what both are called with, where it is none of the shipped cases.
        bfloat16: compare in bfloat16 too.
        seed: decides weights and inputs.
        tolerance: the error in float64, relative to an array's largest entry, that is none; 1e-9.
        title: what ours is called in messages.

    Raises:
        InputError, InputTypeError, NotFiniteError: an unknown case, a module that cannot be made, called or mapped, or
            that gives NaN.

    >>> class MyLSTMCell(nn.LSTMCell):
    ...     def forward(self, x, state=None):
    ...         h, c = super().forward(x, state)
    ...         return h.tanh(), c
    >>> report = parity(MyLSTMCell, nn.LSTMCell)
    >>> report.ok, report["c"].verdict, report["h"].verdict, report.cause
    (False, 'correct', 'wrong', 'activation')
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise InputError("tolerance cannot be used", expected="between 0 and 1", got=f"{tolerance:g}")
    title = title or _name(ours)
    found = _case(case, theirs)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), dropout_by_value() as switch:
        check = _Check(ours, theirs, found, title, mapping, arguments, seed, switch)
        report = check.report(_sizes(found, ours, theirs, sizes), bfloat16=bfloat16, tolerance=tolerance)
    if printed.getvalue():
        first = printed.getvalue().strip().split("\n")[0][:80]
        report = replace(
            report, notes=[*report.notes, f"{title} prints; this is left out here (it began with {first!r})."]
        )
    return report


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


def _case(name: str | None, theirs: Any) -> Case | None:
    if name is not None:
        if name not in CASES:
            raise unknown_name("case", name, CASES)
        return CASES[name]
    if isinstance(theirs, nn.Module):
        theirs = type(theirs)
    parents = inspect.getmro(theirs) if inspect.isclass(theirs) else ()
    return next((case for case in CASES.values() if case.reference in parents or case.name in _names(parents)), None)


def _names(parents: Sequence[type]) -> set[str]:
    """The names of layers of this library, which are those of torch."""
    return {parent.__name__ for parent in parents if parent.__module__.startswith("qkv.nn")}


def _sizes(case: Case | None, ours: Any, theirs: Any, given: Any) -> Sequence[Mapping[str, Any]]:
    if given is not None:
        if not given:
            raise InputError("sizes is empty", expected="one dict of arguments or more")
        return list(given)
    for one in (theirs, ours):
        if isinstance(one, nn.Module) and case is not None:
            if isinstance(one, case.reference):
                return [case.sizes_of(one)]
            with contextlib.suppress(AttributeError):
                return [case.sizes_of(one)]
    if case is None:
        return [{}]
    return case.sizes


class _Check:
    """One comparison of two makers over several sizes."""

    def __init__(
        self,
        ours: Any,
        theirs: Any,
        case: Case | None,
        title: str,
        mapping: Mapping[str, str] | None,
        arguments: Sequence[Tensor],
        seed: int,
        switch: Switch,
    ):
        self.ours, self.theirs, self.case, self.title, self.mapping = ours, theirs, case, title, mapping
        self.arguments, self.switch = arguments, switch
        self.generator = torch.Generator().manual_seed(seed)
        self.notes: list[str] = []
        self.agreed: bool | None = None

    def report(self, sizes: Sequence[Mapping[str, Any]], *, bfloat16: bool, tolerance: float | None) -> Parity:
        comparisons = [one for each in sizes if (one := self._comparison(each)) is not None]
        left_out = [_told(each) for each, one in zip(sizes, map(self._makeable, sizes), strict=True) if not one]
        if left_out:
            self._note(f"{self.title} takes not all of these arguments, so they were left out: {'; '.join(left_out)}.")
        if not comparisons:
            raise InputError(
                f"{self.title} cannot be made of any size",
                expected=" or ".join(map(_told, sizes)),
                hint="--sizes with arguments that it takes",
            )
        exact = comparisons[0].exact
        kinds = [exact] + [torch.float32] * (exact == torch.float64) + [torch.bfloat16] * bfloat16
        findings: list[Finding] = []
        for kind in list(kinds):
            try:
                findings += [found for one in comparisons for found in one.findings(kind, tolerance)]
            except RaisedError as error:
                if kind == exact:
                    raise
                kinds = [one for one in kinds if one != kind]
                self._note(f"{self.title} does not run in {_precision(kind)} ({error.problem}), so that was left out.")
        claims = _claims(findings, kinds)
        wrong = [claim for claim in claims if claim.verdict == "wrong"]
        found = self._cause(comparisons, findings, tolerance) if wrong else None
        asked = list(dict.fromkeys(trial.name for one in comparisons for trial in one.trials))
        self._note(
            f"{len(comparisons)} size{'s' * (len(comparisons) > 1)}: "
            f"{'; '.join(_told(one.sizes) for one in comparisons)}."
        )
        self._note(f"Asked: {'; '.join(asked)}. In {' and '.join(map(_precision, kinds))}.")
        return Parity(
            self.title,
            claims,
            self.notes,
            reference=_name(self.theirs),
            mapping=comparisons[0].ours.mapping,
            cause=found.name if found else "",
            explanation=found.words if found else "",
            where=found.where if found else "",
            line=found.line if found else "",
            instead=found.instead if found else "",
        )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # -- made and mapped ---------------------------------------------------------------------------------------------

    def _makeable(self, sizes: Mapping[str, Any]) -> bool:
        return made(self.ours, self.case, dict(sizes), self.title) is not None

    def _comparison(self, sizes: Mapping[str, Any]) -> Comparison | None:
        trials = self._trials_of_arguments() if self.case is None else []
        ours = made(self.ours, self.case, dict(sizes), self.title)
        if ours is None:
            return None
        theirs = made(self.theirs, self.case, dict(ours.sizes), _name(self.theirs))
        if theirs is None:
            raise InputError(f"{_name(self.theirs)} cannot be made", expected=f"a layer that takes {_told(sizes)}")
        if self.case is not None:
            every = self.case.trials(theirs.sizes, self.generator)
            trials = [one for one in every if ours.takes(one) and theirs.takes(one)]
            for one in every:
                if one not in trials:
                    self._note(f"Not asked, since {self.title} has no argument for it: {one.name}.")
            if not trials:
                raise InputError(
                    f"{self.title}.forward takes none of what the reference takes",
                    expected=", ".join(self.case.forward),
                    got=", ".join(ours.signature.role_of) if ours.signature else "",
                )
        state = {name: self._drawn(name, value) for name, value in theirs.module.named_parameters()}
        if not state or not ours.shapes:
            side = ours if not ours.shapes else theirs
            raise InputError(f"{side.title} has no parameters to compare with", expected="at least one")
        for name, value in itertools.chain(ours.module.named_parameters(), theirs.module.named_parameters()):
            if not bool(torch.isfinite(value).all()):
                raise NotFiniteError(f"the parameter {name} holds NaN or infinity")
        theirs.mapping = {name: written(name) for name in state}
        one = Comparison(self.case, ours, theirs, theirs.sizes, trials, state, self.generator, self.switch)
        if self.mapping is not None:
            self._require_mapping(one)
        self._exact(one)
        self._map(one)
        for trial in list(one.trials):
            self._settle(one, trial)
        return one

    def _trials_of_arguments(self) -> list[Trial]:
        if not self.arguments:
            raise InputError(
                f"it is not known what to call {self.title} with",
                expected=f"one of the cases {', '.join(CASES)}, or arguments",
                hint="--case NAME, or a function `sample` in the file that returns the arguments",
            )
        inputs = {f"{k}": x.double() if x.is_floating_point() else x for k, x in enumerate(self.arguments)}
        return [Trial("evaluation", inputs), Trial("training, without dropout", inputs, training=True, drops=False)]

    def _drawn(self, name: str, value: Tensor) -> Tensor:
        """Other values for a parameter: zeros and ones would hide one taken for another."""
        drawn = torch.randn(value.shape, generator=self.generator, dtype=torch.float64)
        if value.dim() > 1:
            return drawn * max(0.5, 1 / math.sqrt(value.shape[-1]))
        return 0.4 * drawn + (1.0 if bool((value == 1).all()) and value.numel() and "bias" not in name else 0.0)

    def _exact(self, one: Comparison) -> None:
        """float64, or float32 where ours runs only so."""
        first = (
            next(iter(mappings(one.ours.shapes, _shapes(one), self._kind)), None)
            if self.mapping is None
            else dict(self.mapping)
        )
        if first is None:
            raise self._unmapped(one)
        one.ours.mapping = first
        try:
            one.of(one.ours.cast(torch.float64), one.trials[0], torch.float64)
        except RaisedError as error:
            try:
                one.of(one.ours.cast(torch.float32), one.trials[0], torch.float32)
            except RaisedError:
                raise error from None
            one.exact = torch.float32
            self._note(f"{self.title} does not run in float64 ({error.problem}), so it is judged as float32 code.")
        one.ours, one.theirs = one.ours.cast(one.exact), one.theirs.cast(one.exact)

    @property
    def _kind(self) -> str:
        return self.case.kind if self.case else "plain"

    def _map(self, one: Comparison) -> None:
        """Finds the mapping, and in which layout sequences are, by what makes the first trial agree."""
        candidates = (
            [one.ours.mapping]
            if self.mapping is not None
            else list(
                itertools.islice(
                    mappings(one.ours.shapes, _shapes(one), self._kind), 1 if self.agreed is False else _TRIED
                )
            )
        )
        trial = one.trials[0]
        right = one.reference(trial)
        first: Side | None = None
        error: Exception | None = None
        for mapping in candidates:
            for side in [one.ours, *one.ours.other_ways(trial)]:
                tried = replace(side, mapping=mapping)
                try:
                    found = one.of(tried, trial, one.exact, gradients=False)
                except InputError as raised:
                    error = error or raised
                    continue
                first = first or tried
                if same(found, right, _near(one)):
                    self.agreed = self.agreed is not False
                    one.ours = tried
                    self._tell_layout(one)
                    return
        if first is None:
            raise error or self._unmapped(one)
        one.ours, self.agreed = first, False

    def _tell_layout(self, one: Comparison) -> None:
        if self.case and self.case.sequences and not one.ours.layout_known:
            order = "(batch, length, width)" if one.ours.ways.batch_first else "(length, batch, width)"
            self._note(f"{self.title} takes sequences as {order}.")

    def _settle(self, one: Comparison, trial: Trial) -> None:
        """In which way masks and lengths are meant, where their arguments have names of their own."""
        right = one.reference(trial)
        try:
            mine = one.of(one.ours, trial, one.exact, gradients=False)
            again = one.of(one.ours, trial, one.exact, gradients=False)
            if not same(mine, again, 1e-6) and trial.training:
                one.trials.remove(trial)
                self._note(f"{self.title} draws its own random numbers, so this was not compared: {trial.name}.")
                return
            if same(mine, right, _near(one)):
                return
        except InputError:
            pass
        works: list[Side] = []
        for side in one.ours.other_ways(trial):
            try:
                found = one.of(side, trial, one.exact, gradients=False)
            except InputError:
                continue
            works.append(side)
            if all(name in right and same({name: value}, right, _near(one)) for name, value in found.items()):
                self._settled(one, side, trial)
                if side.ways.allows:
                    self._note(
                        f"{self.title}: True in its mask means that a position may be attended to, "
                        "the opposite of torch's."
                    )
                return
        free = one.ours.masks_are_free(trial)
        tight = [side for side in works if free and not one.leaks(side, trial)]
        if works and (free or "lengths" in trial.given):
            self._settled(one, tight[0] if tight else works[0], trial)
        try:
            if trial in one.trials:
                one.of(one.ours, trial, one.exact, gradients=False)
        except InputError as error:
            if trial is one.trials[0]:
                raise error from None
            one.trials.remove(trial)
            self._note(f"Not compared: {trial.name}. {error}")

    def _settled(self, one: Comparison, side: Side, trial: Trial) -> None:
        one.ours.ways_of[trial.name] = side.ways
        if one.ours.told_nothing(trial):
            if one.sizes.get("bidirectional"):
                one.trials.remove(trial)
                self._note(f"{self.title} is not told lengths, so in both directions padding was not compared.")
            else:
                self._note(f"{self.title} is not told lengths, so only its outputs at real positions were compared.")

    def _require_mapping(self, one: Comparison) -> None:
        assert self.mapping is not None
        own = one.ours.shapes
        for name in self.mapping:
            if name not in own:
                raise unknown_name("parameter", name, own)
        heads = one.sizes.get("num_heads", one.sizes.get("nhead", 1))
        for name, text in self.mapping.items():
            value = Rows(BLOCKS[self._kind], heads).value(text, one.state)
            if tuple(value.shape) != own[name]:
                raise InputError(
                    f"the mapping of {name} to {text!r} does not fit",
                    expected=str(own[name]),
                    got=str(tuple(value.shape)),
                )

    def _unmapped(self, one: Comparison) -> InputError:
        mine = ", ".join(f"{name} {shape}" for name, shape in one.ours.shapes.items())
        theirs = ", ".join(f"{name} {shape}" for name, shape in _shapes(one).items())
        return InputError(
            f"the parameters of {self.title} could not be mapped to the reference's",
            expected=theirs,
            got=mine,
            hint='--map FILE.json, such as {"W_f": "weight_ih[f]", "kernel": "weight.T"}',
        )

    # -- why ---------------------------------------------------------------------------------------------------------

    def _cause(self, comparisons: list[Comparison], findings: list[Finding], tolerance: float | None) -> Cause:
        wrong = [found for found in findings if found.wrong]
        exact = [found for found in wrong if found.dtype == comparisons[0].exact]
        if not exact:
            kinds = ", ".join(dict.fromkeys(_precision(found.dtype) for found in wrong))
            return Cause("precision", "", f"it agrees in float64, and only {kinds} is off by more than rounding")
        if all(found.error < 1e-5 for found in exact) and comparisons[0].exact == torch.float64:
            words = "it agrees only to the rounding of float32: part of it computes in less than float64"
            rough = Cause("precision", "", words)
        else:
            rough = None
        near = max(tolerance or 0.0, _near(comparisons[0]))
        found = cause(comparisons, near, pairs=rough is None) if self.case is not None else Cause("other", "", "")
        if found.name != "other":
            return found
        return rough or replace(found, words=f"it first differs in {exact[0].name} ({exact[0].trial}); {_REST}")


_REST = "no single change of the reference's formula, and no two that were tried, compute what it does"


def _shapes(one: Comparison) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in one.state.items()}


def _near(one: Comparison) -> float:
    return 1e-8 if one.exact == torch.float64 else 1e-4


def _precision(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _told(sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sizes.items())


def _claims(findings: Sequence[Finding], kinds: Sequence[torch.dtype]) -> list[Claim]:
    """One claim for each array, of all its trials, sizes and types."""
    claims = []
    for name in dict.fromkeys(found.name for found in findings):
        of_it = [found for found in findings if found.name == name]
        wrong = [found for found in of_it if found.wrong]
        shown = wrong[0] if wrong else max(of_it, key=lambda found: found.error / found.allowed)
        verdict: Verdict = "wrong" if wrong else "correct"
        facts: dict[str, Fact] = {
            _precision(kind): max((found.error for found in of_it if found.dtype == kind), default=math.nan)
            for kind in kinds
        }
        facts |= {
            "compared": (count := int(sum(found.errors.size for found in of_it))),
            "judged": count,
            "wrong": int(sum((found.errors > found.allowed).sum() for found in of_it)),
            "trial": shown.trial,
            "sizes": _told(shown.sizes),
            "precision": _precision(shown.dtype),
        }
        error = max(found.error for found in wrong) if wrong else shown.error
        claims.append(Claim(name, verdict, error, shown.allowed, shown.entries, facts=facts, errors=shown.errors))
    return claims


__all__ = ["ALLOWED", "Mapping_", "parity"]
