"""A published encoder in our own layers: BERT (Devlin et al. 2019) and those built like it, read from a folder.

The folder holds `config.json`, `tokenizer.json` and `model.safetensors`, as the library `transformers` writes them.
Nothing is unpickled, and nothing in the folder is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict, Field, PositiveInt, ValidationError, model_validator
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

from qkv import files
from qkv.errors import DataError, InputError
from qkv.functional import padding_mask
from qkv.nn import Dropout, LearnedPositions, TokenEmbedding, TransformerEncoder, TransformerEncoderLayer
from qkv.trace import scope
from qkv.types import Config

CONFIG, TOKENS, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"

_ACTIVATIONS: dict[str, Any] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}

# Our parameters, and what a folder calls them: {i} counts layers, {part} is weight or bias. Ours packs queries, keys
# and values into one matrix.
_NAMES = {
    "token_embedding.weight": ["embeddings.word_embeddings.weight"],
    "positions.weight": ["embeddings.position_embeddings.weight"],
    "type_embedding.weight": ["embeddings.token_type_embeddings.weight"],
    "norm.{part}": ["embeddings.LayerNorm.{part}"],
    "encoder.layers.{i}.self_attn.in_proj_{part}": [
        "encoder.layer.{i}.attention.self.query.{part}",
        "encoder.layer.{i}.attention.self.key.{part}",
        "encoder.layer.{i}.attention.self.value.{part}",
    ],
    "encoder.layers.{i}.self_attn.out_proj.{part}": ["encoder.layer.{i}.attention.output.dense.{part}"],
    "encoder.layers.{i}.norm1.{part}": ["encoder.layer.{i}.attention.output.LayerNorm.{part}"],
    "encoder.layers.{i}.linear1.{part}": ["encoder.layer.{i}.intermediate.dense.{part}"],
    "encoder.layers.{i}.linear2.{part}": ["encoder.layer.{i}.output.dense.{part}"],
    "encoder.layers.{i}.norm2.{part}": ["encoder.layer.{i}.output.LayerNorm.{part}"],
}


class BertConfig(Config):
    """Sizes of the encoder, under the names of a folder's `config.json`; what else that says is not needed here."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["bert", "roberta", "xlm-roberta", "camembert"] = "bert"
    """RoBERTa and its kin differ from BERT in their tokens, and in where positions start."""
    vocab_size: PositiveInt
    """How many tokens."""
    hidden_size: PositiveInt
    """The width."""
    num_hidden_layers: PositiveInt
    """Layers."""
    num_attention_heads: PositiveInt
    """Heads of each; they share the width."""
    intermediate_size: PositiveInt
    """Hidden width of the feed-forward blocks."""
    max_position_embeddings: PositiveInt
    """Rows of the table of positions."""
    type_vocab_size: PositiveInt = 2
    """Kinds of token: of the first text, of the second."""
    pad_token_id: int = Field(default=0, ge=0)
    """The id of padding."""
    hidden_act: Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"] = "gelu"
    """Between the two maps of a feed-forward block."""
    layer_norm_eps: float = Field(default=1e-12, gt=0)
    """What the norms add to the variance."""
    hidden_dropout_prob: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on the output of every block."""
    attention_probs_dropout_prob: float = Field(default=0.1, ge=0, lt=1)
    """On attention weights."""
    position_embedding_type: Literal["absolute"] = "absolute"
    """A vector for each place; relative positions are another model."""
    is_decoder: Literal[False] = False
    """Whether no token sees a later one; a decoder is another model."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "BertConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("num_attention_heads that divides hidden_size")
        if self.max_length < 1:
            raise ValueError("max_position_embeddings with room for a position")
        return self

    @property
    def first_position(self) -> int:
        """The row of the first position: RoBERTa counts on from the id of padding."""
        return 0 if self.model_type == "bert" else self.pad_token_id + 1

    @property
    def max_length(self) -> int:
        """The most tokens that there are positions for."""
        return self.max_position_embeddings - self.first_position

    @classmethod
    def from_folder(cls, path: str | Path) -> "BertConfig":
        """What the `config.json` of a folder says.

        Raises:
            DataError: there is none, or it is that of another kind of model.
        """
        path = Path(path) / CONFIG
        document = files.read_json(path)
        if not isinstance(document, dict) or "model_type" not in document:
            raise DataError("not the configuration of a model", expected="an object with model_type", path=path)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise _refused(error, path) from error


