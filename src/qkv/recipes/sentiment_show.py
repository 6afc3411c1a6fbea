"""What a classifier says of one text, and why: what each word adds, what was attended to."""

from collections.abc import Sequence
from dataclasses import dataclass

from qkv import draw
from qkv.draw import Figure, Paragraph, Table, WordEffect
from qkv.draw.report import Block
from qkv.recipes.base import Drawn, Shown, attended, head_table
from qkv.recipes.sentiment_model import Classifier
from qkv.types import AttentionMap, Json

_WORDS = 60  # past which the figure would be longer than a page


@dataclass(frozen=True)
class Answer:
    """A text, the label that it was given, how probable each label is, and what each word adds to the one given."""

    text: str
    label: str
    probabilities: dict[str, float]
    effects: Sequence[WordEffect]

    @property
    def told(self) -> str:
        return f"{self.label} {self.probabilities[self.label]:.1%}"

    @property
    def document(self) -> Json:
        return {
            "prediction": self.label,
            "probabilities": self.probabilities,
            "effects": [vars(one) for one in self.effects],
        }


def word_effects(classifier: Classifier, text: str) -> Answer:
    """The answer to a text, and for each of its first words how much less probable it is where that is left out."""
    words = text.split()
    shorter = (
        [" ".join([*words[:i], *words[i + 1 :]]) for i in range(min(len(words), _WORDS))] if len(words) > 1 else []
    )
    whole, *without = classifier.probabilities([text, *shorter]).tolist()
    label = classifier.label(whole)
    place = list(classifier.labels).index(label)
    effects = [WordEffect(word, whole[place] - less[place]) for word, less in zip(words, without, strict=False)]
    return Answer(text, label, dict(zip(classifier.labels, whole, strict=True)), effects)


def seen(classifier: Classifier, text: str, *, layer: int | None = None, head: int | None = None) -> Shown | Drawn:
    """The answer to a text with what was attended to, or, where nothing is, with what each word adds.

    Raises:
        InputError: no such layer or head.
    """
    answer = word_effects(classifier, text)
    lines = [answer.told, *(f"{one.effect:+.3f}  {one.word}" for one in answer.effects)]
    maps: list[AttentionMap] = [] if classifier.network is None else classifier.network.maps(text)
    if maps:
        caption = f"What each token of “{text}” attended to; the answer: {answer.told}"
        return Shown(
            text="\n".join(lines),
            maps=maps,
            figure=attended(maps, layer=layer, head=head),
            caption=caption,
            document=answer.document,
            heads=head_table(maps, {"[CLS]", "[SEP]", "<s>", "</s>"}),
            title=answer.told,
        )
    chart = draw.word_effects(answer.effects or [WordEffect(text, 0.0)])
    page = draw.report_page(answer.told, blocks(answer))
    return Drawn("\n".join(lines), page, draw.svg(chart), draw.png(chart), answer.document)


def blocks(answer: Answer) -> list[Block]:
    """The answer to a text as parts of a page."""
    made: list[Block] = [
        Paragraph(f"“{answer.text}”"),
        Table(["label", "probability"], [[name, share] for name, share in answer.probabilities.items()], digits=4),
    ]
    if answer.effects:
        told = (
            f"What each word adds to the probability of “{answer.label}”: what is lost where it is left out. Words "
            "that only tell together, such as “not” and “bad”, each seem to tell all of it."
        )
        made.append(Figure(draw.svg(draw.word_effects(answer.effects)), told))
    return made
