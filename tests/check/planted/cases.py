"""Derivations with parameters and data: several sizes, types, slopes, and entries that lie on a kink."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tests.check.planted import derivations as d
from tests.check.planted.derivations import Array, Gradients

Function = Callable[[dict[str, Array]], tuple[Any, Gradients]]


@dataclass(frozen=True)
class Case:
    """A derivation, the parameters that it is looked at with, and data.

    Attributes:
        throughout: whether it computes in float32 whatever parameters come in.
    """

    name: str
    derivation: Callable[..., tuple[Any, Gradients]]
    parameters: dict[str, Array]
    data: dict[str, Any]
    throughout: bool = False

    def function(self, parameters: dict[str, Array]) -> tuple[Any, Gradients]:
        """The loss and the gradients, by the derivation as it stands."""
        return self.run(self.derivation, parameters)

    def run(self, derivation: Callable[..., tuple[Any, Gradients]], parameters: dict[str, Array]):
        """The same by another derivation of the same names."""
        if self.throughout:
            parameters = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
        return derivation(**parameters, **self.data)

    def single(self, *, throughout: bool = False) -> "Case":
        """This case in float32: what it holds, or all that it computes too."""
        name = f"{self.name}, float32{' throughout' * throughout}"
        return replace(
            self, name=name, parameters=_single(self.parameters), data=_single(self.data), throughout=throughout
        )


def _single(arrays: dict[str, Any]) -> dict[str, Any]:
    floats = {name: value for name, value in arrays.items() if getattr(value, "dtype", None) == np.float64}
    return arrays | {name: value.astype(np.float32) for name, value in floats.items()}


def _drawn(rng: np.random.Generator, **shapes: int | tuple[int, ...]) -> dict[str, Array]:
    return {name: 0.7 * rng.standard_normal(shape) for name, shape in shapes.items()}


def window(rng: np.random.Generator, *, batch=11, places=2, vocab=5, dim=3, units=7) -> Case:
    parameters = _drawn(
        rng, embedding=(vocab, dim), w1=(units, places * dim), b1=units, w2=(places * vocab, units), b2=places * vocab
    )
    hidden = np.arange(places) == rng.integers(places, size=(batch, 1))
    ids = rng.integers(1, vocab - 1, size=(batch, places))  # the last word is in no row
    return Case("window", d.window, parameters, {"ids": ids, "hidden": hidden})


def lstm(rng: np.random.Generator, *, steps=2, batch=5, inputs=7, units=3) -> Case:
    parameters = _drawn(
        rng, weight_ih=(4 * units, inputs), weight_hh=(4 * units, units), bias=4 * units, h0=units, c0=units
    )
    data = _drawn(rng, x=(steps, batch, inputs), target=(steps, batch, units))
    return Case("lstm", d.lstm, parameters, data)


def attention(rng: np.random.Generator, *, batch=2, length=5, width=3, dim=7) -> Case:
    parameters = _drawn(
        rng, x=(batch, length, width), wq=(width, dim), wk=(width, dim), wv=(width, dim), wo=(dim, width)
    )
    real = np.arange(length) < rng.integers(2, length, size=(batch, 1))
    data = {"real": real, "allowed": np.tri(length, dtype=bool) & real[:, None, :]}
    return Case("attention", d.attention, parameters, data | _drawn(rng, target=(batch, length, width)))


SLOPES = {
    "tanh": (np.tanh, d.tanh_slope),
    "relu": (d.relu, d.relu_slope),
    "hard tanh": (d.hard_tanh, d.hard_tanh_slope),
}


def layer_norm(
    rng: np.random.Generator, kind: str = "tanh", *, batch=5, inputs=3, units=7, labels=2, kinked: bool = False
) -> Case:
    parameters = _drawn(rng, w1=(units, inputs), b1=units, gamma=units, beta=units, w2=(labels, units), b2=labels)
    if kinked:  # the first unit is 0 or 1 whatever comes in
        parameters["gamma"][0], parameters["beta"][0] = 0, float(kind == "hard tanh")
    activation, slope = SLOPES[kind]
    data = {"x": rng.standard_normal((batch, inputs)), "labels": rng.integers(labels, size=batch)}
    return Case(f"layer norm, {kind}", d.layer_norm, parameters, data | {"activation": activation, "slope": slope})


def convolution(
    rng: np.random.Generator,
    *,
    batch=3,
    channels=2,
    size=(4, 3),
    maps=5,
    kernel=(3, 2),
    outputs=2,
    kinked: bool = False,
) -> Case:
    shapes = {"filters": (maps, channels, *kernel), "bias": maps, "weight": (outputs, maps)}
    parameters = _drawn(rng, images=(batch, channels, *size), **shapes)
    if kinked:
        parameters["filters"][0], parameters["bias"][0] = 0, 0
    data = _drawn(rng, target=(batch, outputs)) | {"stride": 2, "padding": 1}
    return Case("convolution", d.convolution, parameters, data)


def max_pooling(
    rng: np.random.Generator,
    *,
    batch=5,
    channels=2,
    size=(7, 5),
    maps=3,
    kernel=(3, 2),
    outputs=2,
    kinked: bool = False,
) -> Case:
    parameters = _drawn(rng, filters=(maps, channels, *kernel), bias=maps, weight=(outputs, maps))
    if kinked:  # the first map is the same everywhere
        parameters["filters"][0] = 0
    data = _drawn(rng, images=(batch, channels, *size), target=(batch, outputs)) | {"stride": 2}
    return Case("max pooling", d.max_pooling, parameters, data)


def _square(make: Callable[..., Case], **sizes: Any) -> Callable[..., Case]:
    def made(rng: np.random.Generator, *arguments: Any, **options: Any) -> Case:
        case = make(rng, *arguments, **sizes, **options)
        return replace(case, name=f"{case.name}, square")

    return made


PRIME = [window, lstm, attention, layer_norm, convolution, max_pooling]
SQUARE = [
    _square(window, batch=8, places=2, vocab=4, dim=4, units=8),
    _square(lstm, steps=2, batch=3, inputs=3, units=3),
    _square(attention, batch=3, length=3, width=3, dim=3),
    _square(layer_norm, batch=5, inputs=5, units=5, labels=5),
    _square(convolution, batch=2, channels=2, size=(4, 4), maps=2, kernel=(2, 2), outputs=2),
    _square(max_pooling, batch=2, channels=2, size=(5, 5), maps=2, kernel=(2, 2), outputs=2),
]
"""The sizes at which an array that is transposed, or stands for another, still fits."""


def every() -> list[Case]:
    """A case of each derivation in either kind of sizes: what mistakes are planted in."""
    makes = [*PRIME, *SQUARE[:3], partial(SQUARE[3], kind="relu"), *SQUARE[4:]]
    return [make(np.random.default_rng(seed)) for seed, make in enumerate(makes)]


def right() -> list[Case]:
    """Sixty cases whose gradients are right, in twelve of which entries lie on a kink."""
    smooth = [*PRIME[:3], *SQUARE[:3], *(partial(make, kind="tanh") for make in (PRIME[3], SQUARE[3]))]
    bent = [partial(make, kind=kind) for make in (PRIME[3], SQUARE[3]) for kind in ("relu", "hard tanh")]
    bent += [*PRIME[4:], *SQUARE[4:]]
    on_a_kink = [partial(layer_norm, kind=kind, kinked=True) for kind in ("relu", "hard tanh")]
    on_a_kink += [partial(make, kinked=True) for make in (convolution, max_pooling)]
    made = []
    for seed, make in enumerate([*smooth, *bent, *on_a_kink]):
        case = make(np.random.default_rng(seed))
        case = replace(case, name=f"{case.name}, {seed}")
        made += [case, case.single(), case.single(throughout=True)]
    return made
