"""What models read, as plain data: the Batch family. Each knows its fields, how much it weighs, and how to move."""

from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

Own = TypeVar("Own", bound="Tensors")


class Tensors:
    """Of dataclasses whose fields are all tensors; `unit` is what `tokens` counts."""

    unit: ClassVar[str] = "tokens"

    def to(self: Own, device: torch.device | str) -> Own:
        """The same on another device."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))  # pyright: ignore


@dataclass(frozen=True)
class PairBatch(Tensors):
    """Sentence pairs as ids, padded at the end.

    `source` holds `tokens... eos`; `target` holds `bos tokens... eos`, so that the model reads `target[:, :-1]`
    and predicts `target[:, 1:]`. The masks are True at real positions.
    """

    source: Int[Tensor, "batch source_length"]
    source_mask: Bool[Tensor, "batch source_length"]
    target: Int[Tensor, "batch target_length"]
    target_mask: Bool[Tensor, "batch target_length"]

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over: its target tokens, end of sentence included."""
        return int(self.target_mask[:, 1:].sum())

    @property
    def tokens(self) -> int:
        """Real tokens on both sides, padding and the target's start left out: the unit of training speed."""
        return int(self.source_mask.sum()) + self.weight


@dataclass(frozen=True)
class TextBatch(Tensors):
    """Texts as ids, padded at the end, and the class of each, or how likely each class is to be. `real` is True where
    there is no padding."""

    ids: Int64[Tensor, "batch length"]
    real: Bool[Tensor, "batch length"]
    label: Int64[Tensor, " batch"] | Float32[Tensor, "batch classes"]

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over: one a text."""
        return len(self.label)

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out: the unit of training speed."""
        return int(self.real.sum())


@dataclass(frozen=True)
class ImageBatch(Tensors):
    """Grey images as a network reads them, and the class of each."""

    unit: ClassVar[str] = "images"

    pixels: Float[Tensor, "batch 1 height width"]
    label: Int64[Tensor, " batch"]

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over: one an image."""
        return len(self.label)

    @property
    def tokens(self) -> int:
        """Images: the unit of training speed."""
        return len(self.label)


@dataclass(frozen=True)
class SpeechBatch(Tensors):
    """Recordings as log-mel frames with their transcripts as ids, both padded at the end.

    `target` holds `bos tokens... eos`, as in `PairBatch`. The masks are True at real positions.
    """

    unit: ClassVar[str] = "frames"

    log_mel: Float[Tensor, "batch frames mels"]
    log_mel_mask: Bool[Tensor, "batch frames"]
    target: Int[Tensor, "batch target_length"]
    target_mask: Bool[Tensor, "batch target_length"]

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over: its target tokens, end of text included."""
        return int(self.target_mask[:, 1:].sum())

    @property
    def tokens(self) -> int:
        """Real frames, padding left out: the unit of training speed."""
        return int(self.log_mel_mask.sum())


MASK_ID = 0
"""The index of the mask, in vocabularies that have one."""


@dataclass(frozen=True)
class NGramBatch(Tensors):
    """Runs of `n` words as they stand in the text, and which of them are to be predicted from the others.

    What a network reads has the mask in the place of a hidden word.
    """

    ids: Int64[Tensor, "batch n"]
    hidden: Bool[Tensor, "batch n"]

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over."""
        return int(self.hidden.sum())

    @property
    def tokens(self) -> int:
        """Words, the hidden ones among them: the unit of training speed."""
        return self.ids.numel()
