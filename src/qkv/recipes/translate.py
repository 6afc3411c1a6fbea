"""Translation: recurrent, recurrent with attention, or Transformer, on sentence pairs."""

import hashlib
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from qkv import files
from qkv.data import (
    SETS,
    Pair,
    PairBatches,
    Split,
    Vocabulary,
    batch_of,
    find,
    group_references,
    normalise_text,
    numbers_and_dates,
    read_pairs,
    read_texts,
    sentence_key,
    source_batch,
    split_pairs,
    train_vocabulary,
    verify,
    word_of,
)
from qkv.errors import InputError, RunError
from qkv.models import (
    RecurrentConfig,
    SearchOptions,
    TransformerConfig,
    TranslationMemory,
    TranslationRNN,
    TranslationTransformer,
)
from qkv.nn import AttentionConfig, AttentionOptions, FormName
from qkv.recipes.base import Reporter, Shown, attended, command, device, head_table, validated
from qkv.recipes.translate_report import report
from qkv.trace import record
from qkv.train import FitConfig, RunFolder, TranslationScores, fit, mean_loss, translation_scores
from qkv.types import AttentionMap, Config, Json, Run
from qkv.vectors import Coverage, vectors_for

GENERATED = "numbers-and-dates"
"""The embedded default: French number words and dates to English."""

Model = TranslationTransformer | TranslationRNN


class TranslateConfig(Config):
    """What to translate, by which model, and how to train it."""

    model: Literal["rnn", "rnn-attention", "transformer"] = "transformer"
    """The architecture."""
    data: str = GENERATED
    """Sentence pairs: `numbers-and-dates` (generated), a named set such as `eng-fra`, or a TSV file (gzip, zstd)."""
    source_column: int | None = Field(default=None, ge=0)
    """The column to translate from, counted from 0; by default the named set's, or 0."""
    target_column: int | None = Field(default=None, ge=0)
    """The column to translate to; by default the named set's, or 1."""
    normalise: Literal["nfc", "nfkc", "none"] = "nfkc"
    """The Unicode normal form of both sides."""
    valid_share: float = Field(default=0.02, gt=0, lt=1)
    """The share of source sentences kept from training to choose the model by."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    """The share of source sentences kept from training to judge the model by, once."""
    max_valid: PositiveInt = 2000
    """At most so many pairs to choose by, so that choosing stays quick."""
    split_seed: NonNegativeInt = 0
    """Another number draws other parts; runs can be compared only where it is the same."""
    tokens: Literal["word", "subword", "character"] = "subword"
    """What a token is."""
    vocabulary_size: PositiveInt = 8000
    """The most tokens on each side."""
    lowercase: bool = False
    """Fold both sides to lower case."""
    max_length: PositiveInt = 100
    """Longest side of a pair to train on, in tokens."""
    tokens_per_batch: PositiveInt = 4096
    """The most positions in a batch, both sides and padding counted."""
    embeddings: str | None = None
    """Pretrained word vectors, GloVe text or word2vec: a named set or a file."""
    embeddings_side: Literal["source", "target", "both"] = "target"
    """Which side they are for."""
    freeze_embeddings: bool = False
    """Keep them as they are instead of tuning them."""
    beam_size: PositiveInt = 1
    """How many translations are kept open while searching; 1 is greedy."""
    length_penalty: float = Field(default=0.6, ge=0)
    """How far a beam's scores are normalised by length (alpha of Wu et al., 2016)."""
    attention: FormName = "softmax"
    """The form of attention that the Transformer is built of."""
    attention_options: AttentionOptions = AttentionOptions()
    transformer: TransformerConfig = TransformerConfig()
    recurrent: RecurrentConfig = RecurrentConfig()
    fit: FitConfig = FitConfig()

    @model_validator(mode="after")
    def _sentences_fit(self) -> "TranslateConfig":
        if self.model == "transformer" and self.max_length >= self.transformer.max_length:
            raise InputError(
                "the Transformer has fewer positions than the longest sentences",
                expected="--max-length below --transformer.max-length",
                got=f"{self.max_length} and {self.transformer.max_length}",
            )
        if self.model != "transformer" and self.attention != "softmax":
            raise InputError(
                "only the Transformer can be built of other forms of attention",
                expected="--attention softmax, or --model transformer",
                got=f"--attention {self.attention} --model {self.model}",
            )
        if self.attention.startswith("linear") and self.transformer.attention_dropout:
            raise InputError(
                "linear attention has no weights to drop",
                expected="--transformer.attention-dropout 0",
                got=str(self.transformer.attention_dropout),
            )
        if self.tokens_per_batch <= 2 * self.max_length:
            raise InputError(
                "a batch has no room for the longest pair",
                expected=f"--tokens-per-batch above {2 * self.max_length}, twice --max-length",
                got=str(self.tokens_per_batch),
            )
        return self