def _refused(error: ValidationError, path: Path) -> DataError:
    """What is wrong with the first field that pydantic refused."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return DataError(f"it has no {field}", expected="the configuration of a BERT", path=path)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if not field:  # a rule over several fields
        return DataError("its sizes do not fit together", expected=expected, path=path)
    return DataError(
        f"{field} is not one that this encoder has", expected=expected, got=repr(first["input"]), path=path
    )


@dataclass(frozen=True)
class BertBatch:
    """Texts as a BERT reads them, padded at the end.

    `types` tells the second text of a pair from the first, `real` is True where there is no padding, and `special`
    at the tokens that stand for none of the text: start, separators, padding. `tokens` are the real ones, to read.
    """

    ids: Int[Tensor, "batch length"]
    real: Bool[Tensor, "batch length"]
    types: Int[Tensor, "batch length"]
    special: Bool[Tensor, "batch length"]
    tokens: Sequence[Sequence[str]]

    def to(self, device: torch.device | str) -> "BertBatch":
        return type(self)(
            self.ids.to(device), self.real.to(device), self.types.to(device), self.special.to(device), self.tokens
        )


class BertTokens:
    """The tokens of a published encoder: text to ids, one text or a pair at a time, whole.

    >>> from tokenizers import models, pre_tokenizers
    >>> tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "the": 1, "other": 2, "bank": 3}))
    >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> sizes = {"vocab_size": 4, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> config = BertConfig(**sizes, intermediate_size=11, max_position_embeddings=7)
    >>> batch = BertTokens(tokenizer, config)(["the bank", "the other bank"])
    >>> batch.ids.tolist(), batch.tokens[0]
    ([[1, 3, 0], [1, 2, 3]], ['the', 'bank'])
    """

    def __init__(self, tokenizer: Tokenizer, config: BertConfig):
        # Folders often carry the limits of whoever trained them: texts would be cut, and padded, without a word.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._config = tokenizer, config

    @classmethod
    def from_folder(cls, path: str | Path) -> "BertTokens":
        """The tokens of a folder, by its `tokenizer.json`.

        Raises:
            DataError: a file is missing or damaged, or has more tokens than the model.
        """
        config, path = BertConfig.from_folder(path), files.require_file(Path(path) / TOKENS)
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises the bare class
            raise DataError(f"not a tokenizer, or a damaged one ({error})", path=path) from error
        largest = max(tokenizer.get_vocab().values(), default=0)
        if largest >= config.vocab_size:
            raise DataError(
                f"the tokens are not those of {CONFIG}",
                expected=f"ids below {config.vocab_size}",
                got=str(largest),
                path=path,
            )
        return cls(tokenizer, config)

    def __call__(self, texts: Sequence[str | tuple[str, str]]) -> BertBatch:
        """The texts, or pairs of texts, as one batch.

        Raises:
            InputError: no text, one that is not UTF-8, or one with more tokens than the model has positions.
        """
        if not texts:
            raise InputError("there is no text to read", expected="at least one")
        encodings = [self._encode(text) for text in texts]
        length = max(len(encoding) for encoding in encodings)
        for encoding in encodings:
            encoding.pad(length, pad_id=self._config.pad_token_id)

        def stacked(field: str) -> Tensor:
            return torch.tensor([getattr(encoding, field) for encoding in encodings])

        real = stacked("attention_mask").bool()
        tokens = [encoding.tokens[:count] for encoding, count in zip(encodings, real.sum(dim=1).tolist(), strict=True)]
        types = stacked("type_ids").clamp(max=self._config.type_vocab_size - 1)  # RoBERTa's are all of one kind
        return BertBatch(stacked("ids"), real, types, stacked("special_tokens_mask").bool(), tokens)

    def ids(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """The ids of each text; of one with more than `max_length`, the first of them, and the separator at its end."""
        most = min(max_length, self._config.max_length)
        found = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        return [ids if len(ids) <= most else [*ids[: most - 1], ids[-1]] for ids in found]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens of ids, to read."""
        return [self._tokenizer.id_to_token(i) or "" for i in ids]

    @property
    def pad_id(self) -> int:
        """The id of padding."""
        return self._config.pad_token_id

    @property
    def mask_id(self) -> int:
        """The id of the token that stands for a hidden one.

        Raises:
            InputError: there is none.
        """
        for mask in ("[MASK]", "<mask>"):
            if (found := self._tokenizer.token_to_id(mask)) is not None:
                return found
        raise InputError("the encoder has no token for a hidden one", expected="[MASK] or <mask>")

    @property
    def mark_ids(self) -> tuple[int, ...]:
        """The ids of tokens that stand for no word of a text: start, separators, padding, the mask, the unknown."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(i for i, token in added.items() if token.special)

    def _encode(self, text: str | tuple[str, str]) -> Encoding:
        first, second = (text, None) if isinstance(text, str) else text
        try:
            f"{first}{second}".encode()
        except UnicodeEncodeError as error:
            raise InputError("the sentence is not text", expected="UTF-8", got=repr(text)) from error
        encoding = self._tokenizer.encode(first, second)
        if len(encoding) > self._config.max_length:
            raise InputError(
                "the text is too long for this model",
                expected=f"at most {self._config.max_length} tokens, start and separators included",
                got=str(len(encoding)),
                hint="a shorter text, or a part of it",
            )
        return encoding


class BertEncoder(nn.Module):
    """The encoder of Devlin et al. (2019): embedded tokens, places and types, then post-norm Transformer layers.

    Args:
        config: sizes.

    >>> sizes = {"vocab_size": 5, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> encoder = BertEncoder(BertConfig(**sizes, intermediate_size=11, max_position_embeddings=7))
    >>> encoder(torch.tensor([[1, 4, 2]])).shape
    torch.Size([1, 3, 6])
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.token_embedding = TokenEmbedding(config.vocab_size, width, config.pad_token_id)
        self.positions = LearnedPositions(config.max_length, width)
        self.type_embedding = TokenEmbedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        layer = TransformerEncoderLayer(
            width,
            config.num_attention_heads,
            config.intermediate_size,
            config.hidden_dropout_prob,
            _ACTIVATIONS[config.hidden_act],
            config.layer_norm_eps,
            attention_dropout=config.attention_probs_dropout_prob,
        )
        self.encoder = TransformerEncoder(layer, config.num_hidden_layers)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)  # section A.2; the stack holds copies of one layer until here

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
        types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length embed_dim"]:
        """The output of the last layer.

        Args:
            ids: the tokens.
            real: True where there is no padding; all are real where left out.
            types: 0 in the first text of a pair, 1 in the second; all 0 where left out.

        Raises:
            InputError: more tokens than positions.
        """
        types = torch.zeros_like(ids) if types is None else types
        embedded = self.positions(self.token_embedding(ids) + self.type_embedding(types))
        with scope("encoder"):
            return self.encoder(self.dropout(self.norm(embedded)), mask=None if real is None else padding_mask(real))

    @classmethod
    def from_folder(cls, path: str | Path) -> "BertEncoder":
        """The encoder of a folder, in single precision, in evaluation mode.

        BERT, RoBERTa, XLM-RoBERTa and CamemBERT are read, whatever head they were trained with; the head itself, and
        BERT's pooler, are left out.

        Raises:
            DataError: a file is missing or damaged, the model is of another kind, or its weights do not fit its sizes.
        """
        config, path = BertConfig.from_folder(path), _weights_file(Path(path))
        tensors = _without_head(files.read_tensors(path))
        with torch.device("meta"):  # the tensors of the file become the parameters
            encoder = cls(config)
        encoder.load_state_dict(_state(tensors, encoder, path), assign=True)
        return encoder.eval()


def _weights_file(folder: Path) -> Path:
    if not (folder / WEIGHTS).exists() and (folder / "pytorch_model.bin").exists():
        raise DataError(
            "the weights are pickled, and reading a pickle can run anything",
            expected=WEIGHTS,
            got="pytorch_model.bin",
            hint="save_pretrained, with the library that wrote it",
            path=folder,
        )
    return files.require_file(folder / WEIGHTS)


def _without_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's own tensors: what a model with a head calls `bert.encoder...` is `encoder...` here."""
    first = "embeddings.word_embeddings.weight"
    prefix = next((name.removesuffix(first) for name in tensors if name.endswith(first)), "")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    spelled = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # by the first of them
    for old, new in spelled.items():
        own = {name.replace(old, new): tensor for name, tensor in own.items()}
    parts = ("embeddings.", "encoder.")
    buffers = ("embeddings.position_ids", "embeddings.token_type_ids")
    return {name: tensor for name, tensor in own.items() if name.startswith(parts) and name not in buffers}


def _state(tensors: dict[str, Tensor], encoder: BertEncoder, path: Path) -> dict[str, Tensor]:
    """The tensors of a file under our own names, all of them used."""
    config = encoder.config
    names = {
        ours.format(i=i, part=part): [name.format(i=i, part=part) for name in theirs]
        for ours, theirs in _NAMES.items()
        for i in range(config.num_hidden_layers)
        for part in ("weight", "bias")
    }
    needed = {name for theirs in names.values() for name in theirs}
    if tensors.keys() != needed:
        missing, left = sorted(needed - tensors.keys()), sorted(tensors.keys() - needed)
        told = [f"no {name}" for name in missing[:1]] + [f"{name}, which is none of them" for name in left[:1]]
        expected = f"those of {config.num_hidden_layers} layers of a BERT"
        raise DataError(f"the weights are not those of {CONFIG}", expected=expected, got=" and ".join(told), path=path)
    state = {}
    for ours, room in encoder.state_dict().items():
        weight = torch.cat([tensors[name].float() for name in names[ours]])
        if ours == "positions.weight":
            weight = weight[config.first_position :].clone()
        if weight.shape != room.shape:
            raise DataError(
                f"the weights are not those of {CONFIG}",
                expected=f"{names[ours][0]} to make {tuple(room.shape)}",
                got=f"{tuple(weight.shape)}",
                path=path,
            )
        state[ours] = weight
    return state
