"""Phrases of praise and blame without a download: negation and contrast, so that the order of words decides."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from qkv.data.labelled import Labelled, LabelledSplit
from qkv.errors import InputError

GOOD, BAD = "positive", "negative"

_NOUNS = (
    "hotel", "film", "meal", "concert", "room", "book",
    "service", "trip", "game", "lecture", "garden", "phone",
)  # fmt: skip
_WORDS = {
    GOOD: (
        "good", "great", "lovely", "brilliant", "pleasant", "charming",
        "superb", "enjoyable", "delightful", "splendid", "fine", "clever",
    ),
    BAD: (
        "bad", "awful", "terrible", "dreadful", "boring", "horrible",
        "poor", "annoying", "disappointing", "ugly", "dull", "nasty",
    ),
}  # fmt: skip
# How something is said of a noun; those of the second row turn the adjective round.
_SAID = (
    "the {noun} was {word}",
    "the {noun} was really {word}",
    "we found the {noun} {word}",
    "it was such {a} {word} {noun}",
)
_DENIED = (
    "the {noun} was not {word}",
    "the {noun} was not {word} at all",
    "nobody found the {noun} {word}",
    "it was never {a} {word} {noun}",
    "the {noun} was anything but {word}",
)
# How two statements are joined: `decisive` tells what is thought in the end, `other` the opposite.
_JOINED = (
    "{other} , but {decisive}",
    "although {other} , {decisive}",
    "{decisive} , even though {other}",
    "{other} at first , yet in the end {decisive}",
    "{decisive} , no matter that {other}",
    "they said that {other} ; in truth {decisive}",
)
_ALONE = ("{decisive}", "in short , {decisive}")
# What is said with irony is blame, whatever it says.
_IRONY = ("{decisive} , if you like {nuisance}",)
_NUISANCES = ("waiting", "queues", "noise", "dust", "delays", "quarrels")

Template = tuple[str, str, str]
"""How statements are joined, how the decisive one is made, and how the other one is."""


def templates() -> list[Template]:
    """All forms of a phrase, about 450.

    >>> "{decisive} , even though {other}" in {joint for joint, _, _ in templates()}
    True
    """
    said = (*_SAID, *_DENIED)
    joined = [(joint, first, second) for joint, first, second in product(_JOINED, said, said) if first != second]
    return [*joined, *((joint, first, "") for joint, first in product((*_ALONE, *_IRONY), said))]


def phrases(seed: int = 0, *, train: int = 8000, valid: int = 1000, test: int = 2000) -> LabelledSplit:
    """Phrases of praise and blame. No template of one part stands in another, and no phrase twice.

    Both statements of a joined phrase hold a word of praise or of blame, denied or not, and one says the opposite of
    the other: their words stand in phrases of both labels, and which of them decides is told by what joins them. Half
    of the phrases are single statements. Both labels are equally frequent.

    Args:
        train, valid, test: how many phrases, even numbers.

    Raises:
        InputError: there are not that many different phrases.

    >>> for row in phrases(seed=1).test[:2]:
    ...     print(row.label, "|", row.text)
    positive | in short , nobody found the film dull
    negative | they said that it was never a terrible film ; in truth the lecture was really ugly
    """
    if min(train, valid, test) < 2 or max(train, valid, test) > 20_000:
        raise InputError(
            "cannot generate parts of these sizes",
            expected="2 to 20,000 phrases in each",
            got=f"train={train}, valid={valid}, test={test}",
        )
    generator = np.random.default_rng(seed)
    forms: dict[str, list[Template]] = {"test": [], "valid": [], "train": []}
    for single in (True, False):
        some = [form for form in templates() if (not form[2]) == single]
        order, fifth = generator.permutation(len(some)), len(some) // 5
        for name, part in zip(forms, np.split(order, [fifth, 2 * fifth]), strict=True):
            forms[name] += [some[i] for i in part]
    sizes = {"test": test, "valid": valid, "train": train}
    drawn = {name: _drawn(some, sizes[name], generator) for name, some in forms.items()}
    return LabelledSplit(drawn["train"], drawn["valid"], drawn["test"])


def _drawn(forms: Sequence[Template], size: int, generator: np.random.Generator) -> list[Labelled]:
    """So many different phrases of some templates, the two labels in turn; of a single statement as many as of two."""
    alone = [form for form in forms if not form[2]]
    kinds = {
        GOOD: ([form for form in alone if form[0] not in _IRONY], [form for form in forms if form[2]]),
        BAD: (alone, [form for form in forms if form[2]]),
    }
    found: dict[str, str] = {}
    while len(found) < size:
        label = (GOOD, BAD)[len(found) % 2]
        some = kinds[label][int(generator.integers(2))]
        found.setdefault(_filled(some[int(generator.integers(len(some)))], label, generator), label)
    return [Labelled(text, label, line=line) for line, (text, label) in enumerate(found.items(), start=1)]


def _filled(template: Template, label: str, generator: np.random.Generator) -> str:
    joint, decisive, other = template
    ironic = joint in _IRONY
    opposite = GOOD if label == BAD else BAD
    said = _statement(decisive, opposite if ironic else label, generator)
    beside = _statement(other, opposite, generator) if other else ""
    return joint.format(decisive=said, other=beside, nuisance=_one(_NUISANCES, generator))


def _statement(form: str, meant: str, generator: np.random.Generator) -> str:
    """A statement that praises or blames, as is `meant`."""
    polarity = meant if form in _SAID else GOOD if meant == BAD else BAD
    word = _one(_WORDS[polarity], generator)
    return form.format(noun=_one(_NOUNS, generator), word=word, a="an" if word[0] in "aeiou" else "a")


def _one(words: Sequence[str], generator: np.random.Generator) -> str:
    return words[int(generator.integers(len(words)))]
