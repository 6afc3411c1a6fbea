"""Attention between images: pictures of one kind ask, others answer, by dot product or by an RBF kernel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from qkv.data import Images
from qkv.errors import InputError
from qkv.functional import kernel_attention, rbf_kernel, softmax_attention

Attend = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
FORMS = ("raw", "dot", "scaled", "rbf")
_BATCH = 50


@dataclass(frozen=True)
class Draw:
    """One source image and one target of each class, in the order of classes; pixels between 0 and 1."""

    source: Float64[Tensor, "*draws classes pixels"]
    target: Float64[Tensor, "*draws classes pixels"]


def draw(sources: Images, targets: Images, count: int, generator: torch.Generator) -> Draw:
    """`count` draws of a source and a target for each class of `sources`; where both are one set, another image.

    Raises:
        InputError: images of different sizes, or a class with too few.
    """
    if sources.size != targets.size:
        raise InputError(
            "source and target images differ in size",
            expected="images of {} x {} pixels, as the sources are".format(*sources.size),
            got="{} x {}".format(*targets.size),
        )
    chosen = []
    for label in sorted(set(sources.labels.tolist())):
        own, others = (torch.from_numpy((images.labels == label).nonzero()[0]) for images in (sources, targets))
        fewest = 2 if sources is targets else 1
        if min(len(own), len(others)) < fewest:
            raise InputError(
                f"class {label} has too few images", expected=f"{fewest} or more", got=f"{min(len(own), len(others))}"
            )
        first = torch.randint(len(own), (count,), generator=generator)
        second = torch.randint(len(others) - (fewest - 1), (count,), generator=generator)
        if sources is targets:
            second += second >= first  # any but the first
        chosen.append((own[first], others[second]))
    source_rows, target_rows = (torch.stack(rows, dim=1) for rows in zip(*chosen, strict=True))
    return Draw(_pixels(sources, source_rows), _pixels(targets, target_rows))


def _pixels(images: Images, rows: Tensor) -> Tensor:
    return torch.from_numpy(images.pixels[rows.numpy()]).flatten(-2).double() / images.full


def forms(full: int, pixels: int, sigma: float) -> Mapping[str, Attend]:
    """Outputs and weights of each form for targets and sources whose pixels are between 0 and 1.

    `raw` is the dot product of pixels as files have them, from 0 to `full`: a scale of `full` squared.
    """

    return {"raw": dot(float(full**2)), "dot": dot(1.0), "scaled": dot(pixels**-0.5), "rbf": rbf(sigma)}


def dot(scale: float) -> Attend:
    """Attention by `exp(scale * x . y)`."""

    def attend(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        output, weights = softmax_attention(target, source, source, scale=scale, need_weights=True)
        assert weights is not None
        return output, weights

    return attend


def rbf(sigma: float) -> Attend:
    """Attention by `exp(-|x - y|^2 / sigma^2)`."""

    def attend(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        output, weights = kernel_attention(target, source, source, rbf_kernel(sigma), need_weights=True)
        assert weights is not None
        return output, weights

    return attend


def entropy(weights: Float64[Tensor, "*draws queries keys"]) -> float:
    """The mean entropy of a row, in nats."""
    return abs(float(torch.special.entr(weights).sum(dim=-1).mean()))


def distance(drawn: Draw) -> float:
    """The median distance between a target and a source."""
    return float(torch.cdist(drawn.target, drawn.source).median())


@dataclass(frozen=True)
class Seen:
    """What one form shows over many draws.

    Attributes:
        form: its name.
        hits: for each draw, the share of targets whose strongest source is of their class.
        brightest: the share of targets whose strongest source is the one of the largest norm.
        entropy: of a row, the mean in nats.
        largest: the largest weight of a row, the mean.
    """

    form: str
    hits: Sequence[float]
    brightest: float
    entropy: float
    largest: float


def look(drawn: Draw, ways: Mapping[str, Attend]) -> list[Seen]:
    """Each form over all draws, some of them at a time."""
    found = []
    for name, attend in ways.items():
        weights = torch.cat([
            attend(target, source)[1]
            for target, source in zip(drawn.target.split(_BATCH), drawn.source.split(_BATCH), strict=True)
        ])  # fmt: skip
        strongest = weights.argmax(dim=-1)
        right = strongest == torch.arange(weights.shape[-1])
        brightest = strongest == drawn.source.norm(dim=-1).argmax(dim=-1, keepdim=True)
        found.append(
            Seen(
                name,
                right.double().mean(dim=-1).tolist(),
                float(brightest.double().mean()),
                entropy(weights),
                float(weights.amax(dim=-1).mean()),
            )
        )
    return found