CONFIG = TranslateConfig
VARIATIONS = {"models": "model", "attentions": "attention", "heads": "transformer.num_heads"}
PRESETS: Mapping[str, Json] = {
    "tiny": {
        "transformer": {
            "embed_dim": 32,
            "num_heads": 2,
            "feedforward_dim": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "recurrent": {"embed_dim": 32, "hidden_size": 32},
        "vocabulary_size": 600,
        "fit": {"epochs": 1, "precision": "float32"},
    },
    "default": {
        "transformer": {"embed_dim": 128, "feedforward_dim": 256, "encoder_layers": 2, "decoder_layers": 2},
        "recurrent": {"embed_dim": 128, "hidden_size": 256},
        "tokens": "word",
        "tokens_per_batch": 2048,
        "fit": {"epochs": 6, "learning_rate": 2e-3, "warmup_steps": 200},
    },
    "sentences": {
        "tokens_per_batch": 2048,
        "beam_size": 4,
        "fit": {"epochs": 20, "learning_rate": 1e-3, "warmup_steps": 500},
    },
}


def default_preset(config: TranslateConfig) -> str:
    """`default` for the generated pairs, `sentences` for real ones."""
    return "default" if config.data == GENERATED else "sentences"


# -- a trained model -------------------------------------------------------------------------------------------------

_SEARCH_BYTES = 2**30  # what hypotheses keep; while they are reordered, and moved on, there are two of it


@dataclass(frozen=True)
class Translator:
    """A model with its vocabularies: text in, text out."""

    model: Model
    source: Vocabulary
    target: Vocabulary
    config: TranslateConfig

    @classmethod
    def load(cls, run: Run) -> "Translator":
        """The translator that a finished run left."""
        config = validated(TranslateConfig, run.config)
        paths = (_vocabulary_path(run.path, side) for side in ("source", "target"))
        source, target = (Vocabulary.from_json(files.require_file(path).read_text(encoding="utf-8")) for path in paths)
        dims = {side: found["dim"] for side, found in run.result["embeddings"].items()}
        model = _build(config, source, target, dims)
        try:
            model.load_state_dict(RunFolder.open(run.path).load_weights())
        except RuntimeError as error:
            raise RunError("the weights are not those of this configuration", path=run.path) from error
        return cls(model.to(device()).eval(), source, target, config)

    @property
    def device(self) -> torch.device:
        return self.model.source_embedding.weight.device

    def translate(self, texts: Sequence[str], *, rows: int = 256) -> list[str]:
        """Translates `texts`, `rows` at once, or fewer where each takes much memory; neighbours are alike in length.

        A text longer than the model has positions is read as far as they go.
        """
        encoded = self._encode(texts)
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        translations = [""] * len(texts)
        while order:
            some = order[: min(rows, self._fitting(encoded[order[:rows][-1]]))]
            order = order[len(some) :]
            source, mask = (part.to(self.device) for part in source_batch([encoded[index] for index in some]))
            options = self._options(source.shape[1])
            for index, found in zip(some, self.model.translate(source, mask, options), strict=True):
                translations[index] = self.target.decode(found.ids)
        return translations

    def _fitting(self, ids: list[int]) -> int:
        """How many sentences as long as this one can be searched at once."""
        source, mask = (part.to(self.device) for part in source_batch([ids]))
        options = self._options(source.shape[1])
        with torch.inference_mode():
            taken = self.model.start(source, mask, options.max_length).nbytes
        return max(1, _SEARCH_BYTES // (taken * options.beam_size))

    def attention(self, text: str) -> tuple[str, list[AttentionMap]]:
        """The translation of `text`, and every attention map of the forward pass over both."""
        ids = self._encode([text])[0]
        source, mask = (part.to(self.device) for part in source_batch([ids]))
        found = self.model.translate(source, mask, self._options(source.shape[1]))[0].ids
        batch = batch_of([ids], [found]).to(self.device)
        with record() as trace, torch.inference_mode():
            self.model(batch.source, batch.source_mask, batch.target[:, :-1])
        read = self.source.tokens(batch.source[0].tolist())
        said = self.target.tokens(batch.target[0].tolist())
        maps = []
        for step in trace.attention():
            if step.facts["kind"] == "cross":
                # A row of the decoder is named by the token that it is about to say.
                labels = (said[1:], read)
            else:
                labels = (read, read) if step.name.startswith("encoder") else (said[:-1], said[:-1])
            maps.append(AttentionMap.from_step(step, *labels))
        return self.target.decode(found), maps

    def alignment(self, text: str, *, layer: int | None = None, head: int | None = None) -> Shown:
        """The translation of `text` with the map that aligns it: the mean over layers and heads, unless one is named.

        Raises:
            InputError: where there is no such layer or head.
        """
        translation, maps = self.attention(normalise_text(text, self.config.normalise))
        across = [map_ for map_ in maps if map_.kind == "cross"]
        maps = [*across, *(map_ for map_ in maps if map_.kind != "cross")]
        figure = attended(across if layer is None else maps, layer=layer, head=head)
        caption = f"What each token of “{translation}” attended to in “{text}”"
        heads = head_table(maps, self.source.tokens([self.source.eos_id]))
        return Shown(translation, maps, figure, caption, {"prediction": translation}, heads)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        most = self.config.transformer.max_length - 1  # the end of the sentence takes one
        return [ids[:most] for ids in self.source.encode_many(texts)]

    def _options(self, source_length: int) -> SearchOptions:
        return SearchOptions(
            bos_id=self.target.bos_id,
            eos_id=self.target.eos_id,
            beam_size=self.config.beam_size,
            length_penalty=self.config.length_penalty,
            max_length=min(2 * source_length + 20, self.config.transformer.max_length - 1),
            forbidden=(self.target.pad_id, self.target.bos_id, self.target.unk_id),
            scored=False,
        )


def _build(config: TranslateConfig, source: Vocabulary, target: Vocabulary, dims: Mapping[str, int]) -> Model:
    """The network of a configuration; `dims` are the widths of pretrained embeddings, by side."""
    sizes: dict[str, Any] = {
        "source_size": len(source),
        "target_size": len(target),
        "source_dim": dims.get("source"),
        "target_dim": dims.get("target"),
        "freeze": config.freeze_embeddings,
    }
    if config.model == "transformer":
        attention = AttentionConfig(form=config.attention, **config.attention_options.model_dump())
        return TranslationTransformer(config.transformer, **sizes, attention=attention)
    return TranslationRNN(config.recurrent, **sizes, attention=config.model == "rnn-attention")


# -- training --------------------------------------------------------------------------------------------------------


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Trains what the folder's configuration says; leaves weights, vocabularies, result and report."""
    config = validated(TranslateConfig, folder.config)
    parts = _parts(config, reporter)
    folder.hold_to_data({name: _fingerprint(pairs) for name, pairs in vars(parts).items()})
    source = _vocabulary(folder, "source", [pair.source for pair in parts.train], config)
    target = _vocabulary(folder, "target", [pair.target for pair in parts.train], config)
    vectors = _vectors(config, {"source": source, "target": target}, reporter)
    torch.manual_seed(folder.seed)
    model = _build(config, source, target, {side: found[0].shape[1] for side, found in vectors.items()})
    for side, (matrix, _) in vectors.items():
        getattr(model, f"{side}_embedding").weight.data.copy_(matrix)

    def batches(pairs: Sequence[Pair], *, shuffle: bool = False) -> PairBatches:
        lengths = {"tokens_per_batch": config.tokens_per_batch, "max_length": config.max_length}
        return PairBatches(pairs, source, target, **lengths, seed=folder.seed, shuffle=shuffle)

    training, testing = batches(parts.train, shuffle=True), batches(parts.test)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    reporter.say(
        f"{config.model} with {parameters:,} parameters to train; vocabularies of {len(source):,} and {len(target):,}; "
        f"{len(parts.train):,} training pairs in {len(training)} batches, {training.dropped} too long"
    )
    at = fit(
        model,
        training,
        batches(parts.valid),
        config.fit,
        folder,
        device=device(),
        other_threads=other_threads,
        on_progress=reporter.progress,
    )
    reporter.say(f"translating the {len(parts.test):,} test pairs")
    translator = Translator(model.eval(), source, target, config)
    began = time.monotonic()
    judged = judge(translator.translate, parts.test)
    decoding_seconds = time.monotonic() - began
    reporter.say("translating them by the baselines")
    memory = TranslationMemory([pair.source for pair in parts.train], [pair.target for pair in parts.train])
    baselines = {
        "source as it stands": judge(list, parts.test),
        "nearest sentence seen (TF-IDF)": judge(memory.translate, parts.test),
    }
    seen = {sentence_key(pair.target) for pair in parts.train}
    unseen = {
        name: each.where(lambda references: not any(sentence_key(text) in seen for text in references))
        for name, each in {config.model: judged, **baselines}.items()
    }
    result = {
        "metrics": judged.scores.metrics | {"loss": mean_loss(model, testing, device=device())},
        "signatures": judged.scores.signatures,
        "baselines": {name: each.scores.metrics for name, each in baselines.items()},
        "unseen_targets": {
            name: each.scores.metrics | {"sentences": len(each.sources)} for name, each in unseen.items() if each
        },
        "by_length": [asdict(bucket) for bucket in judged.by_length()],
        "examples": [asdict(example) for example in judged.examples(20)],
        "pairs": {name: len(pairs) for name, pairs in vars(parts).items()},
        "test_data": _fingerprint(parts.test),
        "parameters": parameters,
        "embeddings": {side: {"dim": m.shape[1], "coverage": c.share} for side, (m, c) in vectors.items()},
        "steps": at.step,
        "epochs": at.step / len(training),
        "best_step": at.best_step,
        "valid_loss": at.best_loss,
        "seconds": at.seconds,
        "tokens_per_second": at.tokens / at.seconds,
        "decoding_seconds": decoding_seconds,
    }
    shown = None if config.model == "rnn" else translator.alignment(_telling(parts.test))
    told = command(sys.modules[__name__], "translate", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), shown, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)
    folder.drop_state()


def _parts(config: TranslateConfig, reporter: Reporter) -> Split:
    """The pairs of a configuration, split."""
    if config.data == GENERATED:
        return numbers_and_dates(config.split_seed)
    pairs = _read(config.data, config, reporter)
    parts = split_pairs(pairs, valid=config.valid_share, test=config.test_share, seed=config.split_seed)
    # Drawn, not cut off: files are often in order of length.
    valid = random.Random(config.split_seed).sample(parts.valid, min(config.max_valid, len(parts.valid)))
    return replace(parts, valid=valid)


def _read(data: str, config: TranslateConfig, reporter: Reporter) -> list[Pair]:
    """All pairs of a named set or file, or the generated test part; says what was skipped."""
    if data == GENERATED:
        return numbers_and_dates(config.split_seed).test
    read = read_pairs(
        verify(data) if data in SETS else find(data), columns=_columns(data, config), normalise=config.normalise
    )
    for skipped in read.skipped:
        reporter.say(f"{data}: skipped {skipped}")
    return read.pairs


def _columns(data: str, config: TranslateConfig) -> tuple[int, int]:
    """The columns asked for, else those of the named set (the run's own, for a file like it), else the first two."""
    known = SETS.get(data) or SETS.get(config.data)
    source, target = known.options.get("columns", (0, 1)) if known else (0, 1)
    return (
        source if config.source_column is None else config.source_column,
        target if config.target_column is None else config.target_column,
    )


def _fingerprint(pairs: Sequence[Pair]) -> str:
    """A short name for exactly these pairs in this order."""
    digest = hashlib.blake2b(digest_size=8)
    for pair in pairs:
        digest.update(f"{pair.source}\t{pair.target}\n".encode())
    return digest.hexdigest()


def _vocabulary(folder: RunFolder, side: str, texts: Sequence[str], config: TranslateConfig) -> Vocabulary:
    """The vocabulary of one side: the one that the folder has, or one made of `texts` and kept there."""
    path = _vocabulary_path(folder.path, side)
    if not path.exists():
        made = train_vocabulary(texts, config.tokens, config.vocabulary_size, lowercase=config.lowercase)
        files.write_text(path, made.to_json())
    return Vocabulary.from_json(path.read_text(encoding="utf-8"))


def _vocabulary_path(folder: Path, side: str) -> Path:
    return folder / f"vocabulary.{side}.json"


def _vectors(
    config: TranslateConfig, vocabularies: Mapping[str, Vocabulary], reporter: Reporter
) -> dict[str, tuple[Tensor, Coverage]]:
    """Pretrained rows for the sides that are to have them."""
    found = {}
    for side, vocabulary in vocabularies.items():
        if config.embeddings is not None and config.embeddings_side in (side, "both"):
            words = [word_of(piece) for piece in vocabulary.pieces]
            found[side] = vectors_for(words, find(config.embeddings), pad_id=vocabulary.pad_id)
            reporter.say(f"pretrained vectors for {found[side][1].share:.0%} of the {side} tokens")
    return found


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    source: str
    translation: str
    references: list[str]


@dataclass(frozen=True)
class LengthBucket:
    """The scores of sentences whose sources are alike in length, counted in words."""

    words: str
    sentences: int
    bleu: float
    exact_match: float


@dataclass(frozen=True)
class Judged:
    """Translations beside their references."""

    sources: list[str]
    translations: list[str]
    references: list[list[str]]
    scores: TranslationScores

    def examples(self, count: int) -> list[Example]:
        """Drawn at random, always the same ones of the same test part."""
        rows = sorted(random.Random(0).sample(range(len(self.sources)), min(count, len(self.sources))))
        return [Example(self.sources[row], self.translations[row], self.references[row]) for row in rows]

    def where(self, wanted: Callable[[list[str]], bool]) -> "Judged | None":
        """The sentences whose references are wanted, scored by themselves; None where there are none."""
        rows = [row for row, references in enumerate(self.references) if wanted(references)]
        return self._only(rows) if rows else None

    def _only(self, rows: list[int]) -> "Judged":
        translations, references = [self.translations[row] for row in rows], [self.references[row] for row in rows]
        scores = translation_scores(translations, references)
        return Judged([self.sources[row] for row in rows], translations, references, scores)

    def by_length(self) -> list[LengthBucket]:
        buckets: dict[str, list[int]] = {name: [] for name, _ in _LENGTHS}
        for row, source in enumerate(self.sources):
            words = len(source.split())
            buckets[next(name for name, most in _LENGTHS if words <= most)].append(row)
        scored = []
        for name, rows in buckets.items():
            if rows:
                scores = self._only(rows).scores
                scored.append(LengthBucket(name, len(rows), scores.bleu, scores.exact_match))
        return scored


_LENGTHS = (("1-3", 3), ("4-6", 6), ("7-9", 9), ("10-12", 12), ("13-16", 16), ("17 or more", sys.maxsize))


def judge(translate: Callable[[list[str]], list[str]], pairs: Sequence[Pair]) -> Judged:
    """Translates each source of `pairs` once and scores the result against all its targets."""
    sources, references = group_references(pairs)
    translations = translate(sources)
    return Judged(sources, translations, references, translation_scores(translations, references))


# -- doors -----------------------------------------------------------------------------------------------------------


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Scores a finished run on all pairs of `data`, or again on its own test part."""
    translator = Translator.load(run)
    config = translator.config
    pairs = _parts(config, reporter).test if data is None else _read(data, config, reporter)
    if data == config.data != GENERATED:
        reporter.say(f"{data}: all pairs, those trained on too; without --data only the test part is scored")
    judged = judge(translator.translate, pairs)
    batches = PairBatches(
        pairs,
        translator.source,
        translator.target,
        tokens_per_batch=config.tokens_per_batch,
        seed=0,
        max_length=config.max_length,
        shuffle=False,
    )
    return {
        "metrics": judged.scores.metrics | {"loss": mean_loss(translator.model, batches, device=translator.device)},
        "signatures": judged.scores.signatures,
        "sentences": len(judged.sources),
        "too_long_for_loss": batches.dropped,
        "by_length": [asdict(bucket) for bucket in judged.by_length()],
    }


def predict(run: Run, data: str, out: Path, reporter: Reporter) -> Json:
    """Translates the first column of `data`; writes source TAB translation, a line for each line read."""
    translator = Translator.load(run)
    read = read_texts(find(data), normalise=translator.config.normalise)
    for skipped in read.skipped:
        reporter.say(f"{data}: skipped {skipped}")
    rows = [row for row, text in enumerate(read.texts) if text]
    translations = dict(zip(rows, translator.translate([read.texts[row] for row in rows]), strict=True))
    lines = (f"{text}\t{translations.get(row, '')}\n" for row, text in enumerate(read.texts))
    files.write_text(out, "".join(lines))
    return {"sentences": len(rows), "out": str(out)}


def show(run: Run, text: str, *, layer: int | None = None, head: int | None = None) -> Shown:
    """Translates `text` and shows what each word said attended to: of one layer or head, or the mean of all."""
    translator = Translator.load(run)
    if translator.config.model == "rnn":
        raise InputError(
            "this model has no attention to show",
            expected="a run of rnn-attention or transformer",
            got="rnn",
            path=run.path,
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("the sentence is not text", expected="UTF-8", got=repr(text)) from error
    return translator.alignment(text, layer=layer, head=head)


def _telling(pairs: Sequence[Pair]) -> str:
    """The source whose length is nearest to eight words: long enough to show an order, short enough to read."""
    return min((pair.source for pair in pairs), key=lambda source: abs(len(source.split()) - 8))
