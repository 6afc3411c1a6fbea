"""Classification of images with a Transformer encoder whose tokens are patches."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.models.image_cnn import log_probabilities
from qkv.models.transformer_stack import StreamConfig, glorot, pre_norm_encoder
from qkv.nn import Dropout, LearnedPositions
from qkv.trace import scope
from qkv.types import ImageBatch


class PatchTransformerConfig(StreamConfig):
    """Sizes of the Transformer over patches."""

    embed_dim: PositiveInt = 64
    """Width of the residual stream."""
    patch: PositiveInt = 4
    """Height and width of a patch."""
    feedforward_dim: PositiveInt = 128
    """Hidden width of the feed-forward blocks."""
    num_layers: PositiveInt = 4
    """Layers on top of each other."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embedded patches and on the output of every block."""


class PatchTransformer(nn.Module):
    """The Vision Transformer (Dosovitskiy et al. 2021, eq. 1 to 4), pre-norm: patches as tokens behind one that stands
    for the class, whose last state tells it.

    Args:
        config: sizes.
        classes: how many there are.
        size: height and width of the images.

    Raises:
        InputError: patches that do not fill the image.

    >>> model = PatchTransformer(PatchTransformerConfig(embed_dim=8, num_heads=2, patch=2), classes=3, size=4)
    >>> model(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, config: PatchTransformerConfig, classes: int, size: int):
        super().__init__()
        if size % config.patch:
            raise InputError(
                "the patches do not fill the image",
                expected=f"--transformer.patch that divides {size}",
                got=str(config.patch),
            )
        self.side, self.patch = size // config.patch, config.patch
        self.embedding = nn.Linear(config.patch**2, config.embed_dim)
        self.class_token = nn.Parameter(torch.empty(config.embed_dim).normal_(std=0.02))
        self.positions = LearnedPositions(1 + self.side**2, config.embed_dim)
        self.dropout = Dropout(config.dropout)
        self.encoder = pre_norm_encoder(config, config.feedforward_dim, config.num_layers, config.dropout)
        self.output = nn.Linear(config.embed_dim, classes)
        glorot(self.encoder.parameters())

    def forward(self, pixels: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch classes"]:
        """Logarithms of the probabilities of each class."""
        patches = F.unfold(pixels, self.patch, stride=self.patch).transpose(1, 2)
        first = self.class_token.expand(len(pixels), 1, -1)
        tokens = self.positions(torch.cat((first, self.embedding(patches)), dim=1))
        with scope("encoder"):
            states = self.encoder(self.dropout(tokens))
        return log_probabilities(self.output(states[:, 0]))

    def loss(self, batch: ImageBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.nll_loss(self(batch.pixels), batch.label)
