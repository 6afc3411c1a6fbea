"""Worksheets as people meet them: from a file, a folder, by the name of one that is shipped, or in a notebook."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from qkv import draw
from qkv.check.worksheets.judge import Judgement, Line, judge
from qkv.check.worksheets.syntax import Claim, Given, Graph, Let, Sheet, Statement, Unreadable, parse
from qkv.check.worksheets.values import UnusableError
from qkv.check.worksheets.verdict import Verdict as Finding
from qkv.draw import MarkedLine, MarkedSheet, MarkedText, Table
from qkv.draw.page import framed
from qkv.errors import DataError, InputError, unknown_name
from qkv.files import read_text_lines
from qkv.types import Json, Verdict

VERDICTS: tuple[Verdict, ...] = ("correct", "rounding", "carried", "wrong", "unusable", "undecided")
_SUFFIXES = (".md", ".markdown", ".txt")
_TOLD = 4


@dataclass(frozen=True)
class Credit:
    """How claims are scored: points for a right one, and the share of them for one that is carried forward.

    Off by rounding is right; a claim that is undecided counts on neither side.

    Raises:
        InputError: points that are not positive, a share outside 0 to 1.
    """

    points: float = 1.0
    carried: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.carried <= 1:
            raise InputError(
                "the credit for what is carried forward is a share", expected="0 to 1", got=f"{self.carried:g}"
            )
        if not 0 < self.points < 1e6:
            raise InputError("points of a claim", expected="more than 0", got=f"{self.points:g}")

    def of(self, verdict: Verdict) -> float:
        """The points for one claim."""
        if verdict == "carried":
            return self.points * self.carried
        return self.points if verdict in ("correct", "rounding") else 0.0


class Worksheet:
    """A worksheet and what it comes to; in a notebook its page is what is shown.

    Args:
        text: Markdown with fenced blocks marked `worksheet`, or plain lines; see `qkv.check.worksheets.syntax`.
        title: of its page.
        credit: how it is scored.
        seconds: for all of it.
        limit: seconds for one proof or search.
        seed: of instances that are drawn.

    Raises:
        InputError: nothing is claimed in it.

    >>> sheet = Worksheet("given X = [[2, 0], [1, 3]]\\nclaim Y = X @ X = [[4, 0], [5, 8]]")
    >>> sheet.ok, sheet.first_wrong, sheet["Y"].entries[0].value
    (False, 'Y', 9.0)
    """

    def __init__(
        self,
        text: str,
        *,
        title: str = "Worksheet",
        credit: Credit | None = None,
        seconds: float = 60.0,
        limit: float = 10.0,
        seed: int = 0,
    ):
        self.sheet, self.title, self.credit = parse(text), title, credit or Credit()
        claimed = [s for s in self.sheet.statements if isinstance(s, Claim) or s.text.lstrip().startswith("claim")]
        if not claimed:
            unreadable = [s for s in self.sheet.statements if isinstance(s, Unreadable)]
            told = f"line {unreadable[0].line} cannot be read: expected {unreadable[0].expected}" if unreadable else ""
            raise InputError(
                "nothing is claimed in the worksheet",
                expected="lines that begin with claim, in Markdown inside blocks marked ```worksheet",
                got=told,
                hint="claim Y = X @ W = [[1, 2]]",
            )
        self.judgement: Judgement = judge(self.sheet, title=title, seconds=seconds, limit=limit, seed=seed)

    @classmethod
    def read(cls, source: str | Path, **options: Any) -> "Worksheet":
        """From a file, or the one that is shipped under that name.

        Raises:
            DataError: no such file, one that is no text, or one in which nothing is claimed.
        """
        name, text = _text(source)
        options.setdefault("title", _title(text) or name)
        try:
            return cls(text, **options)
        except InputError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                error.problem, expected=error.expected, got=error.got, hint=error.hint, path=source
            ) from error

    @property
    def ok(self) -> bool:
        """Whether every claim is right, or off by rounding only."""
        return self.judgement.ok

    @property
    def first_wrong(self) -> str | None:
        """The name of the first claim that is wrong by itself."""
        first = self.judgement.first_wrong
        return first and first.name

    def __getitem__(self, name: str) -> Finding:
        """The verdict on the claim of that name."""
        return self.judgement[name]

    @property
    def points(self) -> tuple[float, float]:
        """Points reached, and those that could be."""
        counted = [line for line in self.judgement.lines if not isinstance(line.statement, Given | Let)]
        kinds: list[Verdict] = [line.verdict.kind for line in counted if line.verdict.kind != "undecided"]
        return sum(self.credit.of(kind) for kind in kinds), self.credit.points * len(kinds)

    def document(self) -> Json:
        """All of it as plain data for JSON."""
        reached, most = self.points
        return self.judgement.document() | {"points": reached, "of": most}

    @cached_property
    def marked(self) -> MarkedSheet:
        """What is drawn."""
        return _marked(self)

    def text(self) -> str:
        """For a terminal."""
        return draw.worksheet_text(self.marked)

    def page(self) -> str:
        """As one HTML page."""
        return draw.worksheet_page(self.marked)

    def svg(self) -> str:
        """Its statements as a drawing."""
        return draw.worksheet_svg(self.marked)

    def _repr_html_(self) -> str:
        return framed(self.page(), self.title, height=600)


# -- where they come from ----------------------------------------------------------------------------------------------


def shipped() -> dict[str, str]:
    """The worksheets that are shipped: names, and what each is about.

    >>> shipped()["self_attention"]
    'Self-attention on three tokens, with two numbers each'
    """
    folder = files("qkv.check.worksheets").joinpath("shipped")
    found = {Path(file.name).stem: file for file in folder.iterdir() if file.name.endswith(_SUFFIXES)}
    return {name: _title(found[name].read_text(encoding="utf-8")) for name in sorted(found)}


def find(source: str | Path) -> list[Path]:
    """The worksheets of a folder and the folders in it, in order of their names.

    Raises:
        DataError: none there.
    """
    found = sorted(path for path in Path(source).rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not found:
        raise DataError(
            "no worksheets in the folder", expected=f"files that end in {', '.join(_SUFFIXES)}", path=source
        )
    return found


def _text(source: str | Path) -> tuple[str, str]:
    """The name and the text of a worksheet."""
    name = str(source)
    if not Path(source).exists() and "/" not in name and not name.endswith(_SUFFIXES):
        named = name.replace("-", "_")
        if named not in shipped():
            raise unknown_name("worksheet", name, shipped(), hint="a file, or `qkv check worksheet --list`")
        return named, files("qkv.check.worksheets").joinpath("shipped", f"{named}.md").read_text(encoding="utf-8")
    return Path(source).name, "\n".join(text for _, text in read_text_lines(source))


def read_sheet(source: str | Path) -> tuple[str, Sheet]:
    """The title of a worksheet, from a file or of one that is shipped, and what stands in it; nothing is judged.

    Raises:
        DataError: no such file, or one that is no text.
    """
    name, text = _text(source)
    return _title(text) or name, parse(text)


def _title(text: str) -> str:
    """The first heading."""
    return next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("# ")), "")


# -- how they are drawn ------------------------------------------------------------------------------------------------


def _marked(worksheet: Worksheet) -> MarkedSheet:
    sheet, lines = worksheet.sheet, worksheet.judgement.lines
    by_place = {(line.statement.line, line.statement.text): line for line in lines}
    drawn = [*_prose(sheet, worksheet.title)]
    for statement in sheet.statements:
        line = by_place.get((statement.line, statement.text))
        if isinstance(statement, Graph):
            nodes = [MarkedLine(node.line, [MarkedText(node.text.rstrip())]) for node in statement.assignments]
            drawn += [MarkedLine(statement.line, [MarkedText(statement.text.strip())]), *nodes]
            if statement.line in worksheet.judgement.figures:
                drawn[-1] = replace(drawn[-1], figures=[worksheet.judgement.figures[statement.line]])
        elif line is None:
            drawn.append(MarkedLine(statement.line, [MarkedText(statement.text.rstrip())]))
        else:
            drawn.append(_line(statement, line))
    drawn.sort(key=lambda line: line.number)
    return MarkedSheet(worksheet.title, summary(worksheet), drawn, _score(worksheet), worksheet.judgement.notes)


def _prose(sheet: Sheet, title: str) -> list[MarkedLine]:
    """Paragraphs around the blocks, but for the fences and the title itself."""
    found, start, paragraph = [], 0, []
    for number, text in enumerate([*sheet.text.splitlines(), ""], start=1):
        fence = text.lstrip().startswith(("```", "~~~"))
        heading = text.startswith("#")
        if (number in sheet.code or fence or not text.strip() or heading) and paragraph:
            found.append(MarkedLine(start, [MarkedText(" ".join(paragraph))], prose=True))
            paragraph = []
        if number in sheet.code or fence or not text.strip() or text.strip("# ") == title:
            continue
        if heading:
            found.append(MarkedLine(number, [MarkedText(text)], prose=True))
            continue
        start = start if paragraph else number
        paragraph.append(text.strip())
    return found


def _line(statement: Statement, line: Line) -> MarkedLine:
    verdict = line.verdict
    pieces, at = [], 0
    for mark in sorted(verdict.marks, key=lambda mark: mark.start):
        pieces += [
            MarkedText(statement.text[at : mark.start]),
            MarkedText(statement.text[mark.start : mark.end], mark.kind),
        ]
        at = mark.end
    pieces.append(MarkedText(statement.text[at:].rstrip()))
    kept = [piece for piece in pieces if piece.text]
    figures = [str(figure) for figure in verdict.figures]
    return MarkedLine(statement.line, kept, verdict=verdict.kind, said=verdict.said, notes=told(line), figures=figures)


def told(line: Line) -> list[str]:
    """What is to be said of a claim beside its verdict, a sentence each."""
    verdict = line.verdict
    found = [
        f"({entry.index[0] + 1}, {entry.index[1] + 1}): {entry.claimed:.6g} claimed, {entry.value:.6g} is right"
        for entry in verdict.entries[:_TOLD]
    ]
    if len(verdict.entries) > _TOLD:
        found.append(f"and {len(verdict.entries) - _TOLD} more")
    if verdict.cause:
        found.append(f"Likely cause: {verdict.cause}: {verdict.explanation}.")
    elif verdict.explanation:
        found.append(verdict.explanation + "." * (not verdict.explanation.endswith(".")))
    return [*found, *verdict.notes]


def summary(worksheet: Worksheet) -> str:
    """How many claims came to what, in one sentence without its capital and its point."""
    lines = worksheet.judgement.lines
    counts = Counter(line.verdict.kind for line in lines)
    parts = [f"{counts[kind]} {_WORDS[kind]}" for kind in VERDICTS if counts[kind]]
    first = worksheet.judgement.first_wrong
    line = f"line {first.statement.line}" if first else ""
    where = f"; the first mistake is {', '.join(dict.fromkeys([first.name, line]))}" if first else ""
    return f"{len(lines)} claim{'s' * (len(lines) != 1)}, {', '.join(parts)}{where}"


_WORDS = {
    "correct": "right", "rounding": "off by rounding", "carried": "carried forward", "wrong": "wrong",
    "unusable": "unusable", "undecided": "undecided",
}  # fmt: skip


def _score(worksheet: Worksheet) -> Table:
    rows = [
        [
            line.name,
            line.statement.line,
            line.verdict.said,
            line.verdict.cause,
            _points(worksheet.credit.of(line.verdict.kind)),
        ]
        for line in worksheet.judgement.lines
    ]
    reached, most = worksheet.points
    return Table(
        ["claim", "line", "verdict", "likely cause", "points"],
        [*rows, ["sum", "", "", "", f"{_points(reached)} of {_points(most)}"]],
    )


def _points(points: float) -> str:
    return f"{points:g}"


# -- many of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """Judged worksheets by the names of their files; those that cannot be used, with why."""

    title: str
    sheets: dict[str, Worksheet]
    unusable: dict[str, str]

    @property
    def ok(self) -> bool:
        return not self.unusable and all(sheet.ok for sheet in self.sheets.values())

    @property
    def rows(self) -> list[dict[str, str | int | float | None]]:
        """For each worksheet how many claims came to what, its first mistake, its points."""
        rows = []
        for name, sheet in self.sheets.items():
            counts = Counter(line.verdict.kind for line in sheet.judgement.lines)
            first = sheet.judgement.first_wrong
            reached, most = sheet.points
            rows.append(
                {"worksheet": name, "claims": len(sheet.judgement.lines), **{kind: counts[kind] for kind in VERDICTS}}
                | {"first wrong": sheet.first_wrong or "", "likely cause": first.verdict.cause if first else ""}
                | {"points": round(reached, 6), "of": round(most, 6)}
            )
        return rows

    @property
    def common(self) -> list[tuple[str, int, int]]:
        """Likely causes of what is wrong: how often each, and in how many worksheets; the commonest first."""
        claims, sheets = Counter(), Counter()
        for sheet in self.sheets.values():
            causes = [
                line.verdict.cause or "of no named kind"
                for line in sheet.judgement.lines
                if line.verdict.kind == "wrong"
            ]
            claims.update(causes)
            sheets.update(set(causes))
        return sorted(
            ((cause, count, sheets[cause]) for cause, count in claims.items()), key=lambda one: (-one[1], one[0])
        )

    def tables(self) -> tuple[Table, Table]:
        """The worksheets, and the mistakes that are common."""
        rows = self.rows
        header = [name for name in rows[0] if name not in VERDICTS or any(row[name] for row in rows)] if rows else []
        listed = [[_cell(row[name]) for name in header] for row in rows]
        common = Table(["likely cause", "claims", "worksheets"], [list(one) for one in self.common])
        return Table(header, listed), common

    def summary(self) -> str:
        """In one sentence without its capital and its point."""
        right = sum(sheet.ok for sheet in self.sheets.values())
        told = f"{len(self.sheets)} worksheet{'s' * (len(self.sheets) != 1)}, {right} without a mistake"
        return told + (f"; {len(self.unusable)} cannot be used" if self.unusable else "")

    def document(self) -> Json:
        """All of it as plain data for JSON."""
        return {
            "title": self.title,
            "ok": self.ok,
            "worksheets": {name: sheet.document() for name, sheet in self.sheets.items()},
            "unusable": dict(self.unusable),
            "common": [
                {"cause": cause, "claims": claims, "worksheets": sheets} for cause, claims, sheets in self.common
            ],
        }

    def text(self) -> str:
        """For a terminal."""
        table, common = self.tables()
        parts = [f"{self.title}: {self.summary()}", draw.table_markdown(table)]
        if common.rows:
            parts += ["Mistakes that are common:", draw.table_markdown(common)]
        return "\n\n".join(parts + [f"{name}: {why}" for name, why in self.unusable.items()])

    def page(self) -> str:
        """As one HTML page."""
        return draw.worksheets_page(self.title, self.summary(), *self.tables(), self.unusable)


def read_folder(source: str | Path, **options: Any) -> Folder:
    """Judges all worksheets of a folder; files that are no text, or claim nothing, are said to be unusable.

    Raises:
        DataError: no worksheet there.
    """
    sheets, unusable = {}, {}
    for path in find(source):
        name = str(path.relative_to(source))
        try:
            sheets[name] = Worksheet.read(path, **options)
        except DataError as error:
            unusable[name] = str(UnusableError.of(error))  # without its path
    if not sheets:
        raise DataError("no worksheet in the folder can be used", got=next(iter(unusable.values())), path=source)
    return Folder(Path(source).resolve().name, sheets, unusable)


def _cell(value: str | int | float | None) -> str | int | None:
    return f"{value:g}" if isinstance(value, float) else value
