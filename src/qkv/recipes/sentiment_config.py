"""What can be configured of the recipe sentiment."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from qkv.data import CLEANING
from qkv.errors import InputError
from qkv.models import BagOfWordsConfig, BertClassifierConfig, LSTMClassifierConfig, TransformerClassifierConfig
from qkv.recipes.base import PARTED
from qkv.recipes.sentiment_data import PHRASES, LabelledConfig
from qkv.train import FitConfig
from qkv.types import Config

Step = Literal["entities", "addresses", "mentions", "hashtags", "emoticons", "elongated"]
_NONE = BeforeValidator(lambda steps: [step for step in steps if step not in ("", "none")])


class AdaptConfig(Config):
    """How a network reads the texts to train on before it is told their labels."""

    epochs: NonNegativeInt = 0
    """So many passes over them, in which it learns to tell hidden tokens; 0 leaves that out."""
    learning_rate: PositiveFloat = 5e-4
    """The highest one; what else training takes is as `fit` has it."""
    share: float = Field(default=0.15, gt=0, lt=1)
    """Of the tokens, to be told."""


class SentimentConfig(LabelledConfig):
    """Which texts are labelled, by which model, and how it is trained."""

    model: Literal["bag-of-words", "lstm", "transformer", "pretrained", "blend"] = "lstm"
    """The architecture; the bag of words is run beside each as its baseline. `blend` joins the answers of finished
    runs."""
    data: str = PHRASES
    """Texts with labels: `phrases` (generated), a named set such as `sentiment140`, or a CSV or TSV file."""
    cleaning: Annotated[tuple[Step, ...], _NONE, PARTED] = CLEANING  # pyright: ignore[reportAssignmentType]
    """What is done to every text before it is read, parted by commas; `none` leaves texts as they are."""
    tokens: Literal["word", "subword", "character"] = "word"
    """What a token is; a published encoder has its own."""
    vocabulary_size: PositiveInt = 20_000
    """The most tokens."""
    max_length: PositiveInt = Field(default=64, ge=3)
    """So many tokens of a text are read."""
    tokens_per_batch: PositiveInt = 2048
    """The most positions in a batch, padding counted."""
    embeddings: str | None = None
    """Pretrained word vectors, GloVe text or word2vec: a named set or a file."""
    freeze_embeddings: bool = False
    """Keep them as they are instead of tuning them."""
    encoder: str | None = None
    """Of `pretrained`: the folder of a published BERT."""
    teacher: str | None = None
    """The folder of a finished run on the same data, a blend for instance: its answers to the texts to train on are
    learned beside their labels."""
    teacher_share: float = Field(default=0.8, gt=0, le=1)
    """How much of what is learned for a text is the teacher's answer; the rest is its label."""
    blended: Annotated[tuple[str, ...], _NONE, PARTED] = ()  # pyright: ignore[reportAssignmentType]
    """Of `blend`: the folders of finished runs on the same data, parted by commas. Their answers and those of the bag
    of words are joined by the weights that the validation part likes best."""
    bag_of_words: BagOfWordsConfig = BagOfWordsConfig()
    lstm: LSTMClassifierConfig = LSTMClassifierConfig()
    transformer: TransformerClassifierConfig = TransformerClassifierConfig()
    pretrained: BertClassifierConfig = BertClassifierConfig()
    adapt: AdaptConfig = AdaptConfig()
    fit: FitConfig = FitConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "SentimentConfig":
        trained = ("lstm", "transformer", "pretrained")
        fit: Sequence[tuple[str, object, Sequence[str]]] = (
            ("encoder", self.encoder, ["pretrained"]),
            ("embeddings", self.embeddings, ["lstm", "transformer"]),
            ("blended", self.blended, ["blend"]),
            ("teacher", self.teacher, trained),
            ("adapt.epochs", self.adapt.epochs, trained),
        )
        for option, given, models in fit:
            if given and self.model not in models:
                raise InputError(f"--model {self.model} takes no --{option}", expected=f"--model {' or '.join(models)}")
        if self.tokens_per_batch < self.max_length:
            raise InputError(
                "a batch has no room for the longest text",
                expected=f"--tokens-per-batch of at least --max-length, {self.max_length}",
                got=str(self.tokens_per_batch),
            )
        return self
